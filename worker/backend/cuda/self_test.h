// A convolution and all-reduces on the devices themselves, held against the host: what `doctor` runs.
#pragma once

#include <string>
#include <vector>

#include "common/error.h"
#include "worker/collective/collective.h"

namespace plateau::cuda {

// As PluginTable::self_test. Never throws.
Result<std::vector<std::string>> SelfTest(int device);
// As PluginTable::rank_self_test: NCCL where every rank has a device of its own, else MPI through host memory. A rank that cannot
// prepare its part fails all, each with what it knows. One that fails later says so in its log and ends every rank with exit code
// 1: the others may be waiting for its part, which neither NCCL nor MPI gives up. Never throws.
Result<std::string> SelfTestRanks(Collective& collective, int device);

}  // namespace plateau::cuda
