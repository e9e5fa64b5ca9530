// What a network costs: shapes, parameters, multiply-adds and memory, layer by layer.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/model/network.h"

namespace plateau {

struct LayerCost {
  LayerShape output;
  int64_t params = 0;        // weights and biases
  int64_t macs = 0;          // multiply-adds of one image; bias adds are not counted
  int64_t output_bytes = 0;  // float32, one image
};

// One entry a layer of network.layers. Errors as InferShapes.
Result<std::vector<LayerCost>> CountCosts(const Network& network, int height, int width);
// Floating-point operations of one trained image: forward, data gradients (none for the first layer) and weight gradients, 2 a
// multiply-add.
double TrainFlops(const std::vector<LayerCost>& costs);

}  // namespace plateau
