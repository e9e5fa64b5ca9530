// Threads split each buffer into equal runs; the compiler makes the inner loops vectors.
#include "worker/backend/cpu/elementwise.h"

#include <algorithm>
#include <bit>
#include <cstdint>

namespace plateau {
namespace {

constexpr int64_t kWorthATeam = 1 << 14;  // values below which waking other threads costs more than it saves

// 1 for NaN and infinities, else 0.
inline int NotFinite(float value) {
  constexpr uint32_t kExponent = 0x7F800000;
  return static_cast<int>((std::bit_cast<uint32_t>(value) & kExponent) == kExponent);
}

constexpr int64_t kPiece = 4096;  // values summed at a time, so that a sum stays in the first cache

// piece[i] = sum over `maps` of map[begin + i], in order.
inline void SumPiece(std::span<const float* const> maps, int64_t begin, int64_t count, float* __restrict piece) {
  std::copy_n(maps[0] + begin, count, piece);
  for (size_t m = 1; m < maps.size(); ++m) {
    const float* map = maps[m] + begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) piece[i] += map[i];
  }
}

}  // namespace

bool MaskGradient(const float* output, float* gradient, size_t count, float scale, int threads) {
  const auto n = static_cast<int64_t>(count);
  int bad = 0;
#pragma omp parallel for simd schedule(static) num_threads(threads) reduction(| : bad)
  for (int64_t i = 0; i < n; ++i) {
    bad |= NotFinite(output[i]) | NotFinite(gradient[i]);
    const float scaled = gradient[i] * scale;
    gradient[i] = output[i] > 0 ? scaled : 0.0F;
  }
  return bad == 0;
}

bool CombineGradients(std::span<const float* const> parts, const float* output, float* sum, size_t count, float scale,
                      int threads) {
  const auto n = static_cast<int64_t>(count);
  int bad = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : bad)
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t size = std::min(kPiece, n - begin);
    float piece[kPiece];
    SumPiece(parts, begin, size, piece);
    float* target = sum + begin;
    if (output == nullptr) {
#pragma omp simd reduction(| : bad)
      for (int64_t i = 0; i < size; ++i) {
        bad |= NotFinite(piece[i]);
        target[i] = piece[i];
      }
      continue;
    }
    const float* mask = output + begin;
#pragma omp simd reduction(| : bad)
    for (int64_t i = 0; i < size; ++i) {
      bad |= NotFinite(mask[i]) | NotFinite(piece[i]);
      const float scaled = piece[i] * scale;
      target[i] = mask[i] > 0 ? scaled : 0.0F;
    }
  }
  return bad == 0;
}

void AddMaps(std::span<const float* const> inputs, float* output, size_t count, bool relu, int threads) {
  const auto n = static_cast<int64_t>(count);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t size = std::min(kPiece, n - begin);
    float piece[kPiece];
    SumPiece(inputs, begin, size, piece);
    float* target = output + begin;
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) target[i] = relu && piece[i] < 0 ? 0.0F : piece[i];
  }
}

bool AllFinite(const float* values, size_t count, int threads) {
  const auto n = static_cast<int64_t>(count);
  int bad = 0;
#pragma omp parallel for simd schedule(static) num_threads(threads) reduction(| : bad) if (n > kWorthATeam)
  for (int64_t i = 0; i < n; ++i) bad |= NotFinite(values[i]);
  return bad == 0;
}

}  // namespace plateau
