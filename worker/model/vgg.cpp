// Table 1 of the VGG paper, and the network built from one of its columns.
#include "worker/model/vgg.h"

#include <fmt/format.h>

namespace plateau {
namespace {

constexpr int kFullyConnectedUnits = 4096;  // fc6 and fc7 at width 1
LayerDef Convolution(std::string name, int input, int channels, int kernel) {
  return {.kind = LayerKind::kConvolution,
          .name = std::move(name),
          .inputs = {input},
          .out_channels = channels,
          .kernel = kernel,
          .stride = 1,
          .pad = kernel / 2,
          .relu = true};
}

LayerDef Pool(std::string name, int input) {
  return {.kind = LayerKind::kMaxPool, .name = std::move(name), .inputs = {input}, .kernel = 2, .stride = 2};
}

LayerDef FullyConnected(std::string name, int input, int units, bool relu, double dropout) {
  return {.kind = LayerKind::kFullyConnected,
          .name = std::move(name),
          .inputs = {input},
          .out_channels = units,
          .relu = relu,
          .dropout = dropout};
}

}  // namespace

const std::vector<VggConfiguration>& VggConfigurations() {
  static const std::vector<VggConfiguration> table = {
      {"vgg-a", {{{64}}, {{128}}, {{256}, {256}}, {{512}, {512}}, {{512}, {512}}}},
      {"vgg-d", {{{64}, {64}}, {{128}, {128}}, {{256}, {256}, {256}}, {{512}, {512}, {512}}, {{512}, {512}, {512}}}},
  };
  return table;
}

Network MakeVgg(const VggConfiguration& configuration, const NetworkOptions& options) {
  Network network{.name = configuration.name, .width = options.width, .classes = options.classes, .channels = options.channels};
  auto& layers = network.layers;
  const auto last = [&layers] { return static_cast<int>(layers.size()) - 1; };
  for (size_t block = 0; block < configuration.blocks.size(); ++block) {
    for (size_t i = 0; i < configuration.blocks[block].size(); ++i) {
      const VggConv& conv = configuration.blocks[block][i];
      layers.push_back(Convolution(fmt::format("conv{}_{}", block + 1, i + 1), last(), ScaledChannels(conv.channels, options.width),
                                   conv.kernel));
    }
    layers.push_back(Pool(fmt::format("pool{}", block + 1), last()));
  }
  const int units = ScaledChannels(kFullyConnectedUnits, options.width);
  layers.push_back(FullyConnected("fc6", last(), units, true, options.dropout));
  layers.push_back(FullyConnected("fc7", last(), units, true, options.dropout));
  layers.push_back(FullyConnected("fc8", last(), options.classes, false, 0));
  return network;
}

}  // namespace plateau
