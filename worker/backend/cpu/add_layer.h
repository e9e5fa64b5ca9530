// Adds maps of one shape, with an optional ReLU behind the sum.
#pragma once

#include "worker/backend/cpu/cpu_layer.h"
#include "worker/backend/cpu/map_reorder.h"

namespace plateau {

struct AddSetup {
  std::vector<dnnl::memory::desc> inputs;
  bool relu = false;
  bool training = false;
  int threads = 1;
};

// x_i, y [N,C,H,W]; y = relu(x_0 + x_1 + ...), summed in that order. A NaN stays NaN. The output lies as the first input does; the
// gradient of every input that lies alike is the output's own.
class AddLayer final : public CpuLayer {
 public:
  AddLayer(const dnnl::engine& engine, const AddSetup& setup);
  const dnnl::memory::desc& output() const override { return setup_.inputs[0]; }
  size_t scratchpad_bytes() const override { return reordered_ * map_bytes_; }
  bool PassesGradient(int which) const override { return setup_.inputs[static_cast<size_t>(which)] == output(); }
  void Bind(const LayerBuffers& buffers) override;
  void Forward(dnnl::stream& stream) override;
  void BackwardData(dnnl::stream& stream) override;
  std::vector<std::string> algorithms() const override { return {}; }

 private:
  AddSetup setup_;
  std::vector<MapReorder> in_, back_;  // by input; `in_` only for those that lie differently
  size_t map_bytes_ = 0, reordered_ = 0;
  LayerBuffers buffers_;
  std::vector<const float*> terms_;  // the inputs, in the output's layout
};

}  // namespace plateau
