// Batch normalisation (Ioffe & Szegedy, ICML 2015) over all pixels of a channel.
//
// Statistics read x once, forward reads x and writes y, backward reads x and dy twice and writes dx.
#include "worker/backend/cuda/kernels/column_sums.h"
#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/vector8.h"
#include "worker/backend/cuda/map_checks.h"

namespace plateau::cuda {
namespace {

struct Nothing {};

// Sums of x and x^2. In double, where the difference of two large sums still holds the variance.
template <class T>
struct Moments {
  static constexpr int kSums = 2;
  const T* x;

  __host__ __device__ Nothing Begin(uint32_t) const { return {}; }
  __host__ __device__ void Add(const Nothing&, uint32_t index, double (&sums)[2][kVector]) const {
    const Vector8 v = Load8(x, index);
    for (int k = 0; k < kVector; ++k) {
      const double value = v.value[k];
      sums[0][k] += value;
      sums[1][k] += value * value;
    }
  }
};

struct StoreMoments {
  double count;
  float *mean, *variance;
  int32_t* nonfinite;

  __host__ __device__ void operator()(int channel, const double (&sums)[2]) const {
    const double centre = sums[0] / count, spread = sums[1] / count - centre * centre;
    mean[channel] = static_cast<float>(centre);
    variance[channel] = static_cast<float>(spread < 0 ? 0 : spread);
    Raise(nonfinite, !(Finite(mean[channel]) & Finite(variance[channel])));
  }
};

// Calls visit on every pixel with what it loaded for its eight channels once: cut as for sums, without sums.
template <class Visit>
struct ForPixels {
  static constexpr int kPhases = 1;
  struct Shared {};
  ColumnGrid grid;
  Visit visit;

  template <int>
  __host__ __device__ void Run(int64_t block, int thread, Shared&) const {
    const auto share = grid.Of(block, thread);
    if (share.begin >= share.end) return;
    const auto context = visit.Begin(share.vector);
    for (int64_t pixel = share.begin; pixel < share.end; pixel += grid.rows)
      visit(context, pixel, static_cast<uint32_t>(pixel * grid.vectors + share.vector));
  }
};

template <class T>
struct Normalise {
  struct Context {
    Vector8 mean, factor, shift;
  };
  const T* x;
  const float *scale, *shift, *mean, *variance;
  float epsilon;
  bool relu;
  T* y;

  __host__ __device__ Context Begin(uint32_t vector) const {
    Context c{Load8(mean, vector), Load8(scale, vector), Load8(shift, vector)};
    const Vector8 spread = Load8(variance, vector);
    for (int k = 0; k < kVector; ++k) c.factor.value[k] /= sqrtf(spread.value[k] + epsilon);
    return c;
  }
  __host__ __device__ void operator()(const Context& c, int64_t, uint32_t index) const {
    Vector8 v = Load8(x, index);
    for (int k = 0; k < kVector; ++k) {
      const float value = (v.value[k] - c.mean.value[k]) * c.factor.value[k] + c.shift.value[k];
      v.value[k] = relu && value < 0 ? 0.0F : value;
    }
    Store8(y, index, v);
  }
};

// Sums of dy and dy * (x - mean).
template <class T>
struct GradientMoments {
  static constexpr int kSums = 2;
  const T *x, *dy;
  const float* mean;

  __host__ __device__ Vector8 Begin(uint32_t vector) const { return Load8(mean, vector); }
  __host__ __device__ void Add(const Vector8& centre, uint32_t index, double (&sums)[2][kVector]) const {
    const Vector8 v = Load8(x, index), d = Load8(dy, index);
    for (int k = 0; k < kVector; ++k) {
      sums[0][k] += d.value[k];
      sums[1][k] += d.value[k] * (v.value[k] - centre.value[k]);
    }
  }
};

struct StoreGradients {
  const float* variance;
  float epsilon;
  float *dscale, *dshift;
  int32_t* nonfinite;

  __host__ __device__ void operator()(int channel, const double (&sums)[2]) const {
    dshift[channel] = static_cast<float>(sums[0]);
    dscale[channel] = static_cast<float>(sums[1] / sqrtf(variance[channel] + epsilon));
    Raise(nonfinite, !(Finite(dshift[channel]) & Finite(dscale[channel])));
  }
};

// dx = scale / deviation * (dy - dshift / count - x^ dscale / count), x^ = (x - mean) / deviation.
template <class T>
struct DataGradient {
  struct Context {
    Vector8 mean, factor, base, slope;
  };
  const T *x, *dy;
  const float *scale, *mean, *variance, *dscale, *dshift;
  float epsilon, count;
  int64_t counted_pixels;
  T* dx;

