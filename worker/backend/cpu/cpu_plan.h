// A chain of compiled layers over one arena: the CPU engine's Plan.
#pragma once

#include <memory>
#include <vector>

#include "worker/backend/cpu/cpu_context.h"
#include "worker/backend/cpu/cpu_layer.h"
#include "worker/backend/cpu/memory_plan.h"

namespace plateau {

class CpuPlan final : public Plan {
 public:
  // Throws dnnl::error or std::bad_alloc. `shapes` are InferShapes of the plan's input size.
  CpuPlan(CpuContext& context, const PlanOptions& options, const std::vector<LayerShape>& shapes);

  const PlanOptions& options() const override { return options_; }
  void Forward(const LaneBatch& lane, uint64_t step) override;
  LossSums Loss(const LaneBatch& lane, int global_batch) override;
  const std::vector<int>& backward_layers() const override { return backward_layers_; }
  void BackwardData(int layer) override;
  void BackwardWeights(int layer) override;
  bool HiddenFinite() const override { return hidden_finite_; }
  std::span<const float> logits() const override { return {logits_.floats(), static_cast<size_t>(options_.batch) * classes_}; }
  std::string FirstNonFiniteLayer(const LaneBatch& lane, uint64_t step) override;
  std::span<const double> forward_seconds() const override { return forward_seconds_; }
  std::vector<std::string> algorithms() const override;
  size_t arena_bytes() const { return memory_.total_bytes; }

 private:
  // Where the gradient of a layer's output is put through the ReLU: there, or, cheaper, behind the max pool that follows.
  struct Node {
    std::unique_ptr<CpuLayer> layer;
    size_t output_count = 0;  // values, padding included
    bool mask_gradient = false;
    float mask_scale = 1;
    int output = -1, gradient = -1, workspace = -1;  // numbers of uses_
  };
  void BuildLayers(const std::vector<LayerShape>& shapes);
  void PlanMasks();
  void PlanMemory();
  void BindBuffers();
  void RequireOwner(const char* call, bool backward) const;
  void CheckLane(const LaneBatch& lane) const;
  void RunLayer(int layer, const LaneBatch& lane, uint64_t step);
  void ApplyLayerDropout(int layer, const LaneBatch& lane, uint64_t step);
  bool InputsFinite(const LaneBatch& lane) const;
  bool WeightsFinite(int layer) const;
  float* Buffer(int use) const;
  int layer_count() const { return static_cast<int>(nodes_.size()); }
  // Moments of the liveness plan: forward of layer l at l, the loss at layer_count, then two for each layer of the backward pass.
  int DataMoment(int layer) const { return layer_count() + 1 + 2 * (layer_count() - 1 - layer); }

  CpuContext& context_;
  PlanOptions options_;
  int classes_;
  std::vector<Node> nodes_;
  std::vector<int> backward_layers_;
  std::vector<BufferUse> uses_;
  MemoryPlan memory_;
  int scratchpad_ = -1;
  HugeBuffer logits_;
  std::vector<double> row_losses_;
  std::vector<double> forward_seconds_;
  const float* images_ = nullptr;
  int bound_generation_ = -1;
  bool loss_done_ = false;
  bool hidden_finite_ = true;
};

}  // namespace plateau
