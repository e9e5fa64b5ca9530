// Puts maps of one height and width behind each other, channel after channel.
#pragma once

#include "worker/backend/cpu/cpu_layer.h"
#include "worker/backend/cpu/map_reorder.h"

namespace plateau {

struct ConcatSetup {
  std::vector<dnnl::memory::desc> inputs;
  bool training = false;
};

// x_i [N,C_i,H,W]  y [N, sum of C_i, H, W]. The output is blocked by channels when every input fills whole blocks of one size, else
// plain.
class ConcatLayer final : public CpuLayer {
 public:
  ConcatLayer(const dnnl::engine& engine, const ConcatSetup& setup);
  const dnnl::memory::desc& output() const override { return output_; }
  size_t scratchpad_bytes() const override { return 0; }
  void Bind(const LayerBuffers& buffers) override { buffers_ = buffers; }
  void Forward(dnnl::stream& stream) override;
  void BackwardData(dnnl::stream& stream) override;
  std::vector<std::string> algorithms() const override { return {}; }

 private:
  dnnl::memory::desc output_;
  std::vector<MapReorder> in_, out_;  // input to its part of the output, and the part's gradient back
  LayerBuffers buffers_;
};

}  // namespace plateau
