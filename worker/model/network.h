// A network as data: a small DAG of layers. The papers' tables in this folder build it; engines compile it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace plateau {

enum class LayerKind { kConvolution, kMaxPool, kFullyConnected };

// One node. Convolution and fully connected layers carry their ReLU and dropout: VGG has no other place for them.
struct LayerDef {
  LayerKind kind = LayerKind::kConvolution;
  std::string name;         // "conv1_1", "pool1", "fc6"
  std::vector<int> inputs;  // indices of earlier layers; -1 is the network's input
  int out_channels = 0;     // 0 for pools
  int kernel = 0, stride = 1, pad = 0;
  bool relu = false;
  double dropout = 0;  // after the ReLU, training only, inverted
};

struct Network {
  std::string name;  // "vgg-a"
  double width = 1.0;
  int classes = 1000;
  int channels = 3;              // of the input
  std::vector<LayerDef> layers;  // topological order; the last one gives the logits
};

struct NetworkOptions {
  double width = 1.0;  // channels and fc units become max(16, nearest multiple of 16 of width * paper); 1.0 is the paper
  int classes = 1000;
  int channels = 3;
  double dropout = 0.5;
};

// The table of a known network. Unknown names get the nearest known one in the error.
Result<Network> MakeNetwork(const std::string& name, const NetworkOptions& options);
const std::vector<std::string>& NetworkNames();

// Output of every layer for an input of channels x height x width. Refuses inputs that shrink to nothing, naming the layer.
struct LayerShape {
  int channels = 0, height = 1, width = 1;
};
Result<std::vector<LayerShape>> InferShapes(const Network& network, int height, int width);

}  // namespace plateau
