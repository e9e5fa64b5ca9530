// Counts places as torchvision's nn.Sequential does.
#include "worker/model/torchvision_names.h"

#include <algorithm>
#include <vector>

#include "common/text.h"

namespace plateau {
namespace {

struct Twin {
  const char *ours, *theirs;
};

constexpr Twin kTwins[] = {{"vgg-a", "vgg11"},         {"vgg-b", "vgg13"},         {"vgg-d", "vgg16"},
                           {"vgg-e", "vgg19"},         {"vgg-a-bn", "vgg11_bn"},   {"vgg-b-bn", "vgg13_bn"},
                           {"vgg-d-bn", "vgg16_bn"},   {"vgg-e-bn", "vgg19_bn"},   {"alexnet", "alexnet"},
                           {"resnet-18", "resnet18"},  {"resnet-34", "resnet34"},  {"resnet-50", "resnet50"},
                           {"resnet-101", "resnet101"}, {"resnet-152", "resnet152"}};

// Place of fully connected layer number `index` (from 0) in `classifier`: VGG has linear, ReLU, dropout, ...; AlexNet's dropout
// stands before its linear layers.
int ClassifierPlace(const Network& network, int index) { return network.name == "alexnet" ? (index < 2 ? 1 + 3 * index : 6) : 3 * index; }

// "features.0" or "classifier.3"; empty when the network has no such layer.
std::string SequentialPlace(const Network& network, const std::string& layer_name) {
  int feature = 0, fully_connected = 0;
  for (const LayerDef& layer : network.layers) {
    const bool linear = layer.kind == LayerKind::kFullyConnected;
    if (layer.name == layer_name && HasParameters(layer))
      return linear ? fmt::format("classifier.{}", ClassifierPlace(network, fully_connected)) : fmt::format("features.{}", feature);
    if (linear)
      ++fully_connected;
    else
      feature += layer.relu ? 2 : 1;  // a ReLU takes a place of its own
  }
  return "";
}

}  // namespace

Result<std::string> TorchvisionModel(const std::string& network) {
  std::vector<std::string> known;
  for (const Twin& twin : kTwins) {
    if (network == twin.ours) return std::string(twin.theirs);
    known.push_back(twin.ours);
  }
  return Fail(ErrorCode::kUnsupported, "{} has no twin in torchvision; those that have one are {}; use canonical names", network,
              JoinNames(known));
}

Result<std::string> TorchvisionName(const Network& network, const std::string& parameter) {
  PLATEAU_TRY(TorchvisionModel(network.name));
  const size_t dot = parameter.rfind('.');
  const std::string layer = parameter.substr(0, dot), rest = dot == std::string::npos ? std::string() : parameter.substr(dot);
  if (network.name.starts_with("resnet")) {
    const bool has = std::any_of(network.layers.begin(), network.layers.end(), [&](const LayerDef& l) { return l.name == layer; });
    if (has) return parameter;
  } else if (const std::string place = SequentialPlace(network, layer); !place.empty()) {
    return place + rest;
  }
  return Fail(ErrorCode::kNotFound, "{} has no parameter '{}'", network.name, parameter);
}

}  // namespace plateau
