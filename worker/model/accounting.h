// What a network costs: shapes, parameters, multiply-adds, memory and receptive fields, layer by layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/model/network.h"

namespace plateau {

struct LayerCost {
  LayerShape output;
  int64_t params = 0;        // learned: weights, biases, batch norm's scale and shift
  int64_t macs = 0;          // multiply-adds of convolution and fully connected layers, one image; bias adds are not counted
  int64_t bias_adds = 0;     // one image
  int64_t compares = 0;      // of a max pool's windows, those at the border counted whole; one image
  int64_t output_bytes = 0;  // float32, one image
  int receptive_field = 1;   // side, in pixels of the input, that one output depends on; may reach into the padding
};

// One entry a layer of network.layers. Errors as InferShapes.
Result<std::vector<LayerCost>> CountCosts(const Network& network, int height, int width);
// Floating-point operations of one trained image: forward, data gradients (none for layers that read the input) and weight
// gradients, 2 a multiply-add; auxiliary classifiers are trained too.
double TrainFlops(const Network& network, const std::vector<LayerCost>& costs);

struct NetworkTotals {
  int64_t params = 0, macs = 0, bias_adds = 0, output_bytes = 0;  // auxiliary classifiers left out
  int weight_layers = 0;                                          // convolution and fully connected
  std::vector<int64_t> aux_params;                                // of each auxiliary classifier
  int64_t params_with_aux() const;
};
NetworkTotals SumCosts(const Network& network, const std::vector<LayerCost>& costs);

// "convolution", "max_pool", ...
const char* LayerKindName(LayerKind kind);
// Sums over the main path's layers of one kind, in the order of LayerKind; kinds that do not occur are left out.
struct KindShare {
  LayerKind kind = LayerKind::kConvolution;
  int layers = 0;
  int64_t params = 0, macs = 0, output_bytes = 0;
};
std::vector<KindShare> SharesByKind(const Network& network, const std::vector<LayerCost>& costs);

// Bytes that training a batch needs at least, auxiliary classifiers included: an estimate from the table, not a measurement.
struct TrainingMemory {
  int64_t parameters = 0;   // weights, gradients and momentum; bf16 adds a compute copy of the weights
  int64_t activations = 0;  // the input and every layer's output, kept for the backward pass
  int64_t gradients = 0;    // between layers: the largest layer's inputs and output
  int64_t total() const { return parameters + activations + gradients; }
};
enum class SummaryPrecision { kFp32, kBf16 };
TrainingMemory EstimateTrainingMemory(const Network& network, const std::vector<LayerCost>& costs, int height, int width, int batch,
                                      SummaryPrecision precision);

}  // namespace plateau
