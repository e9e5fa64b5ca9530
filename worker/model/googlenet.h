// GoogLeNet, inception version 1, of Szegedy et al. 2014.
#pragma once

#include "worker/model/network.h"

namespace plateau {

// Without batch norm; layers carry the names of the published Caffe model ("inception_3a/1x1").
Network MakeGoogLeNet(const NetworkOptions& options);

}  // namespace plateau
