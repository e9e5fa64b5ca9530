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
    const int32_t* weight = table.weights + std::ptrdiff_t{i} * table.stride;
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int k = 0; k < table.count[i]; ++k, pixel += 3) {
      red += weight[k] * pixel[0];
      green += weight[k] * pixel[1];
      blue += weight[k] * pixel[2];
    }
    planes[i] = static_cast<uint8_t>(red >> kWeightBits);
    planes[i + plane_stride] = static_cast<uint8_t>(green >> kWeightBits);
    planes[i + 2 * plane_stride] = static_cast<uint8_t>(blue >> kWeightBits);
  }
}

// Outputs [begin, size).
void CombineRowsFrom(int begin, const uint8_t* const* rows, const int32_t* weights, int count, int size, float gain, float offset,
                     float* out) {
  for (int x = begin; x < size; ++x) {
    int32_t sum = kHalf;
    for (int k = 0; k < count; ++k) sum += weights[k] * rows[k][x];
    out[x] = static_cast<float>(sum >> kWeightBits) * gain + offset;
  }
}

void CombineRows(const uint8_t* const* rows, const int32_t* weights, int count, int size, float gain, float offset, float* out) {
  CombineRowsFrom(0, rows, weights, count, size, gain, offset, out);
}

// The three channels and the byte behind them in four lanes.
[[gnu::target("avx2")]] inline __m128i LoadPixel(const uint8_t* pixel) {
  int32_t word;
  std::memcpy(&word, pixel, sizeof word);
  return _mm_cvtepu8_epi32(_mm_cvtsi32_si128(word));
}

[[gnu::target("avx2")]] void FilterRowAvx2(const uint8_t* row, int origin, const FilterTable& table, uint8_t* planes,
                                           std::ptrdiff_t plane_stride) {
  const __m128i first_bytes = _mm_setr_epi8(0, 4, 8, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  for (int i = 0; i < table.size; ++i) {
    const uint8_t* pixel = row + 3 * (table.first[i] - origin);
    const int32_t* weight = table.weights + std::ptrdiff_t{i} * table.stride;
    __m128i sum = _mm_set1_epi32(kHalf);
    for (int k = 0; k < table.count[i]; ++k, pixel += 3)
      sum = _mm_add_epi32(sum, _mm_mullo_epi32(_mm_set1_epi32(weight[k]), LoadPixel(pixel)));
    const auto bytes = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_shuffle_epi8(_mm_srai_epi32(sum, kWeightBits), first_bytes)));
    planes[i] = static_cast<uint8_t>(bytes);
    planes[i + plane_stride] = static_cast<uint8_t>(bytes >> 8);
    planes[i + 2 * plane_stride] = static_cast<uint8_t>(bytes >> 16);
  }
}

[[gnu::target("avx2")]] void CombineRowsAvx2(const uint8_t* const* rows, const int32_t* weights, int count, int size, float gain,
                                             float offset, float* out) {
  constexpr int kLanes = 8;
  const __m256 gains = _mm256_set1_ps(gain), offsets = _mm256_set1_ps(offset);
  int x = 0;
  for (; x + kLanes <= size; x += kLanes) {
    __m256i sum = _mm256_set1_epi32(kHalf);
    for (int k = 0; k < count; ++k) {
      const __m256i values = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(rows[k] + x)));
      sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(_mm256_set1_epi32(weights[k]), values));
    }
    const __m256 values = _mm256_cvtepi32_ps(_mm256_srai_epi32(sum, kWeightBits));
    _mm256_storeu_ps(out + x, _mm256_add_ps(_mm256_mul_ps(values, gains), offsets));
  }
  CombineRowsFrom(x, rows, weights, count, size, gain, offset, out);
}

}  // namespace

const ResizeKernels& BaselineKernels() {
  static constexpr ResizeKernels kKernels{FilterRow, CombineRows};
  return kKernels;
}

const ResizeKernels* Avx2Kernels() {
  static constexpr ResizeKernels kKernels{FilterRowAvx2, CombineRowsAvx2};
  return __builtin_cpu_supports("avx2") ? &kKernels : nullptr;
}

const ResizeKernels& BestKernels() {
  const ResizeKernels* avx2 = Avx2Kernels();
  return avx2 != nullptr ? *avx2 : BaselineKernels();
}

}  // namespace plateau
