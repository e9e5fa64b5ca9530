// Average pools: the mean of the pixels of a window that lie inside the map.
#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/launch.h"
#include "worker/backend/cuda/kernels/pool_places.h"
#include "worker/backend/cuda/kernels/vector8.h"

namespace plateau::cuda {
namespace {

template <class T>
struct AverageForward {
  Pixels out, in;
  PoolWindow window;
  const T* x;
  T* y;

  __host__ __device__ void operator()(int64_t i) const {
    const auto place = out.At(i);
    const Side rows = Inside(place.h, window, in.h), columns = Inside(place.w, window, in.w);
    Vector8 sum = {};
    for (int h = rows.begin; h < rows.end; ++h)
      for (int w = columns.begin; w < columns.end; ++w) {
        const Vector8 v = Load8(x, in.Index(place.n, h, w, place.vector));
        for (int k = 0; k < kVector; ++k) sum.value[k] += v.value[k];
      }
    const auto count = static_cast<float>((rows.end - rows.begin) * (columns.end - columns.begin));
    for (int k = 0; k < kVector; ++k) sum.value[k] /= count;
    Store8(y, static_cast<uint32_t>(i), sum);
  }
};

template <class T>
struct AverageBackward {
  Pixels in, out;
  PoolWindow window;
  Divisor stride;
  const T* dy;
  T* dx;

  __host__ __device__ void operator()(int64_t i) const {
    const auto place = in.At(i);
    const Side rows = Holding(place.h, window, stride, out.h), columns = Holding(place.w, window, stride, out.w);
    Vector8 sum = {};
    for (int p = rows.begin; p < rows.end; ++p)
      for (int q = columns.begin; q < columns.end; ++q) {
        const Side high = Inside(p, window, in.h), wide = Inside(q, window, in.w);
        const auto count = static_cast<float>((high.end - high.begin) * (wide.end - wide.begin));
        const Vector8 gradient = Load8(dy, out.Index(place.n, p, q, place.vector));
        for (int k = 0; k < kVector; ++k) sum.value[k] += gradient.value[k] / count;
      }
    Store8(dx, static_cast<uint32_t>(i), sum);
  }
};

}  // namespace

void AveragePoolForward(cudaStream_t stream, const Map& x, const PoolWindow& window, const Map& y) {
  CheckPool(x, y, window, "AveragePoolForward");
  ForType(x.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchEach(stream, y.shape.values() / kVector,
               AverageForward<T>{Pixels(y.shape), Pixels(x.shape), window, Data<T>(x), Data<T>(y)});
  });
}

void AveragePoolBackward(cudaStream_t stream, const Map& dy, const PoolWindow& window, const Map& dx) {
  CheckPool(dx, dy, window, "AveragePoolBackward");
  ForType(dy.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchEach(stream, dx.shape.values() / kVector,
               AverageBackward<T>{Pixels(dx.shape), Pixels(dy.shape), window, Divisor(window.stride), Data<T>(dy), Data<T>(dx)});
  });
}

}  // namespace plateau::cuda
