// The names that torchvision gives the same tensors, for exchange with PyTorch.
#pragma once

#include <string>

#include "worker/model/network.h"

namespace plateau {

// "conv1_1.weight" -> "features.0.weight", "fc6.bias" -> "classifier.0.bias", for a VGG network (a convolution and its ReLU take
// two places of `features`, a pool one; linear, ReLU and dropout three of `classifier`). kNotFound for a name the network does not
// have.
Result<std::string> TorchvisionName(const Network& network, const std::string& parameter);

}  // namespace plateau
