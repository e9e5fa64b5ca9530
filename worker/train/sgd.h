// Stochastic gradient descent with momentum and weight decay, as Caffe defines it.
#pragma once

#include <span>

#include "worker/nn/parameter.h"
#include "worker/train/reducer.h"

namespace plateau {

struct SgdOptions {
  double momentum = 0.9;
  double weight_decay = 5e-4;
  bool decay_biases = true;  // recipe: L2 on weights and biases alike
  int threads = 1;
};

// v = momentum * v - lr * (g + weight_decay * w); w += v (reference: Caffe's SGDSolver; recipe.md, Training).
// One pass over n values; any thread count gives the same bits. False when a new weight is a NaN or infinity.
bool SgdUpdate(std::span<float> w, std::span<float> v, std::span<const float> g, float lr, float momentum, float weight_decay,
               int threads);

// average = (1 - momentum) * average + momentum * batch: batch norm's running averages (Ioffe & Szegedy 2015; momentum as PyTorch
// means it). False when a new value is a NaN or infinity.
bool AverageUpdate(std::span<float> average, std::span<const float> batch, float momentum);

// Applies the reducer's sums (means over the global batch) to every parameter and tells the plans. Running averages move towards
// theirs, without rate, decay or momentum.
class Sgd {
 public:
  Sgd(ParameterStore& parameters, const SgdOptions& options) : parameters_(parameters), options_(options) {}
  // Number of the first parameter that is no longer finite, or -1. The same on all ranks, because their weights are.
  int Update(const GradientReducer& reducer, double lr);

 private:
  ParameterStore& parameters_;
  SgdOptions options_;
};

}  // namespace plateau
