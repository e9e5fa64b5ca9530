// Eight neighbouring channels as one access: kernels here wait for memory, and memory wants 16 bytes a thread.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "worker/backend/cuda/kernels/types.h"

namespace plateau::cuda {

inline constexpr int kVector = kChannelAlign;

struct Vector8 {
  float value[kVector];
};

// The bits of a value and back.
__host__ __device__ inline uint32_t BitsOf(float value) { return __builtin_bit_cast(uint32_t, value); }
__host__ __device__ inline float FloatOf(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// One value of memory to float and back: bf16 is the upper half of a float, made by rounding to nearest even; NaN stays NaN.
__host__ __device__ inline float ToFloat(float value) { return value; }
__host__ __device__ inline float ToFloat(__nv_bfloat16 value) {
  return FloatOf(static_cast<uint32_t>(static_cast<__nv_bfloat16_raw>(value).x) << 16);
}
__host__ __device__ inline void Put(float& to, float value) { to = value; }
__host__ __device__ inline void Put(__nv_bfloat16& to, float value) { to = __float2bfloat16_rn(value); }

__host__ __device__ inline uint32_t PackPair(float low, float high) {
  const __nv_bfloat162_raw pair = __floats2bfloat162_rn(low, high);
  return pair.x | static_cast<uint32_t>(pair.y) << 16;
}

// Values [8 * vector, 8 * vector + 8) of an array.
__host__ __device__ inline Vector8 Load8(const float* data, uint32_t vector) {
  const auto* pieces = reinterpret_cast<const float4*>(data) + 2 * int64_t{vector};
  const float4 a = pieces[0], b = pieces[1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__host__ __device__ inline Vector8 Load8(const __nv_bfloat16* data, uint32_t vector) {
  constexpr uint32_t kUpper = 0xFFFF0000;
  const uint4 bits = reinterpret_cast<const uint4*>(data)[vector];
  return {{FloatOf(bits.x << 16), FloatOf(bits.x & kUpper), FloatOf(bits.y << 16), FloatOf(bits.y & kUpper), FloatOf(bits.z << 16),
           FloatOf(bits.z & kUpper), FloatOf(bits.w << 16), FloatOf(bits.w & kUpper)}};
}
__host__ __device__ inline void Store8(float* data, uint32_t vector, const Vector8& v) {
  auto* pieces = reinterpret_cast<float4*>(data) + 2 * int64_t{vector};
  pieces[0] = {v.value[0], v.value[1], v.value[2], v.value[3]};
  pieces[1] = {v.value[4], v.value[5], v.value[6], v.value[7]};
}
__host__ __device__ inline void Store8(__nv_bfloat16* data, uint32_t vector, const Vector8& v) {
  reinterpret_cast<uint4*>(data)[vector] = {PackPair(v.value[0], v.value[1]), PackPair(v.value[2], v.value[3]),
                                            PackPair(v.value[4], v.value[5]), PackPair(v.value[6], v.value[7])};
}

// The same for bytes: winners of pools.
struct Bytes8 {
  uint8_t value[kVector];
};
__host__ __device__ inline Bytes8 Load8(const uint8_t* data, uint32_t vector) {
  const uint2 bits = reinterpret_cast<const uint2*>(data)[vector];
  Bytes8 v;
  for (int k = 0; k < 4; ++k) {
    v.value[k] = static_cast<uint8_t>(bits.x >> (8 * k));
    v.value[k + 4] = static_cast<uint8_t>(bits.y >> (8 * k));
  }
  return v;
}
__host__ __device__ inline void Store8(uint8_t* data, uint32_t vector, const Bytes8& v) {
  uint2 bits = {0, 0};
  for (int k = 0; k < 4; ++k) {
    bits.x |= static_cast<uint32_t>(v.value[k]) << (8 * k);
    bits.y |= static_cast<uint32_t>(v.value[k + 4]) << (8 * k);
  }
  reinterpret_cast<uint2*>(data)[vector] = bits;
}

// False for NaN, infinities and the largest float, which cuDNN's fused ReLU puts in the place of an infinity.
__host__ __device__ inline bool Finite(float value) { return fabsf(value) < FLT_MAX; }
__host__ __device__ inline bool Finite(const Vector8& v) {
  bool finite = true;
  for (int k = 0; k < kVector; ++k) finite = finite & Finite(v.value[k]);
  return finite;
}
// Many threads may raise a flag at once: all write the same.
__host__ __device__ inline void Raise(int32_t* flag, bool when) {
  if (when && flag != nullptr) *flag = 1;
}

// n / divisor for n < 2^31 by a multiplication (Granlund & Montgomery, "Division by invariant integers using multiplication",
// 1994).
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(int divisor) : divisor_(static_cast<uint32_t>(divisor)) {
    uint32_t bits = 0;
    while ((uint64_t{1} << bits) < divisor_) ++bits;
    if (bits == 0) return;
    multiplier_ = static_cast<uint32_t>(((uint64_t{1} << (31 + bits)) + divisor_ - 1) / divisor_);
    shift_ = bits - 1;
  }
  __host__ __device__ uint32_t Quotient(uint32_t n) const {
    return divisor_ == 1 ? n : static_cast<uint32_t>((uint64_t{n} * multiplier_) >> 32) >> shift_;
  }
  // n / divisor, and n becomes n % divisor.
  __host__ __device__ uint32_t Split(uint32_t& n) const {
    const uint32_t quotient = Quotient(n);
    n -= quotient * divisor_;
    return quotient;
  }

 private:
  uint32_t divisor_ = 1, multiplier_ = 0, shift_ = 0;
};

// use(T{}) with T the type of a map's values.
template <class Use>
void ForType(DataType type, const Use& use) {
  if (type == DataType::kFloat) return use(float{});
  use(__nv_bfloat16{});
}
template <class T>
T* Data(const Map& map) {
  return static_cast<T*>(map.data);
}

}  // namespace plateau::cuda
