// A stored image as testing sees it: decoded once in full, then scaled, and cut, as often as wanted.
#pragma once

#include <array>

#include "common/error.h"
#include "common/pixel_scale.h"
#include "dataset/decode.h"
#include "dataset/preprocessing.h"
#include "dataset/record.h"
#include "dataset/resize.h"

namespace plateau {

// Where the crop of `crop` pixels lies in the middle of the scaled image (as CentreCrop), and the 25 of a regular 5 x 5 grid, row
// by row: the i-th of 5 places along a side is round(i * (side - crop) / 4), halves up. The scaled image is not smaller than the
// crop.
Rectangle MiddleCrop(const ImageSize& scaled, int crop);
inline constexpr int kGridSide = 5;
std::array<Rectangle, kGridSide * kGridSide> GridCrops(const ImageSize& scaled, int crop);

// What makes normalised values of bytes, without a colour shift and not mirrored.
PixelScale TestScale(const Preprocessing& preprocessing);

// One per thread; memory is kept.
class TestImage {
 public:
  explicit TestImage(const Preprocessing& preprocessing) : preprocessing_(preprocessing) {}
  // Errors say what is wrong with the image, not which it is; kCorrupt when its size is not the header's.
  Status Decode(const RecordView& record);
  // The decoded image with the shortest side `scale`, of it the pixels of `window`, normalised; the same bits as
  // Augmenter::Evaluate has. out [channels, window.height, window.width].
  void Render(int scale, const Rectangle& window, float* out);
  // The same as bytes, of which ToValues makes those values by TestScale.
  void Render(int scale, const Rectangle& window, uint8_t* out);

 private:
  void MakeFilters(int scale, const Rectangle& window);

  Preprocessing preprocessing_;
  Decoder decoder_;
  Resizer resizer_;
  AxisFilter columns_, rows_;
  Image pixels_;
};

}  // namespace plateau
