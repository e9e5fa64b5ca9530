// The CUDA engine's weights, momenta and gradients: flat buffers on the device, and their copies on the host.
#pragma once

#include <vector>

#include "worker/backend/cuda/libraries.h"
#include "worker/nn/device_plan.h"
#include "worker/nn/parameter.h"

namespace plateau::cuda {

// On the device: one flat float buffer each of weights, momenta and gradients, all cut alike (DeviceParameters), and for bf16 a copy
// of the weights in bf16, cut alike too. On the host: page-locked copies, the spans of ParameterStore. Weights live from the start;
// momenta and gradients from the first training plan, or the first call that asks for them.
class CudaParameterStore final : public ParameterStore {
 public:
  // Borrows `libraries`. Throws Failure, kUnavailable when memory is short.
  CudaParameterStore(Libraries& libraries, int threads, std::vector<ParameterInfo> infos, DeviceParameters layout);

  int count() const override { return static_cast<int>(infos_.size()); }
  const ParameterInfo& info(int parameter) const override { return infos_[static_cast<size_t>(parameter)]; }
  std::span<float> weight(int parameter) override;
  std::span<float> momentum(int parameter) override;
  std::span<float> gradient(int parameter) override;
  void ToCanonical(int parameter, std::span<const float> native, std::span<float> canonical) override;
  void FromCanonical(int parameter, std::span<const float> canonical, std::span<float> native) override;
  void RowsToCanonical(int parameter, std::span<const float> native, int64_t first_row, std::span<float> canonical) const override;
  // Uploads weights and momenta, whole, and makes the bf16 copy anew: Fetch first where training has moved them. Blocks.
  void WeightsChanged() override;
  void Fetch() override;
  void FetchGradients() override;

  // ---- for plans and the trainer; device memory, work on it is ordered by libraries.stream()
  const DeviceLayout& layout(int parameter) const { return layout_.layouts[static_cast<size_t>(parameter)]; }
  // Parameters as they lie, front to end: what the backward pass finishes first stands first.
  const std::vector<int>& order() const { return layout_.order; }
  int64_t total() const { return layout_.total; }  // floats of each flat buffer, padding between parameters included
  float* weights() const { return weights_.as<float>(); }
  float* momenta() const { return momenta_.as<float>(); }      // null before EnsureTraining
  float* gradients() const { return gradients_.as<float>(); }  // null before EnsureTraining
  void* copy() const { return copy_.data(); }                  // null but for bf16
  float* weight_at(int parameter) const { return weights() + layout(parameter).begin; }
  float* gradient_at(int parameter) const { return gradients() + layout(parameter).begin; }
  // The weight as layers compute with it: in the map type.
  const void* map_weight_at(int parameter) const;
  // One span a parameter, in order(): span s is parameter order()[s]. Running averages carry their share instead of decay.
  std::vector<ParameterSpan> Spans(double weight_decay, bool decay_biases) const;
  // Allocates what training needs; addresses stay from then on. Throws as the constructor.
  void EnsureTraining();

 private:
  std::span<float> Mirror(const PinnedBuffer& buffer, int parameter) const;
  size_t bytes() const { return static_cast<size_t>(layout_.total) * sizeof(float); }

  Libraries& libraries_;
  int threads_;
  std::vector<ParameterInfo> infos_;
  DeviceParameters layout_;
  DeviceBuffer weights_, momenta_, gradients_, copy_;
  PinnedBuffer host_weights_, host_momenta_, host_gradients_;
};

}  // namespace plateau::cuda
