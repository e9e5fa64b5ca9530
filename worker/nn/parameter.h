// Weights, momentum and gradients of a network: they live outside every Plan and are shared by all of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/model/network.h"

namespace plateau {

enum class ParameterRole { kWeight, kBias, kScale, kShift, kRunningMean, kRunningVariance };

// One tensor of a checkpoint. Canonical shapes: convolution weight [out, in, height, width]; fully connected weight [out, in] with
// `in` in C,H,W order of the map before it; everything else [channels]. Batch norm has a scale ("bn1.weight"), a shift ("bn1.bias")
// and the running averages ("bn1.running_mean", "bn1.running_var"), which no gradient of the loss moves.
struct ParameterInfo {
  std::string name;            // "conv1_1.weight", "fc6.bias"
  std::vector<int64_t> shape;  // canonical
  int layer = 0;               // index in Network::layers, forward order
  ParameterRole role = ParameterRole::kWeight;
  int64_t fan_in = 0, fan_out = 0;
  double average_momentum = 0;  // of a running average: the share that a step's batch takes in it
  // Moved by SGD. A running average is not: its momentum stays zero, and its gradient is what a plan's lane adds to the average
  // over the global batch, so that reducing gradients also averages batch statistics over lanes and ranks.
  bool learned() const { return role != ParameterRole::kRunningMean && role != ParameterRole::kRunningVariance; }
  // Exempt from decay when weight_decay_bias is false: biases and batch norm's parameters.
  bool decays_as_bias() const { return role != ParameterRole::kWeight; }
  int64_t CanonicalCount() const;
};

// Every tensor in forward order, a layer's in the order of ParameterRole. `shapes` as InferShapes gives them for the training
// crop.
std::vector<ParameterInfo> ListParameters(const Network& network, const std::vector<LayerShape>& shapes);

// Owner of the flat fp32 buffers. Values are in a native layout chosen by the backend, the same for weight, momentum and gradient,
// perhaps padded with zeros that stay zero under SGD. Allocated once. Access from the training thread only, unless
// said otherwise.
class ParameterStore {
 public:
  virtual ~ParameterStore() = default;
  virtual int count() const = 0;
  virtual const ParameterInfo& info(int parameter) const = 0;
  virtual std::span<float> weight(int parameter) = 0;
  virtual std::span<float> momentum(int parameter) = 0;
  virtual std::span<float> gradient(int parameter) = 0;
  // Native -> canonical and back, for checkpoints, tests and exchange; `canonical` has info().CanonicalCount() values.
  virtual void ToCanonical(int parameter, std::span<const float> native, std::span<float> canonical) = 0;
  virtual void FromCanonical(int parameter, std::span<const float> canonical, std::span<float> native) = 0;
  // As ToCanonical, for whole rows (indices of the first dimension) from `first_row` on, as many as `canonical` holds. Any thread;
  // uses no other.
  virtual void RowsToCanonical(int parameter, std::span<const float> native, int64_t first_row,
                               std::span<float> canonical) const = 0;
  // To be called after writing weights or momenta: plans may hold derived copies, such as another layout or those on a device.
  virtual void WeightsChanged() = 0;
  // To be called before reading what training made: an engine on a device keeps weights and momenta there, and the spans are its
  // host's copy. Blocks until the device has done what was queued.
  virtual void Fetch() {}
  // The same for gradients of plans that the host drives, for tests and probes.
  virtual void FetchGradients() {}
};

}  // namespace plateau
