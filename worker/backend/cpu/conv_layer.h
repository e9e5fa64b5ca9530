// Convolution with optional bias and fused ReLU: direct or Winograd, chosen a pass.
#pragma once

#include <array>

#include "worker/backend/cpu/conv_rule.h"
#include "worker/backend/cpu/cpu_layer.h"

namespace plateau {

struct ConvSetup {
  ConvShape shape;
  dnnl::memory::desc input;  // layout of the layer before
  bool bias = true;
  bool relu = false;
  bool training = false;
  bool data_gradient = true;  // false for a layer that reads the images
  ConvAlgorithm requested = ConvAlgorithm::kAuto;
  bool has_avx512 = true;
};

// x [N,C,H,W]  w [K,C,R,S]  b [K]  y [N,K,P,Q] = relu(x*w + b). Parameter `bias` counts only with setup.bias. Throws dnnl::error
// when no implementation takes the shape.
class ConvLayer final : public CpuLayer {
 public:
  ConvLayer(const dnnl::engine& engine, CpuParameterStore& store, int weight, int bias, const ConvSetup& setup);
  // The layout that a training pass of this shape gives its weight gradients.
  static dnnl::memory::desc NativeWeights(const dnnl::engine& engine, const ConvSetup& setup);
  static dnnl::memory::desc OutputDesc(const dnnl::engine& engine, const ConvSetup& setup);

  const dnnl::memory::desc& output() const override { return output_; }
  size_t scratchpad_bytes() const override { return scratchpad_bytes_; }
  bool keeps_inputs() const override { return true; }
  void Bind(const LayerBuffers& buffers) override;
  void Forward(dnnl::stream& stream) override;
  void BackwardData(dnnl::stream& stream) override;
  void BackwardWeights(dnnl::stream& stream) override;
  std::vector<std::string> algorithms() const override;

 private:
  PreparedPass forward_, backward_data_, backward_weights_;
  WeightUse forward_weight_, data_weight_;
  GradientSink weight_gradient_;
  dnnl::memory::desc output_;
  size_t scratchpad_bytes_ = 0;
};

}  // namespace plateau
