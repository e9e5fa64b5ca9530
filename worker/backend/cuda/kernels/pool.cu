// Max pools.
//
// VGG-D at batch 256 in bf16, a window of 2x2 and eight channels: forward 64 bytes read, 24 written; backward 24 read, 64 written.
// All five pools: 49 M such windows, 4.3 GB, 1.1 ms at 4 TB/s each way.
#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/launch.h"
#include "worker/backend/cuda/kernels/pool_places.h"
#include "worker/backend/cuda/kernels/vector8.h"
#include "worker/backend/cuda/map_checks.h"

namespace plateau::cuda {
namespace {

constexpr int kMostWindow = 15;  // a winner is a byte, and 255 is nobody

// Running maxima of eight channels; the first of equal values stays.
struct Best {
  Vector8 value;
  Bytes8 winner;
  bool finite;

  __host__ __device__ void Begin(const Vector8& v, int number) {
    value = v;
    for (int k = 0; k < kVector; ++k) winner.value[k] = static_cast<uint8_t>(number);
    finite = Finite(v);
  }
  __host__ __device__ void Meet(const Vector8& v, int number) {
    for (int k = 0; k < kVector; ++k) {
      const bool better = v.value[k] > value.value[k];
      value.value[k] = better ? v.value[k] : value.value[k];
      winner.value[k] = better ? static_cast<uint8_t>(number) : winner.value[k];
    }
    finite = finite & Finite(v);
  }
};

// kTwo: windows of 2x2 side by side that all lie inside x, so that their four loads need no question.
template <class T, bool kTwo>
struct MaxForward {
  Pixels out, in;
  PoolWindow window;
  const T* x;
  T* y;
  uint8_t* winner;
  bool relu;
  int32_t* nonfinite;

  __host__ __device__ void operator()(int64_t i) const {
    const auto place = out.At(i);
    Best best;
    if constexpr (kTwo) {
      const uint32_t corner = in.Index(place.n, 2 * place.h, 2 * place.w, place.vector);
      const auto right = static_cast<uint32_t>(in.vector_count), below = right * static_cast<uint32_t>(in.w);
      const Vector8 a = Load8(x, corner), b = Load8(x, corner + right), c = Load8(x, corner + below),
                    d = Load8(x, corner + below + right);
      best.Begin(a, 0);
      best.Meet(b, 1);
      best.Meet(c, 2);
      best.Meet(d, 3);
    } else {
      const int top = place.h * window.stride - window.pad, left = place.w * window.stride - window.pad;
      const Side rows = Inside(place.h, window, in.h), columns = Inside(place.w, window, in.w);
      for (int h = rows.begin; h < rows.end; ++h)
        for (int w = columns.begin; w < columns.end; ++w) {
          const Vector8 v = Load8(x, in.Index(place.n, h, w, place.vector));
          const int number = (h - top) * window.kernel + w - left;
          if (h == rows.begin && w == columns.begin)
            best.Begin(v, number);
          else
            best.Meet(v, number);
        }
    }
    Raise(nonfinite, !best.finite);
    Store8(y, static_cast<uint32_t>(i), best.value);
    if (winner == nullptr) return;
    if (relu)
      for (int k = 0; k < kVector; ++k) best.winner.value[k] = best.value.value[k] > 0 ? best.winner.value[k] : kNoWinner;
    Store8(winner, static_cast<uint32_t>(i), best.winner);
  }
};

// 2x2 windows side by side: a thread per window writes the four pixels of it that lie inside dx; windows without output write
// zeros.
template <class T>
struct TwoBackward {
  Pixels cells, in, out;
  const T* dy;
  const uint8_t* winner;
  T* dx;
  int32_t* nonfinite;

