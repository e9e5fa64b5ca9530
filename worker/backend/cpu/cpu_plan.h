// A network of compiled layers over one arena: the CPU engine's Plan.
#pragma once

#include <memory>
#include <vector>

#include "worker/backend/cpu/cpu_context.h"
#include "worker/backend/cpu/cpu_layer.h"
#include "worker/backend/cpu/map_reorder.h"
#include "worker/nn/memory_plan.h"

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
  // One use of a layer's output: input `which` of layer `layer`. Its gradient is a buffer of its own, unless the layer passes its
  // output's gradient on as it is.
  struct Consumer {
    int layer = 0, which = 0;
    bool shares = false;
    int gradient = -1;  // number of uses_
  };
  // A layer's gradient is the sum of what its consumers, and the loss when it is a head, make: in backward order, in one pass that
  // also puts it through the layer's ReLU. The gradient behind a ReLU whose output only a max pool reads is masked there, where it
  // is smaller.
  struct Node {
    std::unique_ptr<CpuLayer> layer;  // null for one that this plan leaves out
    std::vector<Consumer> consumers;  // forward order
    size_t output_count = 0;          // values, padding included
    bool backward = false;            // has a gradient
    bool mask_gradient = false;
    float mask_scale = 1;
    bool drop_gradient = false;  // draws its dropout mask again
    int output = -1, workspace = -1, loss_gradient = -1;
    int gradient = -1;  // the sum: one of the parts, a buffer of its own, or another layer's that is shared
    bool combine = false;
  };
  static constexpr size_t kMaxParts = 64;  // of a gradient
  struct Head {
    int layer = 0;
    double loss_weight = 1;
  };
  void BuildLayers(const std::vector<LayerShape>& shapes);
  void LinkConsumers();
  void PlanMasks();
  void PlanMemory();
  void PlanGradient(int layer);
  void ShareGradients();
  void BindBuffers();
  void BindLayer(int layer);
  int AddUse(size_t bytes, int first, int last);

  void RequireOwner(const char* call, bool backward) const;
  void CheckLane(const LaneBatch& lane) const;
  void SetRows(const LaneBatch& lane);
  bool ReadsLearned(int layer) const;
  void RunLayer(int layer);
  void CopyLogits();
  void DropRows(int layer, float* map) const;
  void CombineGradient(int layer);
  void WeighStatistics(int layer);
  bool InputsFinite(const LaneBatch& lane) const;
  bool WeightsFinite(int layer) const;
  const float* OutputOf(int layer) const;
  float* Buffer(int use) const;
  const LayerDef& Def(int layer) const { return context_.network.layers[static_cast<size_t>(layer)]; }
  int layer_count() const { return static_cast<int>(nodes_.size()); }
  bool OwnLogits(int layer) const { return layer + 1 == layer_count() && !logits_reorder_; }
  // Moments of the liveness plan: forward of layer l at l, the loss at layer_count, then two for each layer of the backward pass.
  int DataMoment(int layer) const { return layer_count() + 1 + 2 * (layer_count() - 1 - layer); }

  CpuContext& context_;
  PlanOptions options_;
  int classes_;
  std::vector<Node> nodes_;
  std::vector<Head> heads_;  // the last layer first
  std::vector<int> backward_layers_;
  std::vector<int> image_readers_;
  bool has_batch_norm_ = false;
  std::vector<BufferUse> uses_;
  MemoryPlan memory_;
  int scratchpad_ = -1;
  HugeBuffer logits_;
  MapReorder logits_reorder_;  // only when the last layer's output does not lie as [batch, classes]
  std::vector<double> row_losses_;
  std::vector<double> forward_seconds_;
  const float* images_ = nullptr;
  std::span<const uint64_t> sample_index_;  // of the lane under way
  uint64_t step_ = 0;
  float share_ = 1;  // of the lane's samples in the global batch
  int rows_ = 0;     // samples of the lane, padding left out
  int bound_generation_ = -1;
  bool loss_done_ = false;
  bool hidden_finite_ = true;
};

}  // namespace plateau
