// Counts places as torchvision's nn.Sequential does.
#include "worker/model/torchvision_names.h"

namespace plateau {

Result<std::string> TorchvisionName(const Network& network, const std::string& parameter) {
  const size_t dot = parameter.rfind('.');
  const std::string layer_name = parameter.substr(0, dot), rest = dot == std::string::npos ? std::string() : parameter.substr(dot);
  int feature = 0, classifier = 0;
  for (const LayerDef& layer : network.layers) {
    const bool fully_connected = layer.kind == LayerKind::kFullyConnected;
    if (layer.name == layer_name && layer.kind != LayerKind::kMaxPool) {
      return fully_connected ? fmt::format("classifier.{}{}", classifier, rest) : fmt::format("features.{}{}", feature, rest);
    }
    if (fully_connected) {
      classifier += 3;
    } else {
      feature += layer.kind == LayerKind::kConvolution ? 2 : 1;
    }
  }
  return Fail(ErrorCode::kNotFound, "{} has no parameter '{}'", network.name, parameter);
}

}  // namespace plateau
