// Which checkpoints are kept: the newest few and the best few, and always the current one. Pure.
#pragma once

#include <string>
#include <vector>

#include "coordinator/job/job.h"

namespace plateau {

struct Retention {
  std::vector<CheckpointRecord> kept;  // oldest first; the last is current
  std::vector<std::string> removed;    // paths
};

// Adds `newest` to `checkpoints` (oldest first) and decides. Records at or beyond its step belong to a line of training that was
// given up (the newest checkpoint was damaged and an older one was resumed from): they go. Ties of the metric keep the older one.
Retention Retain(std::vector<CheckpointRecord> checkpoints, const CheckpointRecord& newest, int keep_last, int keep_best);

}  // namespace plateau
