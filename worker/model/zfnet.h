// ZFNet of Zeiler & Fergus 2013: AlexNet with finer windows and more maps.
#pragma once

#include "worker/model/network.h"

namespace plateau {

Network MakeZfNet(const NetworkOptions& options);

}  // namespace plateau
