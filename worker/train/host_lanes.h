// Into which lanes a rank on the CPU cuts its rows when the specification leaves it to us.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"
#include "worker/collective/collective.h"
#include "worker/model/network.h"

namespace plateau {

struct HostMemory {
  uint64_t machine_bytes = 0;         // what is built in
  uint64_t group_bytes = UINT64_MAX;  // the limit of this process's control group, such as a container's
  std::string group;                  // tells control groups of one machine apart, from inside containers too; "" without a limit
};

// `groups`: where control groups are mounted.
HostMemory ReadHostMemory(const std::string& groups = "/sys/fs/cgroup");
// What the processes of this machine may take together: its memory, or the limit of their control group where that is less.
uint64_t MachineMemoryBytes();
// Collective. An equal part for each rank: of the machine's memory among the ranks on it, or of the control group's among those in
// it where that is less.
uint64_t PartOfMemory(Collective& collective, const HostMemory& memory);

// Rows of the lanes of a rank of `rows` rows of side `crop`: all at once where training, by EstimateTrainingMemory and with the open
// sums of lanes, takes `bytes` at most; else as few lanes as do, or those that take the least. Errors as InferShapes.
Result<int> HostLaneRows(const Network& network, int crop, int rows, uint64_t bytes);

// The rows at most in a lane that `auto` comes to: what a run that goes on was cut into (`recorded`; -1: nothing says) where that
// fits, so that its bits stay, and with batch norm the run; else what fits. `fits` and the answer: 0, or from `most_rows` on: all
// at once.
int LargestLane(int recorded, int fits, int most_rows);

}  // namespace plateau
