// Pillow's triangle filter in fixed point: columns first, then rows, a ring of rows between them.
#include "dataset/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"

namespace plateau {

// The order of operations in double is Pillow's (Resample.c, precompute_coeffs), so that every weight has its bits.
void AxisFilter::Make(double extent, int pixels, int target, int begin, int count, bool mirrored) {
  const double scale = extent / target;
  const double support = std::max(scale, 1.0);  // the triangle's half width is 1 input or output pixel, whichever is larger
  const double inverse = 1.0 / support;
  const int most = static_cast<int>(std::ceil(support)) * 2 + 1;
  first_.resize(static_cast<size_t>(count));
  wide_.assign(static_cast<size_t>(count) * static_cast<size_t>(most), 0);
  input_begin_ = pixels;
  input_end_ = taps_ = 0;
  for (int i = 0; i < count; ++i) {
    const auto slot = static_cast<size_t>(mirrored ? count - 1 - i : i);
    const double centre = (begin + i + 0.5) * scale;
    const int low = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int high = std::min(static_cast<int>(centre + support + 0.5), pixels);
    int32_t* const weights = wide_.data() + slot * static_cast<size_t>(most);
    triangle_.resize(static_cast<size_t>(most));
    double sum = 0;
    for (int k = 0; k < high - low; ++k) {
      triangle_[static_cast<size_t>(k)] = std::max(0.0, 1.0 - std::abs((low + k - centre + 0.5) * inverse));
      sum += triangle_[static_cast<size_t>(k)];
    }
    int taps = 1;  // up to the last weight that is not 0
    for (int k = 0; k < high - low; ++k) {
      weights[k] = static_cast<int32_t>(0.5 + triangle_[static_cast<size_t>(k)] / sum * (1 << kWeightBits));
      if (weights[k] != 0) taps = k + 1;
    }
    first_[slot] = low;
    taps_ = std::max(taps_, taps);
    input_begin_ = std::min(input_begin_, low);
    input_end_ = std::max(input_end_, low + taps);
  }
  Pack(most);
}

// Keeps the first taps_ of `most` weights an output.
void AxisFilter::Pack(int most) {
  const size_t count = first_.size(), taps = static_cast<size_t>(taps_);
  weights_.resize(count * taps);
  for (size_t i = 0; i < count; ++i) std::copy_n(wide_.data() + i * static_cast<size_t>(most), taps, weights_.data() + i * taps);
}

FilterTable AxisFilter::table() const { return {first_.data(), weights_.data(), taps_, static_cast<int>(first_.size())}; }

namespace {

// What a row is combined from.
struct RowSum {
  const uint8_t* const* rows;
  const int32_t* weights;
  int count;  // of rows
  int size;   // outputs
};

}  // namespace

// `combine(channel, y, sum)` finishes a row of a channel; `done(y)` is called behind the last channel's.
template <typename Combine, typename Done>
void Resizer::Run(const Image& source, int left, int top, const AxisFilter& columns, const AxisFilter& rows, int channels,
                  const Combine& combine, const Done& done) {
  PLATEAU_CHECK(left <= columns.input_begin() && columns.input_end() <= left + source.width, "columns {}..{} of {}+{}",
                columns.input_begin(), columns.input_end(), left, source.width);
  PLATEAU_CHECK(top <= rows.input_begin() && rows.input_end() <= top + source.height, "rows {}..{} of {}+{}", rows.input_begin(),
                rows.input_end(), top, source.height);
  const FilterTable table = rows.table(), across = columns.table();
  const size_t stride = (static_cast<size_t>(across.size) + 31) / 32 * 32;
  const int slots = table.taps + 1;
  ring_.resize(static_cast<size_t>(slots) * 3 * stride);
  taps_.resize(static_cast<size_t>(slots));
  const size_t row_bytes = size_t{3} * static_cast<size_t>(source.width);
  last_row_.resize(row_bytes + size_t{3} * static_cast<size_t>(across.taps) + 1);
  std::memcpy(last_row_.data(), source.pixels.data() + row_bytes * static_cast<size_t>(source.height - 1), row_bytes);
  const auto slot = [&](int row) { return ring_.data() + static_cast<size_t>(row % slots) * 3 * stride; };

  int next = rows.input_begin();
  for (int y = 0; y < table.size; ++y) {
    // Rows behind the input's end have weight 0; their places in the ring are not read.
    const int first = table.first[y], count = std::min(table.taps, rows.input_end() - first);
    for (; next < first + count; ++next) {
      const int row = next - top;
      const uint8_t* bytes =
          row == source.height - 1 ? last_row_.data() : source.pixels.data() + row_bytes * static_cast<size_t>(row);
      kernels_.filter_row(bytes, left, across, slot(next), static_cast<std::ptrdiff_t>(stride));
    }
    const RowSum sum{taps_.data(), table.weights + static_cast<std::ptrdiff_t>(y) * table.taps, count, across.size};
    for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
      for (int k = 0; k < count; ++k) taps_[static_cast<size_t>(k)] = slot(first + k) + c * stride;
      combine(c, y, sum);
    }
    done(y);
  }
}

void Resizer::ToPlanar(const Image& source, int left, int top, const AxisFilter& columns, const AxisFilter& rows, int channels,
                       const std::array<float, 3>& gain, const std::array<float, 3>& offset, float* out) {
  const auto width = static_cast<size_t>(columns.table().size), height = static_cast<size_t>(rows.table().size);
  const auto combine = [&](size_t channel, int y, const RowSum& sum) {
    kernels_.combine_rows(sum.rows, sum.weights, sum.count, sum.size, gain[channel], offset[channel],
                          out + (channel * height + static_cast<size_t>(y)) * width);
  };
  Run(source, left, top, columns, rows, channels, combine, [](int) {});
}

void Resizer::ToBytes(const Image& source, int left, int top, const AxisFilter& columns, const AxisFilter& rows, int channels,
                      uint8_t* out) {
  const auto width = static_cast<size_t>(columns.table().size), height = static_cast<size_t>(rows.table().size);
  const auto combine = [&](size_t channel, int y, const RowSum& sum) {
    kernels_.combine_bytes(sum.rows, sum.weights, sum.count, sum.size, out + (channel * height + static_cast<size_t>(y)) * width);
  };
  Run(source, left, top, columns, rows, channels, combine, [](int) {});
}

void Resizer::ToImage(const Image& source, int width, int height, Image& out) {
  columns_.Make(source.width, source.width, width, 0, width, false);
  rows_.Make(source.height, source.height, height, 0, height, false);
  out.width = width;
  out.height = height;
  const auto row_values = static_cast<size_t>(width);
  out.pixels.resize(3 * row_values * static_cast<size_t>(height));
  line_.resize(3 * row_values);
  const auto combine = [&](size_t channel, int, const RowSum& sum) {
    kernels_.combine_bytes(sum.rows, sum.weights, sum.count, sum.size, line_.data() + channel * row_values);
  };
  const auto interleave = [&](int y) {
    uint8_t* pixel = out.pixels.data() + 3 * row_values * static_cast<size_t>(y);
    for (size_t x = 0; x < row_values; ++x)
      for (size_t c = 0; c < 3; ++c) *pixel++ = line_[c * row_values + x];
  };
  Run(source, 0, 0, columns_, rows_, 3, combine, interleave);
}

ImageSize ScaledSize(int width, int height, int shortest) {
  const auto other = [&](int longer, int shorter) { return static_cast<int>(int64_t{shortest} * longer / shorter); };
  return width <= height ? ImageSize{shortest, other(height, width)} : ImageSize{other(width, height), shortest};
}

}  // namespace plateau
