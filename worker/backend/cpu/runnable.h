// What the CPU engine demands of a network beyond shapes that fit.
#pragma once

#include "common/error.h"
#include "worker/model/network.h"

namespace plateau {

// kUnsupported, naming the layer: inputs that are not earlier layers, a number of them that the kind does not take, a ReLU or
// dropout where the kind has none, images read by a fully connected layer, an output that nobody uses, an auxiliary layer on the main path, or heads that do not give
// logits.
Status RequireRunnable(const Network& network);

}  // namespace plateau
