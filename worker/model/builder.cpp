// Appends layers to a network.
#include "worker/model/builder.h"

#include <algorithm>

namespace plateau {

NetworkBuilder::NetworkBuilder(std::string name, int side, const NetworkOptions& options) : options_(options) {
  network_ = {.name = std::move(name),
              .width = options.width,
              .classes = options.classes,
              .channels = options.channels,
              .input_side = side,
              .layers = {},
              .auxiliary = {}};
}

int NetworkBuilder::Append(LayerKind kind, std::string name, int from) {
  LayerDef layer{.kind = kind, .name = std::move(name)};
  layer.inputs = {from == kBefore ? last() : from};
  layer.auxiliary = auxiliary_;
  network_.layers.push_back(std::move(layer));
  return last();
}

int NetworkBuilder::Convolution(std::string name, int channels, Window window, int from) {
  const int index = BareConvolution(std::move(name), channels, window, from);
  layer(index).bias = layer(index).relu = true;
  return index;
}

int NetworkBuilder::BareConvolution(std::string name, int channels, Window window, int from) {
  LayerDef& conv = layer(Append(LayerKind::kConvolution, std::move(name), from));
  conv.out_channels = ScaledChannels(channels, options_.width);
  conv.kernel = window.kernel;
  conv.stride = window.stride;
  conv.pad = window.pad;
  conv.bias = false;
  return last();
}

int NetworkBuilder::BatchNorm(std::string name, bool relu, int from) {
  layer(Append(LayerKind::kBatchNorm, std::move(name), from)).relu = relu;
  return last();
}

int NetworkBuilder::MaxPool(std::string name, Window window, int from) {
  LayerDef& pool = layer(Append(LayerKind::kMaxPool, std::move(name), from));
  pool.kernel = window.kernel;
  pool.stride = window.stride;
  pool.pad = window.pad;
  pool.ceil_mode = window.ceil_mode;
  return last();
}

int NetworkBuilder::AveragePool(std::string name, Window window, int from) {
  const int index = MaxPool(std::move(name), window, from);
  layer(index).kind = LayerKind::kAveragePool;
  return index;
}

int NetworkBuilder::GlobalAveragePool(std::string name, double dropout, int from) {
  LayerDef& pool = layer(Append(LayerKind::kAveragePool, std::move(name), from));
  pool.global = true;
  pool.dropout = dropout;
  return last();
}

int NetworkBuilder::Lrn(std::string name, int from) { return Append(LayerKind::kLrn, std::move(name), from); }

int NetworkBuilder::Concat(std::string name, std::vector<int> from) {
  layer(Append(LayerKind::kConcat, std::move(name), from[0])).inputs = std::move(from);
  return last();
}

int NetworkBuilder::AddRelu(std::string name, int first, int second) {
  LayerDef& add = layer(Append(LayerKind::kAdd, std::move(name), first));
  add.inputs = {first, second};
  add.relu = true;
  return last();
}

int NetworkBuilder::FullyConnected(std::string name, int units, double dropout, int from) {
  LayerDef& fc = layer(Append(LayerKind::kFullyConnected, std::move(name), from));
  fc.out_channels = ScaledChannels(units, options_.width);
  fc.relu = true;
  fc.dropout = dropout;
  return last();
}

int NetworkBuilder::Classifier(std::string name, int from) {
  layer(Append(LayerKind::kFullyConnected, std::move(name), from)).out_channels = options_.classes;
  return last();
}

double NetworkBuilder::ScaledDropout(double paper) const { return paper * std::min(1.0, options_.dropout / 0.5); }

}  // namespace plateau
