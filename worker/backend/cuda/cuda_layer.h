// One layer prepared for fixed shapes: its operators, over maps that the plan binds.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/backend/cuda/cuda_context.h"
#include "worker/backend/cuda/kernels/types.h"
#include "worker/nn/device_plan.h"

namespace plateau::cuda {

// In the arena, in the order of LayerDef::inputs.
struct LayerMaps {
  std::vector<Map> inputs;
  Map output;
  Map output_gradient;               // data null where there is no backward pass
  std::vector<Map> input_gradients;  // data null where none is wanted, or where it is the output's as it lies
  void* workspace = nullptr;         // workspace_bytes(), during a call
  uint8_t* winners = nullptr;        // of a max pool
  float* statistics = nullptr;       // of batch norm: mean, then variance
  // Of a convolution whose reader is a max pool that met its ReLU: the pool's gradient and winners.
  Map pool_gradient;
  const uint8_t* pool_winners = nullptr;
};

// What changes from lane to lane.
struct LaneFigures {
  int rows = 0;     // samples, padding left out
  float share = 1;  // of the lane's samples in the global batch
  int32_t* nonfinite = nullptr;  // raised by passes that come by a NaN or an infinity; null: do not look
};

// What a layer's setup follows from.
struct LayerPlace {
  CudaContext& context;
  const DevicePlan& plan;
  int layer;

  const LayerDef& def() const { return context.network.layers[static_cast<size_t>(layer)]; }
  const DeviceLayer& at() const { return plan.layers[static_cast<size_t>(layer)]; }
  int parameter() const { return context.first_parameter[static_cast<size_t>(layer)]; }
  const DeviceMap& in(int which = 0) const {
    const int input = def().inputs[static_cast<size_t>(which)];
    return input < 0 ? plan.input : plan.layers[static_cast<size_t>(input)].output;
  }
  // Whether the ReLU of the input is met in this layer's data pass.
  bool meets_relu() const {
    const int input = def().inputs[0];
    return input >= 0 && plan.layers[static_cast<size_t>(input)].mask == GradientMask::kReader;
  }
};

inline MapShape ShapeOf(const DeviceMap& map, int batch) { return {batch, map.height, map.width, map.channels, map.stored}; }

// Calls are queued on the libraries' stream. One thread at a time; errors throw Failure.
class CudaLayer {
 public:
  virtual ~CudaLayer() = default;
  virtual size_t workspace_bytes() const { return 0; }
  void Bind(LayerMaps maps) { maps_ = std::move(maps); }
  // Ends with the layer's ReLU; dropout is the plan's.
  virtual void Forward(const LaneFigures& lane) = 0;
  // Reads the output gradient, which is already behind the layer's own ReLU unless that is met further on; overwrites the input
  // gradients.
  virtual void BackwardData(const LaneFigures& lane) = 0;
  // Overwrites the parameters' gradients.
  virtual void BackwardWeights(const LaneFigures&) {}
  virtual std::vector<std::string> algorithms() const { return {}; }  // "conv3_1 forward engine 34 ...", one a pass

 protected:
  LayerMaps maps_;
};

// Throws Failure, naming the layer, when no implementation takes it.
std::unique_ptr<CudaLayer> MakeLayer(const LayerPlace& place);
std::unique_ptr<CudaLayer> MakeProductLayer(const LayerPlace& place);  // convolution and fully connected
std::unique_ptr<CudaLayer> MakeMapLayer(const LayerPlace& place);      // the others

// out = the sum of any number of maps of one shape, which may hold out; otherwise as SumMaps.
void SumAll(cudaStream_t stream, std::vector<Map> parts, bool relu, const Map& mask, const Map& out, int32_t* nonfinite);

}  // namespace plateau::cuda
