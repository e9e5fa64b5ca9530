// A network's accounting as text and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "worker/model/accounting.h"
#include "worker/nn/device_plan.h"

namespace plateau {

// What training takes on a CUDA device, predicted from the plan that its engine makes.
struct DevicePrediction {
  Precision precision = Precision::kBf16;
  DeviceMemory memory;
  double device_gib = 0;  // the question: which batch fits this much; 0: not asked
  int largest_batch = 0;
};

// A network at one input size, counted.
struct NetworkSummary {
  Network network;
  int height = 224, width = 224;
  int batch = 1;  // images of the memory figures
  std::vector<LayerCost> costs;
  std::optional<DevicePrediction> device;
};

// Everything; `macs` counts one image, `output_bytes` and `memory_kb` (1024 bytes) the batch in float32.
nlohmann::ordered_json SummaryJson(const NetworkSummary& summary);
// A line a layer, then totals, shares by kind of layer, and the memory of training.
std::string SummaryText(const NetworkSummary& summary);
// Networks beside each other; ratios are to the last one.
std::string ComparisonText(const std::vector<NetworkSummary>& summaries);

}  // namespace plateau
