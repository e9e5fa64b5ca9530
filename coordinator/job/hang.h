// The hang verdict: which rank of a running attempt no longer answers, or keeps the others waiting. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "coordinator/job/machine.h"

namespace plateau {

// How long a rank may be silent: its hang timeout, and longer while it was never heard. Milliseconds.
int64_t SilenceLimitMs(const Job& job, const WorkerView& worker, const MachineLimits& limits);
// True while silence of a rank is a verdict: processes run, nothing says they are about to leave.
bool WatchesHeartbeats(const Job& job);

struct HangVerdict {
  int64_t rank = -1;  // the first of those to blame; -1: all ranks wait alike
  std::string host;   // of that rank
  int64_t step = 0;
  std::string phase;
  bool silent = true;   // its heartbeats stopped; false: all ranks send them and none makes progress
  double seconds = 0;   // of silence, or without progress
  std::string message;  // one sentence for people
};

// A rank that was not heard for fault.hang_timeout is silent (one that was never heard: at least start_allowance_ms, or
// reconnect_allowance_ms after a restart of the coordinator). When all are heard and
// none has made progress for that long, the odd one out is to blame: the rank that is not in the collective call in which the
// others wait, or is in an earlier one, or is behind. Two waits are no hang: for the coordinator's decision or acknowledgement.
// Ranks that still load and prepare (phase "start", "start: joining NCCL") have start_stall_ms.
std::optional<HangVerdict> JudgeHang(const Job& job, int64_t now_ms, const MachineLimits& limits);

// Monotonic time at which the verdict is due if nothing is heard until then; nothing while there is nothing to judge.
std::optional<int64_t> NextHangVerdictMs(const Job& job, const MachineLimits& limits);

}  // namespace plateau
