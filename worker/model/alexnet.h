// AlexNet of Krizhevsky et al. 2012, as a single column.
#pragma once

#include "worker/model/network.h"

namespace plateau {

Network MakeAlexNet(const NetworkOptions& options);

}  // namespace plateau
