// Threads split each buffer into equal runs; the compiler makes the inner loops vectors.
#include "worker/backend/cpu/elementwise.h"

#include <bit>
#include <cstdint>

namespace plateau {

void MaskGradient(const float* output, float* gradient, size_t count, float scale, int threads) {
  const auto n = static_cast<int64_t>(count);
#pragma omp parallel for simd schedule(static) num_threads(threads)
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = gradient[i] * scale;
    gradient[i] = output[i] > 0 ? scaled : 0.0F;
  }
}

bool AllFinite(const float* values, size_t count, int threads) {
  constexpr uint32_t kExponent = 0x7F800000;
  const auto n = static_cast<int64_t>(count);
  int bad = 0;
#pragma omp parallel for simd schedule(static) num_threads(threads) reduction(| : bad)
  for (int64_t i = 0; i < n; ++i) bad |= static_cast<int>((std::bit_cast<uint32_t>(values[i]) & kExponent) == kExponent);
  return bad == 0;
}

}  // namespace plateau
