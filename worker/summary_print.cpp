// A network's accounting as text and as JSON.
#include "worker/summary_print.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/text.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kKilobyte = 1024;

std::string ShapeText(const LayerShape& shape) { return fmt::format("{}x{}x{}", shape.channels, shape.height, shape.width); }

double Share(int64_t part, int64_t whole) { return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0; }

TrainingMemory MemoryOf(const NetworkSummary& s, SummaryPrecision precision) {
  return EstimateTrainingMemory(s.network, s.costs, s.height, s.width, s.batch, precision);
}

Json MemoryJson(const NetworkSummary& summary, SummaryPrecision precision) {
  const TrainingMemory memory = MemoryOf(summary, precision);
  return {{"parameter_bytes", memory.parameters},
          {"activation_bytes", memory.activations},
          {"gradient_bytes", memory.gradients},
          {"bytes", memory.total()}};
}

Json LayersJson(const NetworkSummary& summary) {
  Json layers = Json::array();
  for (size_t i = 0; i < summary.costs.size(); ++i) {
    const LayerCost& cost = summary.costs[i];
    const LayerDef& layer = summary.network.layers[i];
    const int64_t bytes = cost.output_bytes * summary.batch;
    Json row{{"name", layer.name},
             {"kind", LayerKindName(layer.kind)},
             {"output", {cost.output.channels, cost.output.height, cost.output.width}},
             {"output_bytes", bytes},
             {"memory_kb", static_cast<double>(bytes) / kKilobyte},
             {"params", cost.params},
             {"macs", cost.macs},
             {"macs_with_bias", cost.macs + cost.bias_adds},
             {"compares", cost.compares},
             {"receptive_field", cost.receptive_field}};
    if (layer.auxiliary > 0) row["auxiliary"] = layer.auxiliary;
    layers.push_back(std::move(row));
  }
  return layers;
}

// The parts of a device's memory, in the order in which they are printed.
std::vector<std::pair<const char*, uint64_t>> PartsOf(const DeviceMemory& m) {
  return {{"weights", m.weights}, {"momenta", m.momenta},     {"gradients", m.gradients}, {"bf16 copy of weights", m.copy},
          {"arena", m.arena},     {"workspace", m.workspace}, {"rows", m.rows},           {"batches", m.batches}};
}

Json DeviceJson(const DevicePrediction& device) {
  const DeviceMemory& m = device.memory;
  Json document{{"precision", PrecisionName(device.precision)},
                {"weights_bytes", m.weights},
                {"momenta_bytes", m.momenta},
                {"gradients_bytes", m.gradients},
                {"copy_bytes", m.copy},
                {"arena_bytes", m.arena},
                {"workspace_bytes", m.workspace},
                {"rows_bytes", m.rows},
                {"batches_bytes", m.batches},
                {"bytes", m.total()}};
  if (device.device_bytes > 0)
    document.update({{"ranks", device.ranks},
                     {"sharers", device.sharers},
                     {"device_bytes", device.device_bytes},
                     {"planning_bytes", device.planning_bytes},
                     {"largest_batch", device.largest_batch},
                     {"lane_rows", device.lane_rows}});
  return document;
}

// What the memory that was asked about holds.
std::string FitText(const DevicePrediction& device, int batch) {
  const std::string who = device.sharers > 1 ? fmt::format("one of {} ranks that share the device", device.sharers)
                          : device.ranks > 1 ? fmt::format("one of {} ranks, each alone on its device", device.ranks)
                                             : "a rank alone";
  std::string text = fmt::format("  of {} free on the device {} plans with {}; the rest is left to CUDA's libraries{}\n",
                                 HumanBytes(device.device_bytes), who, HumanBytes(device.planning_bytes),
                                 device.sharers > 1 ? " and the other ranks" : "");
  text += fmt::format("  largest batch at once: {}\n",
                      device.largest_batch > 0 ? std::to_string(device.largest_batch) : "none, not even one image");
  if (device.lane_rows >= batch) return text;
  if (device.lane_rows > 0)
    return text + fmt::format("  training.micro_batch: auto computes a rank's {} images in {} lanes of {}\n", batch,
                              (batch + device.lane_rows - 1) / device.lane_rows, device.lane_rows);
  return text + fmt::format("  a rank's {} images do not fit in any number of lanes; {}\n", batch,
                            device.most_rows > 0 ? fmt::format("{} would", device.most_rows) : "not even one does");
}

