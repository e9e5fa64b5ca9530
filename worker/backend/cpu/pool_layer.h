// Max and average pooling; a max pool in training keeps each window's winner in a workspace.
#pragma once

#include "worker/backend/cpu/cpu_layer.h"

namespace plateau {

struct PoolSetup {
  dnnl::memory::desc input;
  int out_height = 0, out_width = 0;
  int kernel_height = 2, kernel_width = 2, stride = 2, pad = 0;
  bool average = false;
  bool training = false;
};

// x [N,C,H,W]  y [N,C,P,Q]. Rows and columns beyond the last window are left out; a window that reaches over the border, by padding
// or because the last one only begins inside (ceil_mode), takes the maximum or the mean of the pixels inside the map: an average
// divides by their number.
class PoolLayer final : public CpuLayer {
 public:
  PoolLayer(const dnnl::engine& engine, const PoolSetup& setup);
  const dnnl::memory::desc& output() const override { return output_; }
  size_t scratchpad_bytes() const override { return scratchpad_bytes_; }
  size_t workspace_bytes() const override { return workspace_bytes_; }
  void Bind(const LayerBuffers& buffers) override;
  void Forward(dnnl::stream& stream) override { forward_.Run(stream); }
  void BackwardData(dnnl::stream& stream) override { backward_.Run(stream); }
  std::vector<std::string> algorithms() const override { return {}; }

 private:
  PreparedPass forward_, backward_;
  dnnl::memory::desc output_;
  size_t scratchpad_bytes_ = 0, workspace_bytes_ = 0;
};

}  // namespace plateau
