// Lists the learned tensors of a network.
#include "worker/nn/parameter.h"

#include "common/check.h"

namespace plateau {

int64_t ParameterInfo::CanonicalCount() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

namespace {

void AddBatchNorm(const LayerDef& layer, int index, int channels, std::vector<ParameterInfo>& list) {
  const std::pair<const char*, ParameterRole> tensors[] = {{".weight", ParameterRole::kScale},
                                                           {".bias", ParameterRole::kShift},
                                                           {".running_mean", ParameterRole::kRunningMean},
                                                           {".running_var", ParameterRole::kRunningVariance}};
  for (const auto& [suffix, role] : tensors) {
    list.push_back({.name = layer.name + suffix, .shape = {channels}, .layer = index, .role = role, .fan_in = 1, .fan_out = 1});
    if (!list.back().learned()) list.back().average_momentum = layer.bn_momentum;
  }
}

}  // namespace

std::vector<ParameterInfo> ListParameters(const Network& network, const std::vector<LayerShape>& shapes) {
  PLATEAU_CHECK(shapes.size() == network.layers.size(), "{} shapes, {} layers", shapes.size(), network.layers.size());
  std::vector<ParameterInfo> list;
  for (int index = 0; index < static_cast<int>(network.layers.size()); ++index) {
    const LayerDef& layer = network.layers[index];
    if (!HasParameters(layer)) continue;
    const int input = layer.inputs[0];
    const LayerShape in = input < 0 ? LayerShape{network.channels, 0, 0} : shapes[input];
    if (layer.kind == LayerKind::kBatchNorm) {
      AddBatchNorm(layer, index, in.channels, list);
      continue;
    }
    const bool conv = layer.kind == LayerKind::kConvolution;
    const int64_t area = conv ? int64_t{layer.kernel} * layer.kernel : int64_t{in.height} * in.width;
    ParameterInfo weight{.name = layer.name + ".weight", .layer = index};
    weight.shape = conv ? std::vector<int64_t>{layer.out_channels, in.channels, layer.kernel, layer.kernel}
                        : std::vector<int64_t>{layer.out_channels, in.channels * area};
    weight.fan_in = in.channels * area;
    weight.fan_out = conv ? layer.out_channels * area : layer.out_channels;
    ParameterInfo bias{.name = layer.name + ".bias", .shape = {layer.out_channels}, .layer = index, .role = ParameterRole::kBias};
    bias.fan_in = weight.fan_in;
    bias.fan_out = weight.fan_out;
    list.push_back(std::move(weight));
    if (layer.bias) list.push_back(std::move(bias));
  }
  return list;
}

}  // namespace plateau
