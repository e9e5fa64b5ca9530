// The VGG configurations of Simonyan & Zisserman (arXiv 1409.1556, table 1) as code.
#pragma once

#include <string>
#include <vector>

#include "worker/model/network.h"

namespace plateau {

// One convolution of a block.
struct VggConv {
  int channels = 0;  // paper's, at width 1
  int kernel = 3;    // 3, or 1 in configuration C
};

// Five blocks, each followed by a 2x2 max pool of stride 2; fc6, fc7 and fc8 close every configuration.
struct VggConfiguration {
  std::string name;  // "vgg-a"
  std::vector<std::vector<VggConv>> blocks;
  bool lrn = false;         // A-LRN: local response normalisation after the ReLU of conv1_1
  bool batch_norm = false;  // torchvision's variants: after every convolution, before its ReLU; biases stay
};

// The paper's columns, then those with batch norm.
const std::vector<VggConfiguration>& VggConfigurations();
Network MakeVgg(const VggConfiguration& configuration, const NetworkOptions& options);

}  // namespace plateau
