// The inner loops of resizing, in plain C++ and for AVX2.
#include "dataset/resize_kernels.h"

#include <cstring>

#include <immintrin.h>

namespace plateau {
namespace {

constexpr int32_t kHalf = 1 << (kWeightBits - 1);

void FilterRow(const uint8_t* row, int origin, const FilterTable& table, uint8_t* planes, std::ptrdiff_t plane_stride) {
  for (int i = 0; i < table.size; ++i) {
    const uint8_t* pixel = row + 3 * (table.first[i] - origin);
    const int32_t* weight = table.weights + std::ptrdiff_t{i} * table.taps;
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int k = 0; k < table.taps; ++k, pixel += 3) {
      red += weight[k] * pixel[0];
      green += weight[k] * pixel[1];
      blue += weight[k] * pixel[2];
    }
    planes[i] = static_cast<uint8_t>(red >> kWeightBits);
    planes[i + plane_stride] = static_cast<uint8_t>(green >> kWeightBits);
    planes[i + 2 * plane_stride] = static_cast<uint8_t>(blue >> kWeightBits);
  }
}

// Output x, in [0, 255]: weights are not negative and sum to 1 but for their rounding.
int32_t CombineOne(const uint8_t* const* rows, const int32_t* weights, int count, int x) {
  int32_t sum = kHalf;
  for (int k = 0; k < count; ++k) sum += weights[k] * rows[k][x];
  return sum >> kWeightBits;
}

// Outputs [begin, size).
void CombineRowsFrom(int begin, const uint8_t* const* rows, const int32_t* weights, int count, int size, float gain, float offset,
                     float* out) {
  for (int x = begin; x < size; ++x) out[x] = static_cast<float>(CombineOne(rows, weights, count, x)) * gain + offset;
}

void CombineBytesFrom(int begin, const uint8_t* const* rows, const int32_t* weights, int count, int size, uint8_t* out) {
  for (int x = begin; x < size; ++x) out[x] = static_cast<uint8_t>(CombineOne(rows, weights, count, x));
}

void CombineRows(const uint8_t* const* rows, const int32_t* weights, int count, int size, float gain, float offset, float* out) {
  CombineRowsFrom(0, rows, weights, count, size, gain, offset, out);
}

void CombineBytes(const uint8_t* const* rows, const int32_t* weights, int count, int size, uint8_t* out) {
  CombineBytesFrom(0, rows, weights, count, size, out);
}

// The three channels and the byte behind them in four lanes.
[[gnu::target("avx2")]] inline __m128i LoadPixel(const uint8_t* pixel) {
  int32_t word;
  std::memcpy(&word, pixel, sizeof word);
  return _mm_cvtepu8_epi32(_mm_cvtsi32_si128(word));
}

// The sum of one output in three lanes. kTaps 0: as many as the table says.
template <int kTaps>
[[gnu::target("avx2")]] inline __m128i SumTaps(const uint8_t* pixel, const int32_t* weights, int taps) {
  __m128i sum = _mm_set1_epi32(kHalf);
  for (int k = 0; k < (kTaps > 0 ? kTaps : taps); ++k)
    sum = _mm_add_epi32(sum, _mm_mullo_epi32(_mm_set1_epi32(weights[k]), LoadPixel(pixel + 3 * k)));
  return _mm_srai_epi32(sum, kWeightBits);
}

// Four outputs at a time, so that each plane gets four bytes in one store.
template <int kTaps>
[[gnu::target("avx2")]] void FilterRowOfTaps(const uint8_t* row, int origin, const FilterTable& table, uint8_t* planes,
                                             std::ptrdiff_t plane_stride) {
  const __m128i by_channel = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const int taps = kTaps > 0 ? kTaps : table.taps;
  const auto sum = [&](int i) [[gnu::target("avx2"), gnu::always_inline]] {
    return SumTaps<kTaps>(row + 3 * (table.first[i] - origin), table.weights + std::ptrdiff_t{i} * taps, taps);
  };
  int i = 0;
  for (; i + 4 <= table.size; i += 4) {
    const __m128i pixels = _mm_packus_epi16(_mm_packus_epi32(sum(i), sum(i + 1)), _mm_packus_epi32(sum(i + 2), sum(i + 3)));
    const __m128i channels = _mm_shuffle_epi8(pixels, by_channel);
    for (int c = 0; c < 3; ++c) {
      const int32_t bytes = c == 0   ? _mm_cvtsi128_si32(channels)
                            : c == 1 ? _mm_extract_epi32(channels, 1)
                                     : _mm_extract_epi32(channels, 2);
      std::memcpy(planes + c * plane_stride + i, &bytes, sizeof bytes);
    }
  }
  if (i == table.size) return;
  const FilterTable rest{table.first + i, table.weights + std::ptrdiff_t{i} * taps, taps, table.size - i};
  FilterRow(row, origin, rest, planes + i, plane_stride);
}

void FilterRowAvx2(const uint8_t* row, int origin, const FilterTable& table, uint8_t* planes, std::ptrdiff_t plane_stride) {
  switch (table.taps) {
    case 1: return FilterRowOfTaps<1>(row, origin, table, planes, plane_stride);
    case 2: return FilterRowOfTaps<2>(row, origin, table, planes, plane_stride);
    case 3: return FilterRowOfTaps<3>(row, origin, table, planes, plane_stride);
    case 4: return FilterRowOfTaps<4>(row, origin, table, planes, plane_stride);
    case 5: return FilterRowOfTaps<5>(row, origin, table, planes, plane_stride);
    default: return FilterRowOfTaps<0>(row, origin, table, planes, plane_stride);
  }
}

// Outputs [x, x + 8).
[[gnu::target("avx2")]] inline __m256i CombineEight(const uint8_t* const* rows, const int32_t* weights, int count, int x) {
  __m256i sum = _mm256_set1_epi32(kHalf);
  for (int k = 0; k < count; ++k) {
    const __m256i values = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(rows[k] + x)));
    sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(_mm256_set1_epi32(weights[k]), values));
  }
  return _mm256_srai_epi32(sum, kWeightBits);
}

