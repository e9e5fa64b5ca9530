// Fully connected layer with bias and fused ReLU. A blocked map before it is read as it lies: the weights carry the permutation.
#pragma once

#include "worker/backend/cpu/cpu_layer.h"

namespace plateau {

struct FcSetup {
  int batch = 1;
  int64_t inputs = 0, outputs = 0;
  bool relu = false;
  bool training = false;
};

// x [N,I]  w [O,I]  b [O]  y [N,O] = relu(x w' + b)
class FcLayer final : public CpuLayer {
 public:
  FcLayer(const dnnl::engine& engine, CpuParameterStore& store, int weight, int bias, const FcSetup& setup);
  static dnnl::memory::desc NativeWeights(const dnnl::engine& engine, const FcSetup& setup);

  const dnnl::memory::desc& output() const override { return output_; }
  size_t scratchpad_bytes() const override { return scratchpad_bytes_; }
  void Bind(const LayerBuffers& buffers) override;
  void Forward(dnnl::stream& stream) override;
  void BackwardData(dnnl::stream& stream) override;
  void BackwardWeights(dnnl::stream& stream) override;
  std::vector<std::string> algorithms() const override { return {}; }

 private:
  PreparedPass forward_, backward_data_, backward_weights_;
  WeightUse forward_weight_, data_weight_;
  GradientSink weight_gradient_;
  dnnl::memory::desc output_;
  size_t scratchpad_bytes_ = 0;
};

// How a layer's output lies when read as one row a sample: the channel block of a blocked map (1 for plain C,H,W). 0 when the rows
// are not dense, which no VGG layer has.
int FlatChannelBlock(const dnnl::memory::desc& map);

}  // namespace plateau
