// Joins and cuts maps along their channels.
#include <algorithm>

#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/launch.h"
#include "worker/backend/cuda/kernels/vector8.h"
#include "worker/backend/cuda/map_checks.h"

namespace plateau::cuda {
namespace {

// A thread handles eight channels of the part at one pixel; on the whole's side they are a vector only where `from` is one's begin
// and all eight are the part's.
template <class T>
struct JoinPlace {
  Divisor part_vectors;
  uint32_t whole_stored;
  int channels, from;

  struct Place {
    int64_t whole;  // first value
    int count;      // of channels of the part
  };
  __host__ __device__ Place At(uint32_t i) const {
    uint32_t vector = i;
    const uint32_t pixel = part_vectors.Split(vector);
    const int first = static_cast<int>(vector) * kVector, left = channels - first;
    return {int64_t{pixel} * whole_stored + from + first, left < 0 ? 0 : left < kVector ? left : kVector};
  }
  __host__ __device__ bool Whole(const Place& place) const { return place.count == kVector && from % kVector == 0; }
};

template <class T>
struct CopyIn {
  JoinPlace<T> places;
  const T* part;
  T* whole;
  int tail;  // zeros behind the part's last channel

  __host__ __device__ void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i);
    const auto place = places.At(at);
    const Vector8 v = Load8(part, at);
    T* target = whole + place.whole;
    if (places.Whole(place)) {
      Store8(target, 0, v);
    } else {
      for (int k = 0; k < kVector; ++k)
        if (k < place.count) Put(target[k], v.value[k]);
    }
    uint32_t vector = at;
    places.part_vectors.Split(vector);
    if (static_cast<int>(vector) == (places.channels - 1) / kVector)
      for (int k = 0; k < tail; ++k) Put(target[place.count + k], 0.0F);
  }
};

template <class T>
struct CopyOut {
  JoinPlace<T> places;
  const T* whole;
  T* part;

  __host__ __device__ void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i);
    const auto place = places.At(at);
    const T* source = whole + place.whole;
    Vector8 v = {};
    if (places.Whole(place)) {
      v = Load8(source, 0);
    } else {
      for (int k = 0; k < kVector; ++k)
        if (k < place.count) v.value[k] = ToFloat(source[k]);
    }
    Store8(part, at, v);
  }
};

int64_t CheckJoin(const Map& part, int from, const Map& whole, const char* kernel) {
  const MapShape &a = part.shape, &b = whole.shape;
  CheckedVectors(whole, kernel);
  CheckHolds(part.type == whole.type && a.n == b.n && a.h == b.h && a.w == b.w && from >= 0 && from + a.channels <= b.channels,
             kernel, "the part's type, pixels or channels do not fit into the whole");
  return CheckedVectors(part, kernel);
}

template <class T>
JoinPlace<T> Places(const Map& part, int from, const Map& whole) {
  return {Divisor(part.shape.stored / kVector), static_cast<uint32_t>(whole.shape.stored), part.shape.channels, from};
}

}  // namespace

void CopyChannelsIn(cudaStream_t stream, const Map& part, int from, const Map& whole) {
  const int64_t vectors = CheckJoin(part, from, whole, "CopyChannelsIn");
  const int end = from + part.shape.channels, tail = end == whole.shape.channels ? whole.shape.stored - end : 0;
  ForType(part.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchEach(stream, vectors, CopyIn<T>{Places<T>(part, from, whole), Data<T>(part), Data<T>(whole), tail});
  });
}

void CopyChannelsOut(cudaStream_t stream, const Map& whole, int from, const Map& part) {
  const int64_t vectors = CheckJoin(part, from, whole, "CopyChannelsOut");
  ForType(part.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchEach(stream, vectors, CopyOut<T>{Places<T>(part, from, whole), Data<T>(whole), Data<T>(part)});
  });
}

}  // namespace plateau::cuda
