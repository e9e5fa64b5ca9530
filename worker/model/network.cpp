// Looks a network up by name, and follows shapes through its layers.
#include "worker/model/network.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "common/check.h"
#include "common/text.h"
#include "worker/model/alexnet.h"
#include "worker/model/googlenet.h"
#include "worker/model/lenet.h"
#include "worker/model/resnet.h"
#include "worker/model/vgg.h"
#include "worker/model/zfnet.h"

namespace plateau {
namespace {

constexpr int kChannelStep = 16;  // vector width of the engines: no channel count leaves a block half full

struct KnownNetwork {
  std::string name;
  std::function<Network(const NetworkOptions&)> make;
};

const std::vector<KnownNetwork>& Table() {
  static const std::vector<KnownNetwork> table = [] {
    std::vector<KnownNetwork> list;
    for (const VggConfiguration& vgg : VggConfigurations())
      list.push_back({vgg.name, [&vgg](const NetworkOptions& options) { return MakeVgg(vgg, options); }});
    list.push_back({"lenet", MakeLeNet});
    list.push_back({"alexnet", MakeAlexNet});
    list.push_back({"zfnet", MakeZfNet});
    list.push_back({"googlenet", MakeGoogLeNet});
    for (const ResNetConfiguration& resnet : ResNetConfigurations())
      list.push_back({resnet.name, [&resnet](const NetworkOptions& options) { return MakeResNet(resnet, options); }});
    return list;
  }();
  return table;
}

}  // namespace

Result<Network> MakeNetwork(const std::string& name, const NetworkOptions& options) {
  if (!(options.width > 0 && options.width <= 16)) {
    return Fail(ErrorCode::kInvalidInput, "{}: width {} is not in (0, 16]; 1 is the paper's", name, options.width);
  }
  if (options.classes < 1) return Fail(ErrorCode::kInvalidInput, "{}: {} classes; at least 1 is needed", name, options.classes);
  if (options.channels < 1) return Fail(ErrorCode::kInvalidInput, "{}: {} input channels; images have 3", name, options.channels);
  if (!(options.dropout >= 0 && options.dropout < 1)) {
    return Fail(ErrorCode::kInvalidInput, "{}: dropout {} is not in [0, 1)", name, options.dropout);
  }
  for (const KnownNetwork& known : Table())
    if (known.name == name) return known.make(options);
  const std::string nearest = NearestName(name, NetworkNames());
  const std::string hint = nearest.empty() ? std::string() : fmt::format("did you mean {}? ", nearest);
  return Fail(ErrorCode::kInvalidInput, "unknown network '{}': {}known are {}", name, hint, JoinNames(NetworkNames()));
}

NetworkOptions PaperOptions(const std::string& name) {
  if (name == "lenet") return {.classes = 10, .channels = 1};
  return {};
}

const std::vector<std::string>& NetworkNames() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const KnownNetwork& known : Table()) list.push_back(known.name);
    return list;
  }();
  return names;
}

LayerShape InputShape(const Network& network, const std::vector<LayerShape>& shapes, int height, int width, int layer, int which) {
  const int input = network.layers[static_cast<size_t>(layer)].inputs[static_cast<size_t>(which)];
  return input < 0 ? LayerShape{network.channels, height, width} : shapes[static_cast<size_t>(input)];
}

bool HasParameters(const LayerDef& layer) {
  return layer.kind == LayerKind::kConvolution || layer.kind == LayerKind::kFullyConnected || layer.kind == LayerKind::kBatchNorm;
}

int ScaledChannels(int paper, double width) {
  if (width == 1) return paper;
  return std::max(kChannelStep, kChannelStep * static_cast<int>(std::lround(width * paper / kChannelStep)));
}

namespace {

// Places of a window along one side; below 1 when there is none.
int Places(const LayerDef& layer, int size) {
  const int room = size + 2 * layer.pad - layer.kernel;
  if (size < 1 || room < 0) return 0;
  if (!layer.ceil_mode) return room / layer.stride + 1;
  const int places = (room + layer.stride - 1) / layer.stride + 1;
  return (places - 1) * layer.stride >= size + layer.pad ? places - 1 : places;  // the last window begins inside
}

Result<LayerShape> JoinedShape(const Network& network, const LayerDef& layer, const std::vector<LayerShape>& inputs) {
  LayerShape joined = inputs[0];
  for (size_t i = 1; i < inputs.size(); ++i) {
    const bool same_map = inputs[i].height == joined.height && inputs[i].width == joined.width;
    const bool adds = layer.kind == LayerKind::kAdd;
    if (!same_map || (adds && inputs[i].channels != joined.channels))
      return Fail(ErrorCode::kInvalidInput, "{}: layer {} joins maps of {}x{}x{} and {}x{}x{}; use another input size",
                  network.name, layer.name, joined.channels, joined.height, joined.width, inputs[i].channels, inputs[i].height,
                  inputs[i].width);
    if (!adds) joined.channels += inputs[i].channels;
  }
  return joined;
}

}  // namespace

Result<std::vector<LayerShape>> InferShapes(const Network& network, int height, int width) {
  std::vector<LayerShape> shapes;
  for (const LayerDef& layer : network.layers) {
    PLATEAU_CHECK(!layer.inputs.empty(), "layer {}", layer.name);
    std::vector<LayerShape> inputs;
    for (const int input : layer.inputs) {
      PLATEAU_CHECK(input < static_cast<int>(shapes.size()), "layer {}", layer.name);
      inputs.push_back(input < 0 ? LayerShape{network.channels, height, width} : shapes[static_cast<size_t>(input)]);
    }
    const LayerShape in = inputs[0];
    switch (layer.kind) {
      case LayerKind::kFullyConnected: shapes.push_back({layer.out_channels, 1, 1}); continue;
      case LayerKind::kLrn:
      case LayerKind::kBatchNorm: shapes.push_back(in); continue;
      case LayerKind::kConcat:
      case LayerKind::kAdd: {
        PLATEAU_ASSIGN(const LayerShape joined, JoinedShape(network, layer, inputs));
        shapes.push_back(joined);
        continue;
      }
      case LayerKind::kConvolution:
      case LayerKind::kMaxPool:
      case LayerKind::kAveragePool: break;
    }
    const int channels = layer.kind == LayerKind::kConvolution ? layer.out_channels : in.channels;
    const int rows = layer.global ? 1 : Places(layer, in.height), columns = layer.global ? 1 : Places(layer, in.width);
    if (in.height < 1 || in.width < 1 || rows < 1 || columns < 1) {
      return Fail(ErrorCode::kInvalidInput,
                  "{}: an input of {}x{} shrinks to nothing at layer {} (its input is {}x{}, its window {}x{}); use larger images",
                  network.name, height, width, layer.name, in.height, in.width, layer.kernel, layer.kernel);
    }
    shapes.push_back({channels, rows, columns});
  }
  return shapes;
}

}  // namespace plateau
