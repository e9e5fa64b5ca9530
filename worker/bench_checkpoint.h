// Times training steps while a checkpoint is written behind them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/nn/parameter.h"

namespace plateau {

// Seconds, over all rounds.
struct CheckpointTimes {
  std::vector<double> plain_s;   // steps with nothing being written, ascending
  std::vector<double> during_s;  // steps that began while one was being written, ascending; the first of each includes its snapshot
  std::vector<double> snapshot_s;  // of each round: how long training stood still for the copy
  std::vector<double> write_s;     // of each round: until it was on the disk and published
  uint64_t bytes = 0;              // of one checkpoint
};

// Runs `step` alone (as many times as `plain_steps`), then writes a checkpoint to `folder` while it runs on; `rounds` times. The
// last checkpoint is read back and compared with the weights of its step: kCorrupt when they differ. `folder` must be new; it is
// removed afterwards.
Result<CheckpointTimes> TimeCheckpoints(ParameterStore& parameters, int threads, const std::string& folder, int rounds,
                                        int plain_steps, const std::function<void()>& step);

}  // namespace plateau