  __host__ __device__ Context Begin(uint32_t vector) const {
    Context c{Load8(mean, vector), Load8(scale, vector), Load8(dshift, vector), Load8(dscale, vector)};
    const Vector8 spread = Load8(variance, vector);
    for (int k = 0; k < kVector; ++k) {
      const float deviation = sqrtf(spread.value[k] + epsilon);
      c.factor.value[k] /= deviation;
      c.base.value[k] /= count;
      c.slope.value[k] /= count * deviation;
    }
    return c;
  }
  __host__ __device__ void operator()(const Context& c, int64_t pixel, uint32_t index) const {
    Vector8 v = {};
    if (pixel < counted_pixels) {
      const Vector8 value = Load8(x, index), d = Load8(dy, index);
      for (int k = 0; k < kVector; ++k)
        v.value[k] = c.factor.value[k] * (d.value[k] - c.base.value[k] - (value.value[k] - c.mean.value[k]) * c.slope.value[k]);
    }
    Store8(dx, index, v);
  }
};

struct Share {
  const float *mean, *variance;
  float share, unbiased;
  float *batch_mean, *batch_variance;

  __host__ __device__ void operator()(int64_t c) const {
    batch_mean[c] = share * mean[c];
    batch_variance[c] = share * (variance[c] * unbiased);
  }
};

int64_t CountedPixels(const MapShape& shape, int rows) {
  CheckHolds(rows >= 0 && rows <= shape.n, "BatchNorm", "counts more rows than the map has");
  return int64_t{rows} * shape.h * shape.w;
}

}  // namespace

int64_t BatchNormScratch(const MapShape& shape) { return ColumnScratch(shape, 2) * static_cast<int64_t>(sizeof(double)); }

void BatchNormStatistics(cudaStream_t stream, const Map& x, int rows, void* partial, float* mean, float* variance,
                         int32_t* nonfinite) {
  CheckedVectors(x, "BatchNormStatistics");
  const int64_t pixels = CountedPixels(x.shape, rows);
  const StoreMoments store{static_cast<double>(pixels > 0 ? pixels : 1), mean, variance, nonfinite};
  ForType(x.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchColumnSums(stream, x.shape, pixels, Moments<T>{Data<T>(x)}, static_cast<double*>(partial), store);
  });
}

void BatchNormForward(cudaStream_t stream, const Map& x, const float* scale, const float* shift, const float* mean,
                      const float* variance, float epsilon, bool relu, const Map& y) {
  CheckedVectors(x, y, "BatchNormForward");
  const ColumnGrid grid(x.shape, x.shape.pixels());
  ForType(x.type, [&](auto zero) {
    using T = decltype(zero);
    const Normalise<T> visit{Data<T>(x), scale, shift, mean, variance, epsilon, relu, Data<T>(y)};
    LaunchBlocks(stream, grid.blocks(), ForPixels<Normalise<T>>{grid, visit});
  });
}

void BatchNormBackward(cudaStream_t stream, const Map& x, const Map& dy, const float* scale, const float* mean,
                       const float* variance, float epsilon, int rows, void* partial, const Map& dx, float* dscale, float* dshift,
                       int32_t* nonfinite) {
  CheckedVectors(x, dy, "BatchNormBackward");
  CheckedVectors(x, dx, "BatchNormBackward");
  const int64_t pixels = CountedPixels(x.shape, rows);
  const auto count = static_cast<float>(pixels > 0 ? pixels : 1);
  const ColumnGrid grid(x.shape, x.shape.pixels());
  ForType(x.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchColumnSums(stream, x.shape, pixels, GradientMoments<T>{Data<T>(x), Data<T>(dy), mean}, static_cast<double*>(partial),
                     StoreGradients{variance, epsilon, dscale, dshift, nonfinite});
    const DataGradient<T> visit{Data<T>(x), Data<T>(dy), scale, mean,   variance,   dscale,
                                dshift,     epsilon,     count, pixels, Data<T>(dx)};
    LaunchBlocks(stream, grid.blocks(), ForPixels<DataGradient<T>>{grid, visit});
  });
}

void BatchNormShare(cudaStream_t stream, const float* mean, const float* variance, int stored, int64_t count, float share,
                    float* batch_mean, float* batch_variance) {
  const auto values = static_cast<double>(count);
  LaunchEach(stream, stored,
             Share{mean, variance, share, static_cast<float>(count > 1 ? values / (values - 1) : 0), batch_mean, batch_variance});
}

}  // namespace plateau::cuda
