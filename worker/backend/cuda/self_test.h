// A convolution and an all-reduce on the devices themselves, held against the host: what `doctor` runs.
#pragma once

#include <string>
#include <vector>

#include "common/error.h"

namespace plateau::cuda {

// As PluginTable::self_test. Never throws.
Result<std::vector<std::string>> SelfTest(int device);

}  // namespace plateau::cuda
