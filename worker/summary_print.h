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
  DeviceMemory memory;       // of the batch at once
  int ranks = 1, sharers = 1;  // of the job, and on this device
  // The question which batch fits `device_bytes`; 0: not asked.
  uint64_t device_bytes = 0;
  uint64_t planning_bytes = 0;  // of it, for this rank's batches: its part without what CUDA's libraries are left
  int largest_batch = 0;        // at once; 0: none
  int lane_rows = 0;            // of the lanes that training.micro_batch: auto would take for the batch; 0: no cut fits
  int most_rows = 0;            // where no cut fits: images of the largest rank that does
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
