// Batch normalisation (Ioffe & Szegedy 2015) with an optional ReLU behind it.
#pragma once

#include <map>

#include "worker/backend/cpu/cpu_layer.h"

namespace plateau {

struct BatchNormSetup {
  dnnl::memory::desc input;
  double epsilon = 1e-5;
  bool relu = false;
  bool training = false;
  bool data_gradient = true;  // false for a layer that reads the images
};

// x, y [N,C,H,W]; y = relu(scale * (x - mean) / sqrt(variance + epsilon) + shift). Training takes mean and biased variance of the
// rows that SetRows names, over N, H and W; the rows behind them become zero, and so do their gradients: a padded batch computes
// what the batch without padding would. Otherwise they are the store's running averages. BackwardData forms all gradients and masks
// by the ReLU itself. BackwardWeights leaves the batch's mean and unbiased variance (divided by count - 1, as the running averages
// are kept; a single value counts as variance 0) in the gradients of the running averages.
class BatchNormLayer final : public CpuLayer {
 public:
  // Parameters from `scale` on: scale, shift, running mean, running variance.
  BatchNormLayer(const dnnl::engine& engine, CpuParameterStore& store, int scale, const BatchNormSetup& setup);
  const dnnl::memory::desc& output() const override { return setup_.input; }
  size_t scratchpad_bytes() const override { return passes_.scratchpad_bytes + spare_gradient_bytes_; }
  size_t workspace_bytes() const override { return passes_.workspace_bytes; }
  bool keeps_inputs() const override { return true; }
  void Bind(const LayerBuffers& buffers) override;
  void SetRows(int rows) override { rows_ = rows; }
  void Forward(dnnl::stream& stream) override;
  void BackwardData(dnnl::stream& stream) override;
  void BackwardWeights(dnnl::stream& stream) override;
  std::vector<std::string> algorithms() const override { return {}; }

 private:
  struct Passes {
    PreparedPass forward, backward;
    size_t scratchpad_bytes = 0, workspace_bytes = 0;
  };
  Passes Prepare(int rows, bool scratchpad_from_arena);
  void BindPasses(Passes& passes);
  Passes& Current();
  void ZeroPadding(float* map) const;

  dnnl::engine engine_;
  CpuParameterStore& store_;
  int scale_;
  BatchNormSetup setup_;
  int rows_;
  HugeBuffer statistics_;  // mean, then biased variance, of the last Forward
  size_t spare_gradient_bytes_ = 0;
  Passes passes_;                  // of the whole batch
  std::map<int, Passes> partial_;  // of fewer rows: a run has one such number at most, made at its first step
  LayerBuffers buffers_;
};

}  // namespace plateau
