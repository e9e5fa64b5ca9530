// Looks a network up by name, and follows shapes through its layers.
#include "worker/model/network.h"

#include "common/check.h"
#include "common/text.h"
#include "worker/model/vgg.h"

namespace plateau {

Result<Network> MakeNetwork(const std::string& name, const NetworkOptions& options) {
  if (!(options.width > 0 && options.width <= 16)) {
    return Fail(ErrorCode::kInvalidInput, "{}: width {} is not in (0, 16]; 1 is the paper's", name, options.width);
  }
  if (options.classes < 1) return Fail(ErrorCode::kInvalidInput, "{}: {} classes; at least 1 is needed", name, options.classes);
  if (options.channels < 1) return Fail(ErrorCode::kInvalidInput, "{}: {} input channels; images have 3", name, options.channels);
  if (!(options.dropout >= 0 && options.dropout < 1)) {
    return Fail(ErrorCode::kInvalidInput, "{}: dropout {} is not in [0, 1)", name, options.dropout);
  }
  for (const auto& configuration : VggConfigurations()) {
    if (configuration.name == name) return MakeVgg(configuration, options);
  }
  const std::string nearest = NearestName(name, NetworkNames());
  const std::string hint = nearest.empty() ? std::string() : fmt::format("did you mean {}? ", nearest);
  return Fail(ErrorCode::kInvalidInput, "unknown network '{}': {}known are {}", name, hint, JoinNames(NetworkNames()));
}

const std::vector<std::string>& NetworkNames() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const auto& configuration : VggConfigurations()) list.push_back(configuration.name);
    return list;
  }();
  return names;
}

Result<std::vector<LayerShape>> InferShapes(const Network& network, int height, int width) {
  std::vector<LayerShape> shapes;
  for (const LayerDef& layer : network.layers) {
    PLATEAU_CHECK(layer.inputs.size() == 1 && layer.inputs[0] < static_cast<int>(shapes.size()), "layer {}", layer.name);
    const LayerShape in = layer.inputs[0] < 0 ? LayerShape{network.channels, height, width} : shapes[layer.inputs[0]];
    if (layer.kind == LayerKind::kFullyConnected) {
      shapes.push_back({layer.out_channels, 1, 1});
      continue;
    }
    const int rows = in.height + 2 * layer.pad - layer.kernel, columns = in.width + 2 * layer.pad - layer.kernel;
    if (in.height < 1 || in.width < 1 || rows < 0 || columns < 0) {
      return Fail(ErrorCode::kInvalidInput,
                  "{}: an input of {}x{} shrinks to nothing at layer {} (its input is {}x{}, its window {}x{}); use larger images",
                  network.name, height, width, layer.name, in.height, in.width, layer.kernel, layer.kernel);
    }
    const int channels = layer.kind == LayerKind::kMaxPool ? in.channels : layer.out_channels;
    shapes.push_back({channels, rows / layer.stride + 1, columns / layer.stride + 1});
  }
  return shapes;
}

}  // namespace plateau
