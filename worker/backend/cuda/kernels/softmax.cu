// The loss at the end: a block a row, then the rows' figures in order.
#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/kernels/launch.h"
#include "worker/backend/cuda/kernels/vector8.h"
#include "worker/backend/cuda/map_checks.h"

namespace plateau::cuda {
namespace {

constexpr int kTop = 5;
constexpr int kGroups = 16, kGroupThreads = kBlockThreads / kGroups;  // 256 threads' values are combined in two steps of 16

__host__ __device__ inline float Larger(float a, float b) { return b > a ? b : a; }

// Sums in double, as the CPU's: a row is short, and the loss is what people look at.
template <class T>
struct Row {
  static constexpr int kPhases = 5;
  struct Shared {
    float top[kBlockThreads], group_top[kGroups];
    double sum[kBlockThreads], group_sum[kGroups];
    int before[kBlockThreads], group_before[kGroups];
  };
  const T* logits;
  const int32_t* labels;
  const float* weights;
  float gradient_scale;
  T* gradient;
  RowLoss* rows;
  int classes, vectors;

  template <int phase>
  __host__ __device__ void Run(int64_t row, int thread, Shared& shared) const {
    if constexpr (phase == 0) shared.top[thread] = ThreadTop(row, thread);
    if constexpr (phase == 1) {
      if (thread < kGroups) shared.group_top[thread] = Top(shared.top + thread * kGroupThreads);
    }
    if constexpr (phase == 2) SumThread(row, thread, Top(shared.group_top), shared);
    if constexpr (phase == 3) {
      if (thread >= kGroups) return;
      shared.group_sum[thread] = Total(shared.sum + thread * kGroupThreads);
      shared.group_before[thread] = Total(shared.before + thread * kGroupThreads);
    }
    if constexpr (phase == 4) {
      const float top = Top(shared.group_top);
      const double sum = Total(shared.group_sum);
      if (gradient != nullptr) WriteGradient(row, thread, top, sum);
      if (thread == 0 && rows != nullptr) Finish(row, top, sum, Total(shared.group_before));
    }
  }

 private:
  static constexpr int kOf = 16;
  __host__ __device__ static float Top(const float* values) {
    float top = values[0];
    for (int i = 1; i < kOf; ++i) top = Larger(top, values[i]);
    return top;
  }
  template <class V>
  __host__ __device__ static V Total(const V* values) {
    V total = 0;
    for (int i = 0; i < kOf; ++i) total += values[i];
    return total;
  }
  __host__ __device__ Vector8 Load(int64_t row, int vector) const {
    return Load8(logits + row * vectors * kVector, static_cast<uint32_t>(vector));
  }
  // NaN when the label names no class.
  __host__ __device__ float LabelLogit(int64_t row) const {
    const int label = labels[row];
    return label >= 0 && label < classes ? ToFloat(logits[row * vectors * kVector + label]) : NAN;
  }

  // Largest logit of a thread's vectors; NaN is passed over here and shows in the sum.
  __host__ __device__ float ThreadTop(int64_t row, int thread) const {
    float top = -INFINITY;
    for (int vector = thread; vector < vectors; vector += kBlockThreads) {
      const Vector8 v = Load(row, vector);
      for (int k = 0; k < kVector; ++k)
        if (vector * kVector + k < classes) top = Larger(top, v.value[k]);
    }
    return top;
  }
  __host__ __device__ void SumThread(int64_t row, int thread, float top, Shared& shared) const {
    const int label = labels[row];
    const float label_logit = LabelLogit(row);
    double sum = 0;
    int before = 0;
    for (int vector = thread; vector < vectors; vector += kBlockThreads) {
      const Vector8 v = Load(row, vector);
      for (int k = 0; k < kVector; ++k) {
        const int c = vector * kVector + k;
        if (c >= classes) continue;
        sum += exp(static_cast<double>(v.value[k]) - top);
        before += v.value[k] > label_logit || (v.value[k] == label_logit && c < label) ? 1 : 0;
      }
    }
    shared.sum[thread] = sum;
    shared.before[thread] = before;
  }
  __host__ __device__ void WriteGradient(int64_t row, int thread, float top, double sum) const {
    const double scale = weights[row] > 0 ? static_cast<double>(gradient_scale) * weights[row] : 0;
    for (int vector = thread; vector < vectors; vector += kBlockThreads) {
      const Vector8 v = Load(row, vector);
      Vector8 d = {};
      for (int k = 0; k < kVector; ++k) {
        const int c = vector * kVector + k;
        if (c >= classes || scale == 0) continue;
        const double share = exp(static_cast<double>(v.value[k]) - top) / sum;
        d.value[k] = static_cast<float>(scale * (c == labels[row] ? share - 1 : share));
      }
      Store8(gradient + row * vectors * kVector, static_cast<uint32_t>(vector), d);
    }
  }
  __host__ __device__ void Finish(int64_t row, float top, double sum, int before) const {
    const bool counted = weights[row] > 0;
    rows[row] = {counted ? log(sum) - (static_cast<double>(LabelLogit(row)) - top) : 0, before, counted ? 1 : 0};
  }
};

// One thread: a fixed order, and no more than some hundred rows.
struct Sums {
  const RowLoss* rows;
  int count;
  DeviceLoss* loss;

  __host__ __device__ void operator()(int64_t) const {
    DeviceLoss sums = *loss;
    for (int n = 0; n < count; ++n) {
      const RowLoss row = rows[n];
      if (row.counted == 0) continue;
      ++sums.images;
      sums.loss += row.loss;
      const bool finite = fabs(row.loss) < INFINITY;
      sums.nonfinite += finite ? 0 : 1;
      sums.top1_correct += finite && row.before == 0 ? 1 : 0;
      sums.top5_correct += finite && row.before < kTop ? 1 : 0;
    }
    *loss = sums;
  }
};

template <class T>
struct Unpack {
  const T* logits;
  float* out;
  Divisor classes;
  int stored;

  __host__ __device__ void operator()(int64_t i) const {
    auto c = static_cast<uint32_t>(i);
    const uint32_t row = classes.Split(c);
    out[i] = ToFloat(logits[int64_t{row} * stored + c]);
  }
};

}  // namespace

void SoftmaxLoss(cudaStream_t stream, const Map& logits, const int32_t* labels, const float* weights, float gradient_scale,
                 const Map& gradient, RowLoss* rows, DeviceLoss* loss) {
  const MapShape& s = logits.shape;
  CheckedVectors(logits, "SoftmaxLoss");
  CheckHolds(s.h == 1 && s.w == 1 && (rows != nullptr) == (loss != nullptr), "SoftmaxLoss",
             "logits are one pixel, rows go with loss");
  if (gradient.data != nullptr) CheckedVectors(logits, gradient, "SoftmaxLoss");
  ForType(logits.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchBlocks(stream, s.n,
                 Row<T>{Data<T>(logits), labels, weights, gradient_scale, Data<T>(gradient), rows, s.channels, s.stored / kVector});
  });
  if (loss != nullptr) LaunchEach(stream, 1, Sums{rows, s.n, loss});
}

void LogitsToFloat(cudaStream_t stream, const Map& logits, float* out) {
  const MapShape& s = logits.shape;
  CheckedVectors(logits, "LogitsToFloat");
  CheckHolds(s.h == 1 && s.w == 1, "LogitsToFloat", "logits are one pixel");
  ForType(logits.type, [&](auto zero) {
    using T = decltype(zero);
    LaunchEach(stream, int64_t{s.n} * s.channels, Unpack<T>{Data<T>(logits), out, Divisor(s.channels), s.stored});
  });
}

}  // namespace plateau::cuda
