// A network of prepared operators over one arena: the CUDA engine's Plan, and what a trainer enqueues of it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "worker/backend/cuda/cuda_context.h"
#include "worker/backend/cuda/kernels/types.h"
#include "worker/nn/device_plan.h"

namespace plateau::cuda {

class CudaLayer;
struct LaneFigures;

// One lane's samples in device memory, all of `batch` rows; borrowed until the lane's backward pass has run.
struct DeviceRows {
  // Either [batch, C, H, W], normalised floats, or as many bytes with the scale of each row; needed only until the forward pass has
  // begun. All null: the caller has queued a kernel that writes CudaPlan::input() itself.
  const float* images = nullptr;
  const uint8_t* pixels = nullptr;
  const PixelScale* scales = nullptr;
  const int32_t* labels = nullptr;
  const float* weights = nullptr;         // 1, or 0 for padding
  const uint64_t* sample_index = nullptr;  // training
  int rows = 0;  // samples before the padding, which comes last where there is batch norm; a value of the host, fixed by a capture
  // First lane of a step: lowers hidden_nonfinite and looks at the weights. Later lanes of the step add to what it saw.
  bool first = true;
};

// Refuses labels that no class has, where the weight is not 0, by Failure (kInvalidInput): kernels do not look.
void RequireLabels(std::span<const int32_t> labels, std::span<const float> weights, int classes);

// The calls of Plan drive it from the host; the calls named Enqueue and Claim are for a trainer. One thread at a time.
class CudaPlan final : public Plan {
 public:
  // Prepares every operator, timing candidates on the device where choices are not on record, and reserves memory. Throws Failure.
  // `shapes` are InferShapes of the plan's input.
  CudaPlan(CudaContext& context, const PlanOptions& options, const std::vector<LayerShape>& shapes);
  ~CudaPlan() override;

  const PlanOptions& options() const override { return layout_.options; }
  void Forward(const LaneBatch& lane, uint64_t step) override;
  LossSums Loss(const LaneBatch& lane, int global_batch) override;
  const std::vector<int>& backward_layers() const override { return layout_.backward_layers; }
  void BackwardData(int layer) override;     // queued
  void BackwardWeights(int layer) override;  // queued; ParameterStore::FetchGradients brings them to the host
  bool HiddenFinite() const override;
  std::span<const float> logits() const override;
  std::string FirstNonFiniteLayer(const LaneBatch& lane, uint64_t step) override;
  std::span<const double> forward_seconds() const override;
  std::vector<PassSeconds> pass_seconds() const override;
  std::vector<std::string> algorithms() const override;

  // ---- for a trainer. All work goes to libraries().stream() in the order of the calls and may be captured into a graph: nothing
  // waits, nothing is allocated. Per lane: EnqueueForward, EnqueueLoss, then for every layer, last to first, EnqueueBackwardData and
  // EnqueueBackwardWeights.
  // `scalars` in device memory: the step, for dropout.
  void EnqueueForward(const DeviceRows& rows, const StepScalars* scalars);
  // Adds the main head's sums to *loss (device memory, the caller zeroes it) and, training, forms the gradients of all heads' logits,
  // times `gradient_scale` = 1 / global batch. `rows` as of the Forward.
  void EnqueueLoss(const DeviceRows& rows, float gradient_scale, DeviceLoss* loss);
  void EnqueueBackwardData(int layer);
  // Overwrites the gradients of the layer's parameters: CudaParameterStore::gradient_at.
  void EnqueueBackwardWeights(int layer);
  // Device memory: 1 when since the last `first` Forward an image of floats, a weight or a parameter's gradient was NaN or infinite. What
  // is hidden behind a ReLU shows in these: a layer's gradient is a product with all its inputs, and 0 * infinity is NaN.
  int32_t* hidden_nonfinite() const;
  // The map that the first layers read, valid while generation() stays.
  Map input() const;
  // Captured work stays good while this does: it changes when memory of the engine moves, which only Compile of another plan does.
  int generation() const;
  // To be called before launching captured work of this plan: the values in the shared memory become this plan's.
  void Claim();

  // Memory that the device may still work on, and may not be waited for: it goes later, see CudaContext.
  void Leave(std::shared_ptr<void> memory) { context_.left.push_back(std::move(memory)); }

  CudaParameterStore& parameters() const { return *context_.parameters; }
  Libraries& libraries() const { return *context_.libraries; }
  const Network& network() const { return context_.network; }
  const EngineOptions& engine_options() const { return context_.options; }
  const DevicePlan& layout() const { return layout_; }
  int64_t image_values() const { return int64_t{network().channels} * options().height * options().width; }  // of one row
  size_t arena_bytes() const { return context_.arena.buffer.bytes(); }  // shared: as large as the largest plan's
  size_t workspace_bytes() const { return workspace_bytes_; }           // that this plan takes of the shared one
  size_t rows_bytes() const;

 private:
  struct Small;   // buffers of a row or a figure, and their copies on the host
  struct Timing;  // events around the passes that the host drives

  void Bind();
  void BindLayer(int layer);
  void Begin(const DeviceRows& rows, const StepScalars* scalars);
  void RunLayer(int layer);
  void RunBackwardData(int layer);
  void RunBackwardWeights(int layer);
  void CombineGradient(int layer);
  // A layer's parameters, or their gradients.
  void FlagParameters(int layer, const float* flat);
  bool Raised() const;
  void CheckLane(const LaneBatch& lane) const;
  void RequireOwner(const char* call, bool backward) const;
  DeviceRows Upload(const LaneBatch& lane, uint64_t step);
  LaneFigures Figures() const;
  cudaStream_t stream() const { return context_.libraries->stream().get(); }
  std::byte* Buffer(int use) const;
  Map MapAt(const DeviceMap& shape, int use) const;
  Map Output(int layer) const { return layer < 0 ? input() : MapAt(At(layer).output, At(layer).value); }
  Map Gradient(int layer) const { return MapAt(At(layer).output, At(layer).gradient); }
  const LayerDef& Def(int layer) const { return context_.network.layers[static_cast<size_t>(layer)]; }
  const DeviceLayer& At(int layer) const { return layout_.layers[static_cast<size_t>(layer)]; }
  int layer_count() const { return static_cast<int>(layout_.layers.size()); }
  int classes() const { return layout_.layers.back().output.channels; }

  CudaContext& context_;
  DevicePlan layout_;
  std::vector<std::unique_ptr<CudaLayer>> layers_;  // null for those left out
  size_t workspace_bytes_ = 0;
  std::unique_ptr<Small> small_;
  std::unique_ptr<Timing> timing_;
  int bound_generation_ = -1;
  bool loss_done_ = false;
  // Of the last Forward, and of its Loss.
  DeviceRows rows_;
  const StepScalars* scalars_ = nullptr;
  float share_ = 1;
};

}  // namespace plateau::cuda
