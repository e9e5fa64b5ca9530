// One stored record to one normalised crop: which crop is a pure function of the random stream, how it is made is one fused pass.
#pragma once

#include <array>
#include <cstdint>

#include "common/error.h"
#include "common/pixel_scale.h"
#include "dataset/decode.h"
#include "dataset/preprocessing.h"
#include "dataset/record.h"
#include "dataset/resize.h"

namespace plateau {

// What is done to one image. The crop lies in the scaled image: shortest side `scale`, see ScaledSize.
struct Augmentation {
  int scale = 256;                // S, pixels
  int left = 0, top = 0;          // of the crop
  bool flip = false;              // left to right, after cropping
  std::array<float, 3> colour{};  // added to every pixel, RGB on the 0..255 scale
  bool operator==(const Augmentation&) const = default;
};

// Training: S uniform in [scale_low, scale_high], the crop's place uniform, flip with p 0.5, colour 255 * sum_i p_i a_i lambda_i
// with a_i ~ N(0, 0.1) (recipe.md, Training). Depends on its arguments alone. width, height: of the stored image, pixels.
Augmentation DrawAugmentation(const Preprocessing& preprocessing, uint64_t seed, uint64_t epoch, uint64_t source_ordinal, int width,
                              int height);
// Evaluation: S = scale_low, crop in the middle (halves round to even, as torchvision's CenterCrop).
Augmentation CentreCrop(const Preprocessing& preprocessing, int width, int height);

// The largest DCT denominator (8, 4, 2, 1) at which the image is not smaller than the scaled one: the filter then shrinks by a
// factor in (1/2, 1].
int TrainingDenominator(int width, int height, int scale);

// Decodes and resamples; one per thread, memory is kept.
// Training and evaluation use the same antialiased filter, so that a network is tested on images that look like those it saw.
// They differ in the decoding: training shrinks by DCT scaling first (4 to 16 times fewer pixels), evaluation never does, so that
// its input is bit for bit what Pillow and torchvision (Resize, CenterCrop) make of the same file.
class Augmenter {
 public:
  explicit Augmenter(const Preprocessing& preprocessing) : preprocessing_(preprocessing) {}
  // out [channels, crop, crop]: (pixel + colour - mean) / standard deviation. Errors say what is wrong with the image, not which it
  // is.
  Status Train(const RecordView& record, uint64_t seed, uint64_t epoch, float* out);
  Status Evaluate(const RecordView& record, float* out);
  // The same as bytes and what ToValues makes those values of: the resizer has them anyway, so nothing is lost, and a mirrored filter
  // gives what mirroring does.
  Status Train(const RecordView& record, uint64_t seed, uint64_t epoch, uint8_t* out, PixelScale& scale);
  Status Evaluate(const RecordView& record, uint8_t* out, PixelScale& scale);

 private:
  // What is to be seen of an image.
  struct View {
    ImageInfo info;
    Augmentation augmentation;
    int denominator = 1;
  };
  Result<View> TrainingView(const RecordView& record, uint64_t seed, uint64_t epoch) const;
  Result<View> EvaluationView(const RecordView& record) const;
  Status Decode(const RecordView& record, const View& view, bool mirrored);
  PixelScale ScaleOf(const Augmentation& augmentation) const;
  Status Render(const RecordView& record, const View& view, float* out);
  Status Render(const RecordView& record, const View& view, uint8_t* out, PixelScale& scale);

  Preprocessing preprocessing_;
  Decoder decoder_;
  Resizer resizer_;
  AxisFilter columns_, rows_;
  Image pixels_;             // what was decoded of the image
  int left_ = 0, top_ = 0;   // of its first pixel, in the filters' input
};

}  // namespace plateau
