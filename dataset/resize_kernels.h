// Inner loops of resizing, chosen once for the processor; integer sums, so that every variant gives the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace plateau {

// Weights are fixed point with this many fraction bits, as in Pillow, so that rounding is the same.
constexpr int kWeightBits = 22;

// Output i of an axis is the sum over k < taps of weights[i * taps + k] * input[first[i] + k]. Every output has the same number of
// taps, so that loops unroll; where fewer are needed the last weights are 0, and what they meet may lie behind the input's end.
struct FilterTable {
  const int32_t* first;
  const int32_t* weights;
  int taps;
  int size;  // outputs
};

struct ResizeKernels {
  // One row of interleaved RGB to three planes of table.size bytes, `plane_stride` apart. `origin`: the row's first pixel is input
  // pixel `origin` of the table. The row is readable `taps` pixels and a byte behind its end.
  void (*filter_row)(const uint8_t* row, int origin, const FilterTable& table, uint8_t* planes, std::ptrdiff_t plane_stride);
  // out[x] = round(sum over k of weights[k] * rows[k][x]) * gain + offset, multiplied and added apart (not fused), x < size.
  void (*combine_rows)(const uint8_t* const* rows, const int32_t* weights, int count, int size, float gain, float offset,
                       float* out);
  // The same sums before gain and offset, as bytes.
  void (*combine_bytes)(const uint8_t* const* rows, const int32_t* weights, int count, int size, uint8_t* out);
};

const ResizeKernels& BaselineKernels();
// nullptr on a processor without AVX2.
const ResizeKernels* Avx2Kernels();
const ResizeKernels& BestKernels();

}  // namespace plateau
