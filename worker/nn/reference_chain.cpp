// A whole network in the naive loops.
#include <utility>

#include "common/check.h"
#include "worker/nn/reference.h"

namespace plateau::reference {
namespace {

// A parameter as the operators take it: convolution weight [K,C,R,S], fully connected weight [O,I,1,1].
Map AsMap(const ParameterInfo& info, const std::vector<double>& values) {
  const bool conv = info.shape.size() == 4;
  Map map(static_cast<int>(info.shape[0]), static_cast<int>(info.shape[1]), conv ? static_cast<int>(info.shape[2]) : 1,
          conv ? static_cast<int>(info.shape[3]) : 1);
  PLATEAU_CHECK(map.values.size() == values.size(), "{}: {} values", info.name, values.size());
  map.values = values;
  return map;
}

}  // namespace

ChainResult RunChain(const Network& network, const std::vector<std::vector<double>>& parameters, const LaneBatch& lane, int height,
                     int width, int global_batch, bool training, uint64_t seed, uint64_t step) {
  const auto shapes = InferShapes(network, height, width);
  PLATEAU_CHECK(shapes.has_value(), "{}", shapes.error().message);
  const auto infos = ListParameters(network, *shapes);
  std::vector<int> weight_of_layer(network.layers.size(), -1);
  for (size_t i = 0; i < infos.size(); i += 2) weight_of_layer[infos[i].layer] = static_cast<int>(i);

  std::vector<Map> outputs;  // outputs[l + 1] is layer l's, outputs[0] the images
  outputs.emplace_back(static_cast<int>(lane.labels.size()), network.channels, height, width);
  outputs[0].values.assign(lane.images.begin(), lane.images.end());
  for (size_t l = 0; l < network.layers.size(); ++l) {
    const LayerDef& def = network.layers[l];
    const Window window{def.kernel, def.stride, def.pad};
    const int p = weight_of_layer[l];
    Map y;
    if (def.kind == LayerKind::kMaxPool) y = PoolForward(outputs[l], window);
    if (def.kind == LayerKind::kConvolution) y = ConvForward(outputs[l], AsMap(infos[p], parameters[p]), parameters[p + 1], window);
    if (def.kind == LayerKind::kFullyConnected) y = FcForward(outputs[l], AsMap(infos[p], parameters[p]), parameters[p + 1]);
    if (def.relu) Relu(y);
    if (training && def.dropout > 0) Dropout(y, def.dropout, static_cast<int>(l), seed, step, lane.sample_index);
    outputs.push_back(std::move(y));
  }

  ChainResult result{.logits = outputs.back(), .gradients = std::vector<std::vector<double>>(infos.size())};
  auto loss = SoftmaxLoss(result.logits, lane.labels, lane.weights, global_batch);
  result.loss = loss.loss;
  Map dy = std::move(loss.gradient);
  for (size_t l = network.layers.size(); l-- > 0;) {
    const LayerDef& def = network.layers[l];
    const Window window{def.kernel, def.stride, def.pad};
    const int p = weight_of_layer[l];
    if (training && def.dropout > 0) Dropout(dy, def.dropout, static_cast<int>(l), seed, step, lane.sample_index);
    if (def.relu) ReluBackward(outputs[l + 1], dy);
    if (def.kind == LayerKind::kMaxPool) {
      dy = PoolBackward(dy, outputs[l], window);
      continue;
    }
    const Map w = AsMap(infos[p], parameters[p]);
    const bool conv = def.kind == LayerKind::kConvolution;
    auto gradients = conv ? ConvBackwardWeights(dy, outputs[l], w, window) : FcBackwardWeights(dy, outputs[l], w);
    result.gradients[p] = std::move(gradients.w.values);
    result.gradients[p + 1] = std::move(gradients.b);
    if (l > 0) dy = conv ? ConvBackwardData(dy, w, outputs[l], window) : FcBackwardData(dy, w, outputs[l]);
  }
  return result;
}

}  // namespace plateau::reference
