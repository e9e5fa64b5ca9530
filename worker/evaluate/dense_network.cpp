// Turns fully connected layers into convolutions.
#include "worker/evaluate/dense_network.h"

#include <algorithm>

namespace plateau {
namespace {

// Whether each layer's output is larger for larger images.
std::vector<bool> GrowsWithImage(const Network& network) {
  std::vector<bool> grows;
  for (const LayerDef& layer : network.layers) {
    const auto is_growing = [&](int input) { return input < 0 || grows[static_cast<size_t>(input)]; };
    grows.push_back(!layer.global && std::any_of(layer.inputs.begin(), layer.inputs.end(), is_growing));
  }
  return grows;
}

}  // namespace

Network WithoutAuxiliary(const Network& network) {
  Network main = network;
  main.layers.clear();
  main.auxiliary.clear();
  std::vector<int> moved_to(network.layers.size(), -1);
  for (size_t index = 0; index < network.layers.size(); ++index) {
    LayerDef layer = network.layers[index];
    if (layer.auxiliary != 0) continue;
    for (int& input : layer.inputs)
      if (input >= 0) input = moved_to[static_cast<size_t>(input)];
    moved_to[index] = static_cast<int>(main.layers.size());
    main.layers.push_back(std::move(layer));
  }
  return main;
}

Result<Network> MakeDense(const Network& network, int crop) {
  Network dense = WithoutAuxiliary(network);
  PLATEAU_ASSIGN(const std::vector<LayerShape> shapes, InferShapes(dense, crop, crop));
  const std::vector<bool> grows = GrowsWithImage(dense);
  for (size_t index = 0; index < dense.layers.size(); ++index) {
    LayerDef& layer = dense.layers[index];
    if (layer.kind != LayerKind::kFullyConnected || !grows[index]) continue;
    const LayerShape map = InputShape(dense, shapes, crop, crop, static_cast<int>(index));
    if (map.height != map.width)
      return Fail(ErrorCode::kUnsupported, "{}: layer {} sees a map of {}x{}, and only square ones become convolutions", dense.name,
                  layer.name, map.height, map.width);
    layer.kind = LayerKind::kConvolution;
    layer.kernel = map.height;
    layer.stride = 1;
    layer.pad = 0;
    layer.dropout = 0;
  }
  if (!dense.layers.empty() && dense.layers.back().kind == LayerKind::kConvolution) {
    dense.layers.push_back({.kind = LayerKind::kAveragePool,
                            .name = "score_average",
                            .inputs = {static_cast<int>(dense.layers.size()) - 1},
                            .global = true});
  }
  return dense;
}

}  // namespace plateau
