// Looks at each layer of a network's table.
#include "worker/nn/runnable.h"

#include <algorithm>

namespace plateau {
namespace {

bool OneOf(LayerKind kind, std::initializer_list<LayerKind> kinds) { return std::ranges::find(kinds, kind) != kinds.end(); }

// Empty, or what is wrong with layer `index` itself.
std::string WrongWithLayer(const Network& network, int index) {
  using enum LayerKind;
  const LayerDef& def = network.layers[static_cast<size_t>(index)];
  const bool joins = OneOf(def.kind, {kConcat, kAdd});
  if (joins ? def.inputs.empty() : def.inputs.size() != 1) return "takes the wrong number of inputs";
  for (const int input : def.inputs) {
    if (input < -1 || input >= index) return "takes an input that is not an earlier layer";
    if (input < 0 && def.kind == kFullyConnected) return "is fully connected and reads the images";
    if (input < 0) continue;
    const LayerDef& before = network.layers[static_cast<size_t>(input)];
    if (before.auxiliary != 0 && before.auxiliary != def.auxiliary) return "takes its input from an auxiliary classifier";
    if (before.kind == kFullyConnected && !OneOf(def.kind, {kFullyConnected, kAdd}))
      return "needs a map, not a fully connected layer";
  }
  if (def.relu && !OneOf(def.kind, {kConvolution, kFullyConnected, kBatchNorm, kAdd})) return "is of a kind that carries no ReLU";
  if (def.dropout > 0 && !OneOf(def.kind, {kFullyConnected, kAveragePool})) return "is of a kind that carries no dropout";
  return "";
}

std::string WrongWithHead(const Network& network, const AuxiliaryHead& head) {
  const LayerDef& def = network.layers[static_cast<size_t>(head.layer)];
  if (def.auxiliary == 0) return "is an auxiliary head on the main path";
  if (def.kind != LayerKind::kFullyConnected || def.relu || def.dropout > 0 ||
      def.out_channels != network.layers.back().out_channels)
    return "must be fully connected, plain, and as wide as the last layer: it is an auxiliary head";
  return "";
}

}  // namespace

Status RequireRunnable(const Network& network) {
  const auto refuse = [&network](int layer, const std::string& why) {
    return Fail(ErrorCode::kUnsupported, "{}: layer {} {}: no engine runs it; mend the network's table", network.name,
                network.layers[static_cast<size_t>(layer)].name, why);
  };
  const auto count = static_cast<int>(network.layers.size());
  if (count == 0) return Fail(ErrorCode::kUnsupported, "{}: has no layers", network.name);
  std::vector<bool> used(network.layers.size());
  used.back() = true;
  for (int layer = 0; layer < count; ++layer) {
    if (const std::string why = WrongWithLayer(network, layer); !why.empty()) return refuse(layer, why);
    for (const int input : network.layers[static_cast<size_t>(layer)].inputs)
      if (input >= 0) used[static_cast<size_t>(input)] = true;
  }
  for (const AuxiliaryHead& head : network.auxiliary) {
    if (head.layer < 0 || head.layer >= count)
      return Fail(ErrorCode::kUnsupported, "{}: has an auxiliary head on layer {}, which is not there", network.name, head.layer);
    if (const std::string why = WrongWithHead(network, head); !why.empty()) return refuse(head.layer, why);
    used[static_cast<size_t>(head.layer)] = true;
  }
  if (const auto idle = std::ranges::find(used, false); idle != used.end())
    return refuse(static_cast<int>(idle - used.begin()), "gives its output to nobody");
  const LayerDef& last = network.layers.back();
  if (last.relu || last.dropout > 0 || last.auxiliary != 0)
    return refuse(count - 1, "is the last and gives the logits, so it takes no ReLU or dropout and is on the main path");
  return {};
}

Status RequireFit(const Network& network, const PlanOptions& options, const std::vector<LayerShape>& shapes, int crop,
                  const std::vector<LayerShape>& crop_shapes) {
  for (int layer = 0; layer < static_cast<int>(network.layers.size()); ++layer) {
    const LayerDef& def = network.layers[static_cast<size_t>(layer)];
    if (def.kind != LayerKind::kFullyConnected || (!options.training && def.auxiliary != 0)) continue;
    const auto values = [](const LayerShape& in) { return int64_t{in.channels} * in.height * in.width; };
    const int64_t inputs = values(InputShape(network, shapes, options.height, options.width, layer));
    const int64_t wanted = values(InputShape(network, crop_shapes, crop, crop, layer));
    if (inputs == wanted) continue;
    return Fail(ErrorCode::kInvalidInput,
                "{}: an input of {}x{} gives layer {} {} values, its weights for crop {} take {}; use images of the crop's size",
                network.name, options.height, options.width, def.name, inputs, crop, wanted);
  }
  const LayerShape& last = shapes.back();
  if (last.height != 1 || last.width != 1)
    return Fail(ErrorCode::kInvalidInput,
                "{}: an input of {}x{} leaves a map of {}x{} after the last layer, {}, and logits are 1x1", network.name,
                options.height, options.width, last.height, last.width, network.layers.back().name);
  if (options.training && network.layers.back().kind != LayerKind::kFullyConnected)
    return Fail(ErrorCode::kUnsupported, "{}: its last layer, {}, is not fully connected; no engine trains such a network",
                network.name, network.layers.back().name);
  return {};
}

std::vector<bool> LearningLayers(const Network& network) {
  std::vector<bool> learns;
  for (const LayerDef& def : network.layers) {
    const bool before =
        std::ranges::any_of(def.inputs, [&](int input) { return input >= 0 && learns[static_cast<size_t>(input)]; });
    learns.push_back(before || HasParameters(def));
  }
  return learns;
}

}  // namespace plateau
