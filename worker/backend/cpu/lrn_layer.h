// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3).
#pragma once

#include "worker/backend/cpu/cpu_layer.h"
#include "worker/model/network.h"

namespace plateau {

struct LrnSetup {
  dnnl::memory::desc input;
  LrnDef lrn;
  bool training = false;
};

// x, y [N,C,H,W]; y = x / (k + alpha * sum of x^2 over `size` channels around)^beta. The sum is not divided by `size`.
class LrnLayer final : public CpuLayer {
 public:
  LrnLayer(const dnnl::engine& engine, const LrnSetup& setup);
  const dnnl::memory::desc& output() const override { return output_; }
  size_t scratchpad_bytes() const override { return scratchpad_bytes_; }
  size_t workspace_bytes() const override { return workspace_bytes_; }
  bool keeps_inputs() const override { return true; }
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
