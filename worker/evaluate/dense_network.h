// A classifier as a network for images of any size: its fully connected layers become convolutions on the same weights.
#pragma once

#include "worker/model/network.h"

namespace plateau {

// The network without its auxiliary classifiers: what testing runs.
Network WithoutAuxiliary(const Network& network);

// For a network trained on crop x crop: each fully connected layer whose input is a map that grows with the image becomes a
// convolution of the map's size at the crop, without padding; when the last layer is one of them, a global average pool follows,
// which averages the class scores over the score map (Simonyan & Zisserman, section 3.2). Layers keep their names, and a
// convolution's weight [out, in, h, w] is the fully connected one [out, in * h * w] value by value. Auxiliary classifiers are left
// out. A network that ends in a global average pool before its classifier comes back as it is. Errors: as InferShapes; kUnsupported
// for a map that is not square at the crop.
Result<Network> MakeDense(const Network& network, int crop);

}  // namespace plateau
