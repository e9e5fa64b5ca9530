// The fixed rule that says which convolution pass runs as Winograd: a pure function of shape and pass, so that any two runs choose
// alike.
#pragma once

#include "worker/nn/plan.h"

namespace plateau {

enum class ConvPass { kForward, kBackwardData, kBackwardWeights };

struct ConvShape {
  int batch = 1;
  int in_channels = 0, out_channels = 0;
  int height = 0, width = 0;  // of the output map
  int kernel = 0, stride = 1, pad = 0;
};

// kDirect or kWinograd. `requested` other than kAuto wins where Winograd exists at all: 3x3, stride 1, pad 1, at least 16 channels.
ConvAlgorithm ChooseConvAlgorithm(const ConvShape& shape, ConvPass pass, ConvAlgorithm requested, bool has_avx512);
const char* ConvPassName(ConvPass pass);                 // "forward", "backward_data", "backward_weights"
const char* ConvAlgorithmName(ConvAlgorithm algorithm);  // "auto", "direct", "winograd"

}  // namespace plateau
