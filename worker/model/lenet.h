// LeNet-5 of LeCun et al. 1998 with today's parts: ReLU, max pools, soft-max.
#pragma once

#include "worker/model/network.h"

namespace plateau {

Network MakeLeNet(const NetworkOptions& options);

}  // namespace plateau