std::string DeviceText(const NetworkSummary& summary) {
  const DevicePrediction& device = *summary.device;
  std::string text = fmt::format(
      "\ntraining on a CUDA device, batch {}, {} (of one rank, all at once; predicted; the workspace is the most that it may be)\n",
      summary.batch, PrecisionName(device.precision));
  for (const auto& [name, bytes] : PartsOf(device.memory))
    if (bytes > 0) text += fmt::format("  {:<22}{:>12}\n", name, HumanBytes(bytes));
  text += fmt::format("  {:<22}{:>12}\n", "total", HumanBytes(device.memory.total()));
  if (device.device_bytes > 0) text += FitText(device, summary.batch);
  return text;
}

std::string HumanMemory(const TrainingMemory& m) {
  const auto text = [](int64_t bytes) { return HumanBytes(static_cast<uint64_t>(bytes)); };
  return fmt::format("{} = {} weights, gradients, momentum + {} kept outputs + {} gradients between layers", text(m.total()),
                     text(m.parameters), text(m.activations), text(m.gradients));
}

}  // namespace

Json SummaryJson(const NetworkSummary& summary) {
  const NetworkTotals total = SumCosts(summary.network, summary.costs);
  Json document{{"network", summary.network.name},
                {"width", summary.network.width},
                {"classes", summary.network.classes},
                {"batch", summary.batch},
                {"input", {summary.network.channels, summary.height, summary.width}},
                {"weight_layers", total.weight_layers},
                {"params", total.params},
                {"macs", total.macs},
                {"aux_params", total.aux_params}};
  document["layers"] = LayersJson(summary);
  document["totals"] = {{"params", total.params},
                        {"macs", total.macs},
                        {"macs_with_bias", total.macs + total.bias_adds},
                        {"aux_params", total.aux_params},
                        {"params_with_aux", total.params_with_aux()},
                        {"output_bytes", total.output_bytes * summary.batch},
                        {"train_flop_per_image", static_cast<int64_t>(TrainFlops(summary.network, summary.costs))}};
  for (const KindShare& share : SharesByKind(summary.network, summary.costs))
    document["shares"].push_back({{"kind", LayerKindName(share.kind)},
                                  {"layers", share.layers},
                                  {"params", Share(share.params, total.params)},
                                  {"macs", Share(share.macs, total.macs)},
                                  {"output_bytes", Share(share.output_bytes, total.output_bytes)}});
  document["training_memory"] = {{"fp32", MemoryJson(summary, SummaryPrecision::kFp32)},
                                 {"bf16", MemoryJson(summary, SummaryPrecision::kBf16)}};
  if (summary.device) document["device_memory"] = DeviceJson(*summary.device);
  return document;
}

