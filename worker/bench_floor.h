// The least time that a pass of a layer can take on a device: its bytes at the device's copy rate, or its operations at the rate of
// its matrix products, whichever is longer.
#pragma once

#include <vector>

#include "worker/nn/device_plan.h"

namespace plateau {

struct PassFloor {
  double flops = 0;  // 2 a multiply-add
  double bytes = 0;  // every tensor that the pass needs read once, every result written once
  bool runs = false;
  double Seconds(double flops_per_s, double bytes_per_s) const;
};

struct LayerFloor {
  PassFloor forward, data, weights;
};

// One entry a layer of a training plan; passes of the whole batch. `shapes` are InferShapes of the plan's input.
std::vector<LayerFloor> FloorsOf(const Network& network, const std::vector<LayerShape>& shapes, const DevicePlan& plan);

}  // namespace plateau
