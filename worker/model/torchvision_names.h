// The names that torchvision gives the same tensors, for exchange with PyTorch.
#pragma once

#include <string>

#include "worker/model/network.h"

namespace plateau {

// torchvision.models' name of the same network: "vgg-d" -> "vgg16", "vgg-a-bn" -> "vgg11_bn", "resnet-18" -> "resnet18".
// kUnsupported for a network that torchvision lacks (vgg-c, vgg-a-lrn, lenet, zfnet; its googlenet has batch norm), naming those it
// has.
Result<std::string> TorchvisionModel(const std::string& network);

// "conv1_1.weight" -> "features.0.weight", "fc6.bias" -> "classifier.0.bias", "layer1.0.bn1.running_mean" as it is. Errors:
// kUnsupported as above, kNotFound for a name the network does not have.
Result<std::string> TorchvisionName(const Network& network, const std::string& parameter);

}  // namespace plateau
