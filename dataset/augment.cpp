// Draws an image's augmentation and renders it: decode the needed region, then resize, flip, shift and normalise in one pass.
#include "dataset/augment.h"

#include <algorithm>

#include "common/check.h"
#include "common/random.h"
#include "dataset/raw_pixels.h"

namespace plateau {
namespace {

constexpr double kColourSigma = 0.1;
constexpr double kColourRange = 255;

// floor((size - crop) / 2 + 1/2), halves to even: Python's round() of the exact half.
int MiddleOf(int size, int crop) {
  const int spare = size - crop, half = spare / 2;
  return spare % 2 == 1 && half % 2 == 1 ? half + 1 : half;
}

Result<ImageInfo> InfoOf(const RecordView& record) {
  if (record.header.encoding != Encoding::kRaw8) return ProbeImage(record.bytes);
  if (record.header.width == 0 || record.header.height == 0) return Fail(ErrorCode::kCorrupt, "raw image without pixels");
  return ImageInfo{Encoding::kRaw8, static_cast<int>(record.header.width), static_cast<int>(record.header.height),
                   record.header.channels};
}

}  // namespace

Augmentation DrawAugmentation(const Preprocessing& preprocessing, uint64_t seed, uint64_t epoch, uint64_t source_ordinal, int width,
                              int height) {
  Augmentation out;
  RandomStream scale(seed, RandomPurpose::kScale, epoch, source_ordinal);
  out.scale = preprocessing.scale_low +
              static_cast<int>(scale.NextBelow(static_cast<uint32_t>(preprocessing.scale_high - preprocessing.scale_low + 1)));
  const ImageSize scaled = ScaledSize(width, height, out.scale);
  RandomStream crop(seed, RandomPurpose::kCrop, epoch, source_ordinal);
  out.left = static_cast<int>(crop.NextBelow(static_cast<uint32_t>(scaled.width - preprocessing.crop + 1)));
  out.top = static_cast<int>(crop.NextBelow(static_cast<uint32_t>(scaled.height - preprocessing.crop + 1)));
  out.flip = preprocessing.flip && RandomStream(seed, RandomPurpose::kFlip, epoch, source_ordinal).NextBelow(2) == 1;
  if (!preprocessing.colour) return out;
  RandomStream colour(seed, RandomPurpose::kColour, epoch, source_ordinal);
  std::array<double, 3> shift{};
  for (size_t component = 0; component < 3; ++component) {
    const double amount = kColourSigma * colour.NextNormal() * preprocessing.colour_eigenvalues[component];
    for (size_t c = 0; c < 3; ++c) shift[c] += preprocessing.colour_eigenvectors[c][component] * amount;
  }
  for (size_t c = 0; c < 3; ++c) out.colour[c] = static_cast<float>(kColourRange * shift[c]);
  return out;
}

Augmentation CentreCrop(const Preprocessing& preprocessing, int width, int height) {
  const ImageSize scaled = ScaledSize(width, height, preprocessing.scale_low);
  Augmentation out;
  out.scale = preprocessing.scale_low;
  out.left = MiddleOf(scaled.width, preprocessing.crop);
  out.top = MiddleOf(scaled.height, preprocessing.crop);
  return out;
}

int TrainingDenominator(int width, int height, int scale) {
  int denominator = 8;
  while (denominator > 1 && std::min(width, height) < denominator * scale) denominator /= 2;
  return denominator;
}

Status Augmenter::Train(const RecordView& record, uint64_t seed, uint64_t epoch, float* out) {
  PLATEAU_ASSIGN(const View view, TrainingView(record, seed, epoch));
  return Render(record, view, out);
}

Status Augmenter::Evaluate(const RecordView& record, float* out) {
  PLATEAU_ASSIGN(const View view, EvaluationView(record));
  return Render(record, view, out);
}

Status Augmenter::Train(const RecordView& record, uint64_t seed, uint64_t epoch, uint8_t* out, PixelScale& scale) {
  PLATEAU_ASSIGN(const View view, TrainingView(record, seed, epoch));
  return Render(record, view, out, scale);
}

Status Augmenter::Evaluate(const RecordView& record, uint8_t* out, PixelScale& scale) {
  PLATEAU_ASSIGN(const View view, EvaluationView(record));
  return Render(record, view, out, scale);
}

Result<Augmenter::View> Augmenter::TrainingView(const RecordView& record, uint64_t seed, uint64_t epoch) const {
  PLATEAU_ASSIGN(const ImageInfo info, InfoOf(record));
  const Augmentation drawn = DrawAugmentation(preprocessing_, seed, epoch, record.header.source_ordinal, info.width, info.height);
  const bool jpeg = info.encoding == Encoding::kJpeg;
  return View{info, drawn, jpeg ? TrainingDenominator(info.width, info.height, drawn.scale) : 1};
}

Result<Augmenter::View> Augmenter::EvaluationView(const RecordView& record) const {
  PLATEAU_ASSIGN(const ImageInfo info, InfoOf(record));
  return View{info, CentreCrop(preprocessing_, info.width, info.height), 1};
}

Status Augmenter::Render(const RecordView& record, const View& view, float* out) {
  PLATEAU_TRY(Decode(record, view, view.augmentation.flip));
  const PixelScale scale = ScaleOf(view.augmentation);
  resizer_.ToPlanar(pixels_, left_, top_, columns_, rows_, preprocessing_.channels, std::to_array(scale.gain),
                    std::to_array(scale.offset), out);
  return {};
}

Status Augmenter::Render(const RecordView& record, const View& view, uint8_t* out, PixelScale& scale) {
  PLATEAU_TRY(Decode(record, view, false));
  scale = ScaleOf(view.augmentation);
  resizer_.ToBytes(pixels_, left_, top_, columns_, rows_, preprocessing_.channels, out);
  return {};
}

PixelScale Augmenter::ScaleOf(const Augmentation& augmentation) const {
  PixelScale scale{.flip = augmentation.flip ? 1U : 0U};
  for (size_t c = 0; c < 3; ++c) {
    scale.gain[c] = 1.0F / preprocessing_.standard_deviation[c];
    scale.offset[c] = (augmentation.colour[c] - preprocessing_.mean[c]) * scale.gain[c];
  }
  return scale;
}

// Makes the filters of both axes and decodes what they read.
Status Augmenter::Decode(const RecordView& record, const View& view, bool mirrored) {
  const auto& [info, augmentation, denominator] = view;
  const ImageSize scaled = ScaledSize(info.width, info.height, augmentation.scale);
  const auto make = [&](AxisFilter& filter, int source, int target, int begin, bool backward) {
    const int pixels = (source + view.denominator - 1) / view.denominator;
    filter.Make(static_cast<double>(source) / view.denominator, pixels, target, begin, preprocessing_.crop, backward);
  };
  make(columns_, info.width, scaled.width, augmentation.left, mirrored);
  make(rows_, info.height, scaled.height, augmentation.top, false);

  Rectangle covered{0, 0, info.width, info.height};
  if (info.encoding == Encoding::kRaw8) {
    PLATEAU_TRY(ExpandRaw(record.header, record.bytes, pixels_));
  } else {
    const Rectangle needed{columns_.input_begin() * denominator, rows_.input_begin() * denominator,
                           (columns_.input_end() - columns_.input_begin()) * denominator,
                           (rows_.input_end() - rows_.input_begin()) * denominator};
    PLATEAU_ASSIGN(const int used, decoder_.DecodeRegion(record.bytes, needed, denominator, pixels_, covered));
    PLATEAU_CHECK(used == denominator, "denominator {} instead of {}", used, denominator);
  }
  left_ = covered.left / denominator;
  top_ = covered.top / denominator;
  if (columns_.input_end() > left_ + pixels_.width || rows_.input_end() > top_ + pixels_.height)
    return Fail(ErrorCode::kCorrupt, "its header says {} x {} pixels, its data holds fewer", info.width, info.height);
  return {};
}

}  // namespace plateau
