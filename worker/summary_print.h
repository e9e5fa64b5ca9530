// A network's accounting as text and as JSON.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "worker/model/accounting.h"

namespace plateau {

// A network at one input size, counted.
struct NetworkSummary {
  Network network;
  int height = 224, width = 224;
  int batch = 1;  // images of the memory figures
  std::vector<LayerCost> costs;
};

// Everything; `macs` counts one image, `output_bytes` and `memory_kb` (1024 bytes) the batch in float32.
nlohmann::ordered_json SummaryJson(const NetworkSummary& summary);
// A line a layer, then totals, shares by kind of layer, and the memory of training.
std::string SummaryText(const NetworkSummary& summary);
// Networks beside each other; ratios are to the last one.
std::string ComparisonText(const std::vector<NetworkSummary>& summaries);

}  // namespace plateau
