// Number formats of the emulated libraries: how they round and how they lie in memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace plateau::emulated {

// Nearest number with `bits` mantissa bits behind the point, ties to even; NaN and infinity stay.
inline float RoundMantissa(float value, int bits) {
  if (!std::isfinite(value)) return value;
  uint32_t word;
  std::memcpy(&word, &value, sizeof(word));
  const int dropped = 23 - bits;
  const uint32_t half = uint32_t{1} << (dropped - 1);
  const uint32_t odd = (word >> dropped) & 1U;
  word = (word + half - 1 + odd) >> dropped << dropped;
  std::memcpy(&value, &word, sizeof(word));
  return value;
}
inline float RoundToBf16(float value) { return RoundMantissa(value, 7); }
inline float RoundToTf32(float value) { return RoundMantissa(value, 10); }

inline float LoadBf16(const void* data, int64_t index) {
  uint16_t half;
  std::memcpy(&half, static_cast<const char*>(data) + index * 2, sizeof(half));
  const uint32_t word = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &word, sizeof(word));
  return value;
}

inline void StoreBf16(void* data, int64_t index, float value) {
  const float rounded = RoundToBf16(value);
  uint32_t word;
  std::memcpy(&word, &rounded, sizeof(word));
  auto half = static_cast<uint16_t>(word >> 16);
  if (std::isnan(value)) half |= 0x40;
  std::memcpy(static_cast<char*>(data) + index * 2, &half, sizeof(half));
}

inline float LoadFloat(const void* data, int64_t index) {
  float value;
  std::memcpy(&value, static_cast<const char*>(data) + index * 4, sizeof(value));
  return value;
}
inline void StoreFloat(void* data, int64_t index, float value) {
  std::memcpy(static_cast<char*>(data) + index * 4, &value, sizeof(value));
}

}  // namespace plateau::emulated