  __host__ __device__ void operator()(int64_t i) const {
    const auto place = cells.At(i);
    Vector8 gradient = {};
    Bytes8 won = {};
    if (place.h < out.h && place.w < out.w) {
      const uint32_t from = out.Index(place.n, place.h, place.w, place.vector);
      gradient = Load8(dy, from);
      won = Load8(winner, from);
      Raise(nonfinite, !Finite(gradient));
    }
    for (int number = 0; number < 4; ++number) {
      const int h = 2 * place.h + number / 2, w = 2 * place.w + number % 2;
      if (h >= in.h || w >= in.w) continue;
      Vector8 v;
      for (int k = 0; k < kVector; ++k) v.value[k] = won.value[k] == number ? gradient.value[k] : 0.0F;
      Store8(dx, in.Index(place.n, h, w, place.vector), v);
    }
  }
};

// Any window: a thread per pixel of dx asks the windows that hold it.
template <class T>
struct MaxBackward {
  Pixels in, out;
  PoolWindow window;
  Divisor stride;
  const T* dy;
  const uint8_t* winner;
  T* dx;
  int32_t* nonfinite;

  __host__ __device__ void operator()(int64_t i) const {
    const auto place = in.At(i);
    const Side rows = Holding(place.h, window, stride, out.h), columns = Holding(place.w, window, stride, out.w);
    Vector8 sum = {};
    bool finite = true;
    for (int p = rows.begin; p < rows.end; ++p)
      for (int q = columns.begin; q < columns.end; ++q) {
        const uint32_t from = out.Index(place.n, p, q, place.vector);
        const Vector8 gradient = Load8(dy, from);
        const Bytes8 won = Load8(winner, from);
        const int row = place.h + window.pad - p * window.stride, column = place.w + window.pad - q * window.stride;
        const int number = row * window.kernel + column;
        for (int k = 0; k < kVector; ++k)
          if (won.value[k] == number) sum.value[k] += gradient.value[k];
        finite = finite & Finite(gradient);
      }
    Raise(nonfinite, !finite);
    Store8(dx, static_cast<uint32_t>(i), sum);
  }
};

bool SideBySide(const PoolWindow& window) { return window.kernel == 2 && window.stride == 2 && window.pad == 0; }

}  // namespace

void MaxPoolForward(cudaStream_t stream, const Map& x, const PoolWindow& window, bool relu, const Map& y, uint8_t* winner,
                    int32_t* nonfinite) {
  CheckPool(x, y, window, "MaxPoolForward");
  CheckAligned(winner, "MaxPoolForward");
  CheckHolds(window.kernel <= kMostWindow, "MaxPoolForward", "windows have at most 15 pixels a side");
  const bool two = SideBySide(window) && 2 * y.shape.h <= x.shape.h && 2 * y.shape.w <= x.shape.w;
  ForType(x.type, [&](auto zero) {
    using T = decltype(zero);
    const auto launch = [&](auto body) { LaunchEach(stream, y.shape.values() / kVector, body); };
    const Pixels out(y.shape), in(x.shape);
    if (two)
      launch(MaxForward<T, true>{out, in, window, Data<T>(x), Data<T>(y), winner, relu, nonfinite});
    else
      launch(MaxForward<T, false>{out, in, window, Data<T>(x), Data<T>(y), winner, relu, nonfinite});
  });
}

void MaxPoolBackward(cudaStream_t stream, const Map& dy, const uint8_t* winner, const PoolWindow& window, const Map& dx,
                     int32_t* nonfinite) {
  CheckPool(dx, dy, window, "MaxPoolBackward");
  CheckAligned(winner, "MaxPoolBackward");
  ForType(dy.type, [&](auto zero) {
    using T = decltype(zero);
    const Pixels out(dy.shape), in(dx.shape);
    if (SideBySide(window)) {
      const MapShape& s = dx.shape;
      const Pixels cells(s, (s.h + 1) / 2, (s.w + 1) / 2);
      const int64_t count = int64_t{s.n} * cells.h * cells.w * cells.vector_count;
      LaunchEach(stream, count, TwoBackward<T>{cells, in, out, Data<T>(dy), winner, Data<T>(dx), nonfinite});
    } else {
      LaunchEach(stream, dx.shape.values() / kVector,
                 MaxBackward<T>{in, out, window, Divisor(window.stride), Data<T>(dy), winner, Data<T>(dx), nonfinite});
    }
  });
}

}  // namespace plateau::cuda
