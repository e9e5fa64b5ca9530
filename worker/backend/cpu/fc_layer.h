// Fully connected layer with optional bias and fused ReLU. A blocked map before it is read as it lies: the weights carry the
// permutation.
#pragma once

#include "worker/backend/cpu/cpu_layer.h"
#include "worker/backend/cpu/map_reorder.h"

namespace plateau {

struct FcSetup {
  int batch = 1;
  int64_t inputs = 0, outputs = 0;
  bool bias = true;
  bool relu = false;
  bool training = false;
  bool data_gradient = true;  // false for a layer that reads the images
  // When the map before lies in another order than the weights expect: how it lies, and the dense order to bring it into. Else
  // zero.
  dnnl::memory::desc map, flat;
};

// x [N,I]  w [O,I]  b [O]  y [N,O] = relu(x w' + b). Parameter `bias` counts only with setup.bias.
class FcLayer final : public CpuLayer {
 public:
  FcLayer(const dnnl::engine& engine, CpuParameterStore& store, int weight, int bias, const FcSetup& setup);
  static dnnl::memory::desc NativeWeights(const dnnl::engine& engine, const FcSetup& setup);

  const dnnl::memory::desc& output() const override { return output_; }
  size_t scratchpad_bytes() const override { return scratchpad_bytes_ + (unflatten_ ? flat_bytes_ : 0); }
  size_t workspace_bytes() const override { return flat_bytes_; }
  bool keeps_inputs() const override { return true; }
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
  // Only for a map in another order: the flat copy lies in the workspace, its gradient behind the scratchpad.
  MapReorder flatten_, unflatten_;
  size_t flat_bytes_ = 0;
  LayerBuffers buffers_;
  float* flat_gradient_ = nullptr;
};

// How a layer's output lies when read as one row a sample: the channel block of a blocked map (1 for plain C,H,W, and for a map
// of one pixel, which is the same either way). 0 when the rows are not dense, as when the channels do not fill their last block.
int FlatChannelBlock(const dnnl::memory::desc& map);
// A dense map of the dimensions of `map` in that order.
dnnl::memory::desc FlatMap(const dnnl::memory::desc& map, int channel_block);

}  // namespace plateau
