// Antialiased bilinear resizing, bit for bit Pillow's, of a whole image or of a crop of the resized image.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dataset/decode.h"
#include "dataset/resize_kernels.h"

namespace plateau {

// One axis of a resize: the triangle filter of Pillow's BILINEAR, widened when shrinking (its support is the shrinking factor).
// Reuse it: memory is kept.
class AxisFilter {
 public:
  // The axis is `extent` input pixels long (a DCT-scaled image may end inside its last pixel), of which `pixels` = ceil(extent)
  // exist, and is resized to `target` pixels; outputs are the target pixels [begin, begin + count), last first when mirrored.
  void Make(double extent, int pixels, int target, int begin, int count, bool mirrored);
  FilterTable table() const;
  int input_begin() const { return input_begin_; }  // input pixels [input_begin, input_end) are read
  int input_end() const { return input_end_; }

 private:
  void Pack(int most);

  std::vector<int32_t> first_, weights_, wide_;
  std::vector<double> triangle_;
  int taps_ = 0, input_begin_ = 0, input_end_ = 0;
};

// One per thread: scratch rows.
class Resizer {
 public:
  explicit Resizer(const ResizeKernels& kernels = BestKernels()) : kernels_(kernels) {}
  // One pass over the rows of `source`, whose first pixel is pixel (left, top) of the filters' input. Values are rounded to bytes
  // after the columns and after the rows, as Pillow does; then out[c][y][x] = value * gain[c] + offset[c].
  // out [channels, rows.size, columns.size]: the first 1 to 3 of the three.
  void ToPlanar(const Image& source, int left, int top, const AxisFilter& columns, const AxisFilter& rows, int channels,
                const std::array<float, 3>& gain, const std::array<float, 3>& offset, float* out);
  // The bytes themselves.
  void ToBytes(const Image& source, int left, int top, const AxisFilter& columns, const AxisFilter& rows, int channels,
               uint8_t* out);
  // The whole image at width x height.
  void ToImage(const Image& source, int width, int height, Image& out);

 private:
  template <typename Combine, typename Done>
  void Run(const Image& source, int left, int top, const AxisFilter& columns, const AxisFilter& rows, int channels,
           const Combine& combine, const Done& done);

  ResizeKernels kernels_;
  std::vector<uint8_t> ring_;      // [slot, 3, stride]: rows whose columns are filtered
  std::vector<uint8_t> last_row_;  // the image's last row with room behind it for taps of weight 0
  std::vector<const uint8_t*> taps_;
  std::vector<uint8_t> line_;  // [3, width]
  AxisFilter columns_, rows_;
};

// Resized so that the shortest side is `shortest`: the other side is truncated to whole pixels, as torchvision does.
struct ImageSize {
  int width = 0, height = 0;
};
ImageSize ScaledSize(int width, int height, int shortest);

}  // namespace plateau