[[gnu::target("avx2")]] void CombineRowsAvx2(const uint8_t* const* rows, const int32_t* weights, int count, int size, float gain,
                                             float offset, float* out) {
  constexpr int kLanes = 8;
  const __m256 gains = _mm256_set1_ps(gain), offsets = _mm256_set1_ps(offset);
  int x = 0;
  for (; x + kLanes <= size; x += kLanes) {
    const __m256 values = _mm256_cvtepi32_ps(CombineEight(rows, weights, count, x));
    _mm256_storeu_ps(out + x, _mm256_add_ps(_mm256_mul_ps(values, gains), offsets));
  }
  CombineRowsFrom(x, rows, weights, count, size, gain, offset, out);
}

// Packing works on halves of a register each by itself: the middle quarters change places.
[[gnu::target("avx2")]] void CombineBytesAvx2(const uint8_t* const* rows, const int32_t* weights, int count, int size,
                                              uint8_t* out) {
  constexpr int kLanes = 16, kInOrder = 0b11'01'10'00;
  int x = 0;
  for (; x + kLanes <= size; x += kLanes) {
    const __m256i mixed = _mm256_packus_epi32(CombineEight(rows, weights, count, x), CombineEight(rows, weights, count, x + 8));
    const __m256i words = _mm256_permute4x64_epi64(mixed, kInOrder);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + x),
                     _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  CombineBytesFrom(x, rows, weights, count, size, out);
}

}  // namespace

const ResizeKernels& BaselineKernels() {
  static constexpr ResizeKernels kKernels{FilterRow, CombineRows, CombineBytes};
  return kKernels;
}

const ResizeKernels* Avx2Kernels() {
  static constexpr ResizeKernels kKernels{FilterRowAvx2, CombineRowsAvx2, CombineBytesAvx2};
  return __builtin_cpu_supports("avx2") ? &kKernels : nullptr;
}

const ResizeKernels& BestKernels() {
  const ResizeKernels* avx2 = Avx2Kernels();
  return avx2 != nullptr ? *avx2 : BaselineKernels();
}

}  // namespace plateau