std::string SummaryText(const NetworkSummary& summary) {
  const Network& network = summary.network;
  size_t wide = 5;
  for (const LayerDef& layer : network.layers) wide = std::max(wide, layer.name.size());
  std::string text = fmt::format("{} width {:g}, {} classes, input {}x{}x{}, batch {}\n", network.name, network.width,
                                 network.classes, network.channels, summary.height, summary.width, summary.batch);
  text += fmt::format("{:<{}}{:>16}{:>14}{:>13}{:>17}{:>7}\n", "layer", wide, "output", "memory KB", "parameters", "multiply-adds",
                      "field");
  for (size_t i = 0; i < summary.costs.size(); ++i) {
    const LayerCost& cost = summary.costs[i];
    text += fmt::format("{:<{}}{:>16}{:>14.2f}{:>13}{:>17}{:>7}{}\n", network.layers[i].name, wide, ShapeText(cost.output),
                        static_cast<double>(cost.output_bytes * summary.batch) / kKilobyte, cost.params, cost.macs,
                        cost.receptive_field, network.layers[i].auxiliary > 0 ? "  auxiliary" : "");
  }
  const NetworkTotals total = SumCosts(network, summary.costs);
  text += fmt::format("{:<{}}{:>16}{:>14.2f}{:>13}{:>17}\n", "total", wide, "",
                      static_cast<double>(total.output_bytes * summary.batch) / kKilobyte, total.params, total.macs);
  for (size_t i = 0; i < total.aux_params.size(); ++i)
    text += fmt::format("auxiliary classifier {}: {} parameters more, in training only\n", i + 1, total.aux_params[i]);
  text += fmt::format("with bias adds: {} operations; one trained image: {:.2f} GFLOP\n\n", total.macs + total.bias_adds,
                      TrainFlops(network, summary.costs) / 1e9);
  text += fmt::format("{:<16}{:>8}{:>13}{:>15}{:>10}\n", "share of", "layers", "parameters", "multiply-adds", "memory");
  for (const KindShare& share : SharesByKind(network, summary.costs))
    text += fmt::format("{:<16}{:>8}{:>12.2f}%{:>14.2f}%{:>9.2f}%\n", LayerKindName(share.kind), share.layers,
                        100 * Share(share.params, total.params), 100 * Share(share.macs, total.macs),
                        100 * Share(share.output_bytes, total.output_bytes));
  text +=
      fmt::format("\ntraining memory, batch {} ({})\n  fp32  {}\n  bf16  {}\n", summary.batch,
                  summary.device ? "estimate of every map at once; what the device takes stands below" : "estimate",
                  HumanMemory(MemoryOf(summary, SummaryPrecision::kFp32)), HumanMemory(MemoryOf(summary, SummaryPrecision::kBf16)));
  if (summary.device) text += DeviceText(summary);
  return text + "memory KB: float32 outputs of the batch, 1024 bytes; multiply-adds: one image forward, bias adds not counted\n";
}

std::string ComparisonText(const std::vector<NetworkSummary>& summaries) {
  std::string text = fmt::format("{:<24}", "");
  for (const NetworkSummary& s : summaries) text += fmt::format("{:>24}", s.network.name);
  text += '\n';
  const auto row = [&](const std::string& name, const auto& value) {
    text += fmt::format("{:<24}", name);
    const int64_t last = value(summaries.back());
    for (const NetworkSummary& s : summaries) {
      const int64_t here = value(s);
      const std::string ratio = &s == &summaries.back() ? "" : fmt::format(" ({:.2f}x)", last > 0 ? static_cast<double>(here) / static_cast<double>(last) : 0);
      text += fmt::format("{:>24}", fmt::format("{}{}", here, ratio));
    }
    text += '\n';
  };
  const auto total = [](const NetworkSummary& s) { return SumCosts(s.network, s.costs); };
  const auto fp32 = [](const NetworkSummary& s) { return MemoryOf(s, SummaryPrecision::kFp32); };
  text += fmt::format("{:<24}", "input");
  for (const NetworkSummary& s : summaries) text += fmt::format("{:>24}", ShapeText({s.network.channels, s.height, s.width}));
  text += '\n';
  row("weight layers", [&](const NetworkSummary& s) { return int64_t{total(s).weight_layers}; });
  row("parameters", [&](const NetworkSummary& s) { return total(s).params; });
  row("multiply-adds", [&](const NetworkSummary& s) { return total(s).macs; });
  row("output bytes, batch", [&](const NetworkSummary& s) { return total(s).output_bytes * s.batch; });
  row("training bytes, fp32", [&](const NetworkSummary& s) { return fp32(s).total(); });
  for (int kind = 0; kind <= static_cast<int>(LayerKind::kAdd); ++kind) {
    const auto share = [kind](const NetworkSummary& s) {
      for (const KindShare& one : SharesByKind(s.network, s.costs))
        if (one.kind == static_cast<LayerKind>(kind)) return one;
      return KindShare{};
    };
    const std::string name = LayerKindName(static_cast<LayerKind>(kind));
    if (std::none_of(summaries.begin(), summaries.end(), [&](const auto& s) { return share(s).params > 0; })) continue;
    row(name + " params", [&](const NetworkSummary& s) { return share(s).params; });
    row(name + " macs", [&](const NetworkSummary& s) { return share(s).macs; });
  }
  return text;
}

}  // namespace plateau
