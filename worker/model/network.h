// A network as data: a small DAG of layers. The papers' tables in this folder build it; engines compile it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace plateau {

enum class LayerKind { kConvolution, kFullyConnected, kMaxPool, kAveragePool, kLrn, kBatchNorm, kConcat, kAdd };

// y = x / (k + alpha * sum of x^2 over `size` channels around)^beta: the VGG paper's form (Krizhevsky et al. 2012, section 3.3),
// alpha not divided by `size`.
struct LrnDef {
  int size = 5;
  double k = 2, alpha = 1e-4, beta = 0.75;
};

// One node. ReLU and dropout belong to the layer whose output they change.
struct LayerDef {
  LayerKind kind = LayerKind::kConvolution;
  std::string name;         // "conv1_1", "pool1", "fc6"
  std::vector<int> inputs;  // indices of earlier layers, -1 is the network's input; several for concat (of channels) and add
  int out_channels = 0;     // convolution, fully connected
  int kernel = 0, stride = 1, pad = 0;
  bool bias = true;                             // convolution, fully connected
  bool ceil_mode = false;                       // pools: a window that begins inside the input counts even if it ends outside
  bool global = false;                          // average pool over the whole map; kernel 0
  bool relu = false;                            // convolution, fully connected, batch norm, add
  double dropout = 0;                           // fully connected, average pool: after the ReLU, training only, inverted
  double bn_epsilon = 1e-5, bn_momentum = 0.1;  // batch norm: running = (1 - momentum) * running + momentum * the batch's
  LrnDef lrn{};
  int auxiliary = 0;  // 0: the main path; n: only auxiliary classifier n needs it, training plans only
};

// A classifier beside the main one: `loss_weight` * its soft-max loss is added in training, nothing at test.
struct AuxiliaryHead {
  int layer = 0;
  double loss_weight = 0.3;
};

struct Network {
  std::string name;  // "vgg-a"
  double width = 1.0;
  int classes = 1000;
  int channels = 3;              // of the input
  int input_side = 224;          // the paper's training crop
  std::vector<LayerDef> layers;  // topological order; the last one gives the logits
  std::vector<AuxiliaryHead> auxiliary;
};

struct NetworkOptions {
  double width = 1.0;  // channels and fc units become max(16, nearest multiple of 16 of width * paper); 1.0 is the paper exactly
  int classes = 1000;
  int channels = 3;
  double dropout = 0.5;  // of VGG, AlexNet and ZFNet; below 0.5 others scale theirs alike
};

// Channels or units of a scaled network: `paper` itself at width 1, else max(16, nearest multiple of 16 of width * paper).
int ScaledChannels(int paper, double width);
// The table of a known network. Unknown names get the nearest known one in the error.
Result<Network> MakeNetwork(const std::string& name, const NetworkOptions& options);
const std::vector<std::string>& NetworkNames();
// The options of the paper's own training: lenet has 10 classes and one input channel, all others the defaults above.
NetworkOptions PaperOptions(const std::string& name);

// Output of every layer for an input of channels x height x width. Refuses inputs that shrink to nothing, naming the layer.
struct LayerShape {
  int channels = 0, height = 1, width = 1;
};
Result<std::vector<LayerShape>> InferShapes(const Network& network, int height, int width);
// Shape of input `which` of layer `layer`, given what InferShapes returned for this input size.
LayerShape InputShape(const Network& network, const std::vector<LayerShape>& shapes, int height, int width, int layer,
                      int which = 0);
// Whether a layer has learned tensors.
bool HasParameters(const LayerDef& layer);

}  // namespace plateau
