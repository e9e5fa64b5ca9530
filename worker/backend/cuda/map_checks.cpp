// Checks of shapes, in a file of their own because nvcc does not compile the formatting library.
#include "worker/backend/cuda/map_checks.h"

#include "common/check.h"

namespace plateau::cuda {
namespace {

constexpr int64_t kMostVectors = int64_t{1} << 31;  // indices are 32 bits wide
constexpr uintptr_t kAlignment = 16;

}  // namespace

void CheckAligned(const void* data, const char* kernel) {
  PLATEAU_CHECK(reinterpret_cast<uintptr_t>(data) % kAlignment == 0, "{}: {} is not aligned to {} bytes", kernel, data, kAlignment);
}

int64_t CheckedVectors(const Map& map, const char* kernel) {
  const MapShape& s = map.shape;
  PLATEAU_CHECK(s.n >= 0 && s.h > 0 && s.w > 0 && s.channels > 0 && s.channels <= s.stored && s.stored % kChannelAlign == 0,
                "{}: map of [{}, {}, {}, {}], {} channels", kernel, s.n, s.h, s.w, s.stored, s.channels);
  const int64_t vectors = s.values() / kChannelAlign;
  PLATEAU_CHECK(vectors < kMostVectors, "{}: map of [{}, {}, {}, {}] is too large", kernel, s.n, s.h, s.w, s.stored);
  PLATEAU_CHECK(map.data != nullptr || vectors == 0, "{}: map without memory", kernel);
  CheckAligned(map.data, kernel);
  return vectors;
}

int64_t CheckedVectors(const Map& map, const Map& other, const char* kernel) {
  CheckSameChannels(map, other, kernel);
  PLATEAU_CHECK(map.shape.h == other.shape.h && map.shape.w == other.shape.w, "{}: maps of {}x{} and {}x{}", kernel, map.shape.h,
                map.shape.w, other.shape.h, other.shape.w);
  CheckedVectors(other, kernel);
  return CheckedVectors(map, kernel);
}

void CheckSameChannels(const Map& a, const Map& b, const char* kernel) {
  PLATEAU_CHECK(
      a.type == b.type && a.shape.n == b.shape.n && a.shape.channels == b.shape.channels && a.shape.stored == b.shape.stored,
      "{}: {} samples of {} ({}) channels against {} of {} ({}), types {} and {}", kernel, a.shape.n, a.shape.channels,
      a.shape.stored, b.shape.n, b.shape.channels, b.shape.stored, static_cast<int>(a.type), static_cast<int>(b.type));
}

void CheckHolds(bool condition, const char* kernel, const char* what) { PLATEAU_CHECK(condition, "{}: {}", kernel, what); }

}  // namespace plateau::cuda
