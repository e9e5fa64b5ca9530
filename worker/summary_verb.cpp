// The summary verb.
#include "worker/summary_verb.h"

#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/text.h"
#include "worker/model/accounting.h"

namespace plateau {
namespace {

struct SummaryFlags {
  std::string network, input = "3x224x224";
  double width = 1;
  int classes = 1000, batch = 1;
  bool json = false;
};

struct InputSize {
  int channels = 3, height = 224, width = 224;
};

Result<InputSize> ParseInput(const std::string& text) {
  const auto parts = SplitText(text, 'x');
  InputSize size;
  int* fields[] = {&size.channels, &size.height, &size.width};
  bool good = parts.size() == 3;
  for (size_t i = 0; good && i < 3; ++i) {
    try {
      size_t used = 0;
      *fields[i] = std::stoi(parts[i], &used);
      good = used == parts[i].size() && *fields[i] > 0;
    } catch (const std::exception&) {
      good = false;
    }
  }
  if (!good) return Fail(ErrorCode::kInvalidInput, "--input {}: not channels x height x width, such as 3x224x224", text);
  return size;
}

const char* KindName(LayerKind kind) {
  switch (kind) {
    case LayerKind::kConvolution: return "convolution";
    case LayerKind::kMaxPool: return "max_pool";
    case LayerKind::kFullyConnected: return "fully_connected";
    case LayerKind::kAveragePool: return "average_pool";
    case LayerKind::kLrn: return "lrn";
    case LayerKind::kBatchNorm: return "batch_norm";
    case LayerKind::kConcat: return "concat";
    case LayerKind::kAdd: return "add";
  }
  return "";
}

LayerCost Total(const std::vector<LayerCost>& costs) {
  LayerCost total;
  for (const LayerCost& cost : costs) {
    total.params += cost.params;
    total.macs += cost.macs;
    total.output_bytes += cost.output_bytes;
  }
  return total;
}

void PrintJson(const SummaryFlags& flags, const InputSize& size, const Network& network, const std::vector<LayerCost>& costs) {
  nlohmann::ordered_json document = {{"network", network.name},
                                     {"width", flags.width},
                                     {"classes", flags.classes},
                                     {"batch", flags.batch},
                                     {"input", {size.channels, size.height, size.width}}};
  for (size_t i = 0; i < costs.size(); ++i) {
    document["layers"].push_back({{"name", network.layers[i].name},
                                  {"kind", KindName(network.layers[i].kind)},
                                  {"output", {costs[i].output.channels, costs[i].output.height, costs[i].output.width}},
                                  {"output_bytes", costs[i].output_bytes * flags.batch},
                                  {"params", costs[i].params},
                                  {"macs", costs[i].macs}});
  }
  const LayerCost total = Total(costs);
  document["totals"] = {{"params", total.params},
                        {"macs", total.macs},
                        {"output_bytes", total.output_bytes * flags.batch},
                        {"train_flop_per_image", static_cast<int64_t>(TrainFlops(costs))}};
  fmt::print("{}\n", document.dump(2));
}

void PrintTable(const SummaryFlags& flags, const InputSize& size, const Network& network, const std::vector<LayerCost>& costs) {
  fmt::print("{} width {}, {} classes, input {}x{}x{}, batch {}\n", network.name, flags.width, flags.classes, size.channels,
             size.height, size.width, flags.batch);
  fmt::print("{:<10}{:>16}{:>14}{:>14}{:>18}\n", "layer", "output", "memory", "parameters", "multiply-adds");
  for (size_t i = 0; i < costs.size(); ++i) {
    const LayerShape& out = costs[i].output;
    fmt::print("{:<10}{:>16}{:>14}{:>14}{:>18}\n", network.layers[i].name,
               fmt::format("{}x{}x{}", out.channels, out.height, out.width),
               HumanBytes(static_cast<uint64_t>(costs[i].output_bytes) * static_cast<uint64_t>(flags.batch)), costs[i].params,
               costs[i].macs);
  }
  const LayerCost total = Total(costs);
  fmt::print("{:<10}{:>16}{:>14}{:>14}{:>18}\n", "total", "",
             HumanBytes(static_cast<uint64_t>(total.output_bytes) * static_cast<uint64_t>(flags.batch)), total.params, total.macs);
  fmt::print("memory: float32 outputs of the batch; multiply-adds: one image forward; one trained image: {:.2f} GFLOP\n",
             TrainFlops(costs) / 1e9);
}

Status RunSummary(const SummaryFlags& flags) {
  const auto size = ParseInput(flags.input);
  if (!size) return Fail(size.error());
  if (flags.batch < 1) return Fail(ErrorCode::kInvalidInput, "--batch {}: at least 1 is needed", flags.batch);
  const auto network = MakeNetwork(flags.network, {.width = flags.width, .classes = flags.classes, .channels = size->channels});
  if (!network) return Fail(network.error());
  const auto costs = CountCosts(*network, size->height, size->width);
  if (!costs) return Fail(costs.error());
  if (flags.json) {
    PrintJson(flags, *size, *network, *costs);
  } else {
    PrintTable(flags, *size, *network, *costs);
  }
  return {};
}

}  // namespace

void AddSummaryVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<SummaryFlags>();
  CLI::App* verb = app.add_subcommand("summary", "Print a network's layers: output shape, memory, parameters, multiply-adds");
  verb->footer(
      "Examples:\n"
      "  plateau-worker summary vgg-d\n"
      "  plateau-worker summary vgg-a --width 0.5 --input 3x56x56 --classes 20 --batch 64 --json");
  verb->add_option("network,--network", flags->network, "vgg-a, vgg-d")->required();
  verb->add_option("--input", flags->input, "channels x height x width")->capture_default_str();
  verb->add_option("--classes", flags->classes, "number of classes")->capture_default_str();
  verb->add_option("--width", flags->width, "multiplies channels and fully connected units; 1 is the paper's")
      ->capture_default_str();
  verb->add_option("--batch", flags->batch, "images that the memory column counts")->capture_default_str();
  verb->add_flag("--json", flags->json, "print JSON");
  verb->callback([flags, &exit_code] {
    const auto status = RunSummary(*flags);
    if (status) return;
    fmt::print(stderr, "plateau-worker summary: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
