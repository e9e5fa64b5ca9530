// Counts from shapes.
#include "worker/model/accounting.h"

#include <algorithm>
#include <numeric>

namespace plateau {
namespace {

bool IsWeightLayer(const LayerDef& layer) {
  return layer.kind == LayerKind::kConvolution || layer.kind == LayerKind::kFullyConnected;
}

// How far one output of a layer sees, and how many input pixels lie between two neighbouring outputs.
struct Sight {
  int field = 1, step = 1;
};

Sight SightOf(const LayerDef& layer, const LayerShape& in, const std::vector<Sight>& sights) {
  Sight widest;
  for (const int input : layer.inputs)
    if (input >= 0 && sights[static_cast<size_t>(input)].field >= widest.field) widest = sights[static_cast<size_t>(input)];
  const bool whole = layer.kind == LayerKind::kFullyConnected || layer.global;
  const int kernel = whole ? std::max(in.height, in.width) : std::max(layer.kernel, 1);
  return {widest.field + (kernel - 1) * widest.step, widest.step * layer.stride};
}

LayerCost CostOf(const LayerDef& layer, const LayerShape& in, const LayerShape& out) {
  const int64_t values = int64_t{out.channels} * out.height * out.width;
  LayerCost cost{.output = out, .output_bytes = values * int64_t{sizeof(float)}};
  if (layer.kind == LayerKind::kBatchNorm) cost.params = 2 * int64_t{in.channels};
  if (layer.kind == LayerKind::kMaxPool) cost.compares = values * layer.kernel * layer.kernel;
  if (!IsWeightLayer(layer)) return cost;
  const bool conv = layer.kind == LayerKind::kConvolution;
  const int64_t products = int64_t{in.channels} * (conv ? int64_t{layer.kernel} * layer.kernel : int64_t{in.height} * in.width);
  cost.params = (products + (layer.bias ? 1 : 0)) * out.channels;
  cost.macs = products * values;
  cost.bias_adds = layer.bias ? values : 0;
  return cost;
}

}  // namespace

Result<std::vector<LayerCost>> CountCosts(const Network& network, int height, int width) {
  PLATEAU_ASSIGN(const auto shapes, InferShapes(network, height, width));
  std::vector<LayerCost> costs;
  std::vector<Sight> sights;
  for (size_t i = 0; i < network.layers.size(); ++i) {
    const LayerDef& layer = network.layers[i];
    const LayerShape in = InputShape(network, shapes, height, width, static_cast<int>(i));
    costs.push_back(CostOf(layer, in, shapes[i]));
    sights.push_back(SightOf(layer, in, sights));
    costs.back().receptive_field = sights.back().field;
  }
  return costs;
}

double TrainFlops(const Network& network, const std::vector<LayerCost>& costs) {
  double flops = 0;
  for (size_t i = 0; i < costs.size(); ++i) {
    const bool reads_input = network.layers[i].inputs[0] < 0;
    flops += 2.0 * static_cast<double>(costs[i].macs) * (reads_input ? 2 : 3);
  }
  return flops;
}

int64_t NetworkTotals::params_with_aux() const { return std::accumulate(aux_params.begin(), aux_params.end(), params); }

NetworkTotals SumCosts(const Network& network, const std::vector<LayerCost>& costs) {
  NetworkTotals total;
  total.aux_params.resize(network.auxiliary.size());
  for (size_t i = 0; i < costs.size(); ++i) {
    const LayerDef& layer = network.layers[i];
    if (layer.auxiliary > 0) {
      total.aux_params[static_cast<size_t>(layer.auxiliary) - 1] += costs[i].params;
      continue;
    }
    total.params += costs[i].params;
    total.macs += costs[i].macs;
    total.bias_adds += costs[i].bias_adds;
    total.output_bytes += costs[i].output_bytes;
    total.weight_layers += IsWeightLayer(layer) ? 1 : 0;
  }
  return total;
}

const char* LayerKindName(LayerKind kind) {
  switch (kind) {
    case LayerKind::kConvolution: return "convolution";
    case LayerKind::kFullyConnected: return "fully_connected";
    case LayerKind::kMaxPool: return "max_pool";
    case LayerKind::kAveragePool: return "average_pool";
    case LayerKind::kLrn: return "lrn";
    case LayerKind::kBatchNorm: return "batch_norm";
    case LayerKind::kConcat: return "concat";
    case LayerKind::kAdd: return "add";
  }
  return "";
}

std::vector<KindShare> SharesByKind(const Network& network, const std::vector<LayerCost>& costs) {
  std::vector<KindShare> shares;
  for (int kind = 0; kind <= static_cast<int>(LayerKind::kAdd); ++kind) {
    KindShare share{.kind = static_cast<LayerKind>(kind)};
    for (size_t i = 0; i < costs.size(); ++i) {
      if (network.layers[i].kind != share.kind || network.layers[i].auxiliary > 0) continue;
      ++share.layers;
      share.params += costs[i].params;
      share.macs += costs[i].macs;
      share.output_bytes += costs[i].output_bytes;
    }
    if (share.layers > 0) shares.push_back(share);
  }
  return shares;
}

TrainingMemory EstimateTrainingMemory(const Network& network, const std::vector<LayerCost>& costs, int height, int width, int batch,
                                      SummaryPrecision precision) {
  const int64_t input_values = int64_t{network.channels} * height * width;
  const auto values = [&](int layer) {
    return layer < 0 ? input_values : costs[static_cast<size_t>(layer)].output_bytes / int64_t{sizeof(float)};
  };
  const int64_t value_bytes = precision == SummaryPrecision::kFp32 ? 4 : 2;
  const int64_t parameter_bytes = precision == SummaryPrecision::kFp32 ? 3 * 4 : 3 * 4 + 2;
  int64_t kept = input_values, widest = 0;
  for (size_t i = 0; i < costs.size(); ++i) {
    int64_t around = values(static_cast<int>(i));
    kept += around;
    for (const int input : network.layers[i].inputs) around += input < 0 ? 0 : values(input);
    widest = std::max(widest, around);
  }
  return {.parameters = SumCosts(network, costs).params_with_aux() * parameter_bytes,
          .activations = kept * batch * value_bytes,
          .gradients = widest * batch * value_bytes};
}

}  // namespace plateau
