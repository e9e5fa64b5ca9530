// Max pooling; training keeps each window's winner in a workspace.
#pragma once

#include "worker/backend/cpu/cpu_layer.h"

namespace plateau {

struct PoolSetup {
  dnnl::memory::desc input;
  int out_height = 0, out_width = 0;
  int kernel = 2, stride = 2, pad = 0;
  bool training = false;
};

// x [N,C,H,W]  y [N,C,P,Q]. Rows and columns beyond the last whole window are left out (floor).
class PoolLayer final : public CpuLayer {
 public:
  PoolLayer(const dnnl::engine& engine, const PoolSetup& setup);
  const dnnl::memory::desc& output() const override { return output_; }
  size_t scratchpad_bytes() const override { return scratchpad_bytes_; }
  size_t workspace_bytes() const override { return workspace_bytes_; }
  void Bind(const LayerBuffers& buffers) override;
  void Forward(dnnl::stream& stream) override { forward_.Run(stream); }
  void BackwardData(dnnl::stream& stream) override { backward_.Run(stream); }
  std::vector<std::string> algorithms() const override;

 private:
  PreparedPass forward_, backward_;
  dnnl::memory::desc output_;
  size_t scratchpad_bytes_ = 0, workspace_bytes_ = 0;
};

}  // namespace plateau
