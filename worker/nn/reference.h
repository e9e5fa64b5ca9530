// Naive double-precision loops for every operator, forward and backward: what the engines are held against.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/model/network.h"
#include "worker/nn/parameter.h"
#include "worker/nn/plan.h"

namespace plateau::reference {

// A dense [n, c, h, w] array in canonical order.
struct Map {
  int n = 0, c = 0, h = 1, w = 1;
  std::vector<double> values;

  Map() = default;
  Map(int n, int c, int h, int w) : n(n), c(c), h(h), w(w), values(static_cast<size_t>(n) * c * h * w) {}
  double& at(int in, int ic, int ih, int iw) { return values[((static_cast<size_t>(in) * c + ic) * h + ih) * w + iw]; }
  double at(int in, int ic, int ih, int iw) const { return values[((static_cast<size_t>(in) * c + ic) * h + ih) * w + iw]; }
};

struct Window {
  int kernel = 3, stride = 1, pad = 1;
  bool ceil_mode = false;  // pools: a window that begins inside the map counts even if it ends outside
};

// x [N,C,H,W]  w [K,C,R,R]  b [K]  y [N,K,P,Q]
Map ConvForward(const Map& x, const Map& w, const std::vector<double>& b, const Window& window);
Map ConvBackwardData(const Map& dy, const Map& w, const Map& x, const Window& window);  // x only for its shape
struct WeightGradients {
  Map w;
  std::vector<double> b;
};
WeightGradients ConvBackwardWeights(const Map& dy, const Map& x, const Map& w, const Window& window);  // w only for its shape

// Windows along a side of `in` pixels.
int WindowCount(int in, const Window& window);
// Max pool; equal values: the first in row order wins.
Map PoolForward(const Map& x, const Window& window);
Map PoolBackward(const Map& dy, const Map& x, const Window& window);

// Mean of the window's pixels inside the map. `kernel` 0: one window over the whole map.
Map AveragePoolForward(const Map& x, const Window& window);
Map AveragePoolBackward(const Map& dy, const Map& x, const Window& window);  // x only for its shape

// y = x / (k + alpha * sum of x^2 over `size` channels around)^beta
Map LrnForward(const Map& x, const LrnDef& lrn);
Map LrnBackward(const Map& dy, const Map& x, const LrnDef& lrn);

// Mean and biased variance of each channel over the first `rows` samples; `count` values each.
struct ChannelStatistics {
  std::vector<double> mean, variance;
  int64_t count = 0;
};
ChannelStatistics BatchStatistics(const Map& x, int rows);
// y = scale * (x - mean) / sqrt(variance + epsilon) + shift
Map BatchNormForward(const Map& x, const std::vector<double>& scale, const std::vector<double>& shift,
                     const ChannelStatistics& statistics, double epsilon);
// With the statistics of x's own first `rows` samples, which depend on x; the gradient of other rows is zero.
struct BatchNormGradients {
  Map x;
  std::vector<double> scale, shift;
};
BatchNormGradients BatchNormBackward(const Map& dy, const Map& x, const std::vector<double>& scale, int rows, double epsilon);

// Channels of all inputs behind each other, and the part of a gradient from channel `first` on, as wide as x.
Map Concat(const std::vector<const Map*>& inputs);
Map ConcatBackward(const Map& dy, const Map& x, int first);  // x only for its shape
Map Add(const std::vector<const Map*>& inputs);

// x [N,C,H,W] read as [N, C*H*W]  w [O, C*H*W, 1, 1]  y [N,O,1,1]
Map FcForward(const Map& x, const Map& w, const std::vector<double>& b);
Map FcBackwardData(const Map& dy, const Map& w, const Map& x);
WeightGradients FcBackwardWeights(const Map& dy, const Map& x, const Map& w);

void Relu(Map& y);
void ReluBackward(const Map& y, Map& dy);  // y is the ReLU's output
// Multiplies kept units by 1 / (1 - rate), zeroes the others; the same call is its backward. By DropoutWord of each sample.
void Dropout(Map& y, double rate, int layer, uint64_t seed, uint64_t step, std::span<const uint64_t> sample_index);

// Mean-form soft-max loss: sum of weight * -log p(label); gradient divided by `global_batch`.
struct LossResult {
  double loss = 0;
  Map gradient;
};
LossResult SoftmaxLoss(const Map& logits, std::span<const int32_t> labels, std::span<const float> weights, int global_batch);

// A whole network, forward and backward. `parameters` and the gradients are canonical, in ListParameters order; a running average's
// gradient as Plan::BackwardWeights gives it. Training includes the auxiliary heads: `loss` is the main head's, the gradients are
// of all. Rows of weight 0 come last when there is batch norm.
struct NetworkResult {
  Map logits;
  double loss = 0;
  std::vector<std::vector<double>> gradients;  // empty when batch norm took its running averages
};
NetworkResult RunNetwork(const Network& network, const std::vector<std::vector<double>>& parameters, const LaneBatch& lane,
                         int height, int width, int global_batch, bool training, uint64_t seed, uint64_t step);

}  // namespace plateau::reference
