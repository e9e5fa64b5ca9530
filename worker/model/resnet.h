// The residual networks of He et al. 2015.
#pragma once

#include <string>
#include <vector>

#include "worker/model/network.h"

namespace plateau {

// A column of table 1 of the paper.
struct ResNetConfiguration {
  std::string name;         // "resnet-50"
  bool bottleneck = false;  // 1x1, 3x3, 1x1 to four times the channels; else two 3x3
  std::vector<int> blocks;  // residual blocks of conv2_x to conv5_x
};

const std::vector<ResNetConfiguration>& ResNetConfigurations();
// Layers carry torchvision's names ("layer1.0.conv1").
Network MakeResNet(const ResNetConfiguration& configuration, const NetworkOptions& options);

}  // namespace plateau
