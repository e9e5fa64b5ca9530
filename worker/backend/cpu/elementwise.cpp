// Threads split each buffer into equal runs; the compiler makes the inner loops vectors.
#include "worker/backend/cpu/elementwise.h"

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

bool AllFinite(const float* values, size_t count, int threads) {
  const auto n = static_cast<int64_t>(count);
  int bad = 0;
#pragma omp parallel for simd schedule(static) num_threads(threads) reduction(| : bad) if (n > kWorthATeam)
  for (int64_t i = 0; i < n; ++i) bad |= NotFinite(values[i]);
  return bad == 0;
}

}  // namespace plateau
