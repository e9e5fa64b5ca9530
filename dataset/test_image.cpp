// Decodes, scales and cuts images for testing.
#include "dataset/test_image.h"

#include <algorithm>

#include "common/check.h"
#include "dataset/augment.h"
#include "dataset/raw_pixels.h"

namespace plateau {

Rectangle MiddleCrop(const ImageSize& scaled, int crop) {
  Preprocessing preprocessing;
  preprocessing.scale_low = std::min(scaled.width, scaled.height);
  preprocessing.crop = crop;
  const Augmentation middle = CentreCrop(preprocessing, scaled.width, scaled.height);
  return {middle.left, middle.top, crop, crop};
}

std::array<Rectangle, kGridSide * kGridSide> GridCrops(const ImageSize& scaled, int crop) {
  const auto place = [crop](int side, int i) { return (i * (side - crop) + (kGridSide - 1) / 2) / (kGridSide - 1); };
  std::array<Rectangle, kGridSide * kGridSide> crops;
  for (int i = 0; i < static_cast<int>(crops.size()); ++i)
    crops[static_cast<size_t>(i)] = {place(scaled.width, i % kGridSide), place(scaled.height, i / kGridSide), crop, crop};
  return crops;
}

PixelScale TestScale(const Preprocessing& preprocessing) {
  PixelScale scale;
  for (size_t c = 0; c < 3; ++c) {
    scale.gain[c] = 1.0F / preprocessing.standard_deviation[c];
    scale.offset[c] = -preprocessing.mean[c] * scale.gain[c];
  }
  return scale;
}

Status TestImage::Decode(const RecordView& record) {
  const RecordHeader& header = record.header;
  if (header.encoding == Encoding::kRaw8) return ExpandRaw(header, record.bytes, pixels_);
  PLATEAU_TRY(decoder_.DecodeFull(record.bytes, pixels_));
  if (pixels_.width != static_cast<int>(header.width) || pixels_.height != static_cast<int>(header.height))
    return Fail(ErrorCode::kCorrupt, "it has {} x {} pixels, its record says {} x {}", pixels_.width, pixels_.height, header.width,
                header.height);
  return {};
}

void TestImage::Render(int scale, const Rectangle& window, float* out) {
  MakeFilters(scale, window);
  const PixelScale values = TestScale(preprocessing_);
  resizer_.ToPlanar(pixels_, 0, 0, columns_, rows_, preprocessing_.channels, std::to_array(values.gain),
                    std::to_array(values.offset), out);
}

void TestImage::Render(int scale, const Rectangle& window, uint8_t* out) {
  MakeFilters(scale, window);
  resizer_.ToBytes(pixels_, 0, 0, columns_, rows_, preprocessing_.channels, out);
}

void TestImage::MakeFilters(int scale, const Rectangle& window) {
  const ImageSize scaled = ScaledSize(pixels_.width, pixels_.height, scale);
  PLATEAU_CHECK(window.left >= 0 && window.top >= 0 && window.left + window.width <= scaled.width &&
                    window.top + window.height <= scaled.height,
                "{}x{} at {},{} of {}x{}", window.width, window.height, window.left, window.top, scaled.width, scaled.height);
  columns_.Make(pixels_.width, pixels_.width, scaled.width, window.left, window.width, false);
  rows_.Make(pixels_.height, pixels_.height, scaled.height, window.top, window.height, false);
}

}  // namespace plateau
