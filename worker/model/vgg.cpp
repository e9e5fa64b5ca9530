// Table 1 of the VGG paper, and the network built from one of its columns.
#include "worker/model/vgg.h"

#include <fmt/format.h>

#include "worker/model/builder.h"

namespace plateau {
namespace {

std::vector<VggConfiguration> PaperColumns() {
  const std::vector<VggConv> b1{{64}, {64}}, b2{{128}, {128}}, b3{{256}, {256}}, b4{{512}, {512}};
  const std::vector<VggConv> d3{{256}, {256}, {256}}, d4{{512}, {512}, {512}};
  const std::vector<VggConv> c3{{256}, {256}, {256, 1}}, c4{{512}, {512}, {512, 1}};
  const std::vector<VggConv> e3{{256}, {256}, {256}, {256}}, e4{{512}, {512}, {512}, {512}};
  return {
      {"vgg-a", {{{64}}, {{128}}, b3, b4, b4}},
      {"vgg-a-lrn", {{{64}}, {{128}}, b3, b4, b4}, true},
      {"vgg-b", {b1, b2, b3, b4, b4}},
      {"vgg-c", {b1, b2, c3, c4, c4}},
      {"vgg-d", {b1, b2, d3, d4, d4}},
      {"vgg-e", {b1, b2, e3, e4, e4}},
  };
}

}  // namespace

const std::vector<VggConfiguration>& VggConfigurations() {
  static const std::vector<VggConfiguration> table = [] {
    std::vector<VggConfiguration> all = PaperColumns();
    for (VggConfiguration& column : PaperColumns()) {
      if (column.lrn || column.name == "vgg-c") continue;
      column.name += "-bn";
      column.batch_norm = true;
      all.push_back(std::move(column));
    }
    return all;
  }();
  return table;
}

Network MakeVgg(const VggConfiguration& configuration, const NetworkOptions& options) {
  NetworkBuilder net(configuration.name, 224, options);
  for (size_t block = 0; block < configuration.blocks.size(); ++block) {
    const auto& convolutions = configuration.blocks[block];
    for (size_t i = 0; i < convolutions.size(); ++i) {
      const auto [channels, kernel] = convolutions[i];
      const std::string place = fmt::format("{}_{}", block + 1, i + 1);
      const int conv = net.Convolution("conv" + place, channels, {.kernel = kernel, .pad = kernel / 2});
      if (configuration.batch_norm) {
        net.layer(conv).relu = false;
        net.BatchNorm("bn" + place, true);
      }
      if (configuration.lrn && block == 0) net.Lrn("lrn1_1");
    }
    net.MaxPool(fmt::format("pool{}", block + 1), {.kernel = 2, .stride = 2});
  }
  net.FullyConnected("fc6", 4096, options.dropout);
  net.FullyConnected("fc7", 4096, options.dropout);
  net.Classifier("fc8");
  return net.Take();
}

}  // namespace plateau
