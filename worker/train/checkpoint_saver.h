// Writes checkpoints in the background, one at a time, from snapshots.
#pragma once

#include <atomic>
#include <future>
#include <string>

#include "worker/train/authority.h"
#include "worker/train/checkpoint.h"
#include "worker/train/pulse.h"

namespace plateau {

// Training thread only; the writing itself runs on a thread of its own while training goes on.
class CheckpointSaver {
 public:
  CheckpointSaver(FileSystem& files, std::string attempt_folder, Authority& authority, Pulse& pulse)
      : files_(files), attempt_folder_(std::move(attempt_folder)), authority_(authority), pulse_(pulse) {}

  // Copies the parameters, then writes and publishes behind the caller's back. Blocks while an earlier one is still being written,
  // and answers its fault. kNumeric, and nothing is written, when a weight is not finite.
  // `order`: the newest order of the authority that it obeys.
  Status Save(ParameterStore& parameters, CheckpointState state, bool final, int64_t order = 0);
  // Blocks until nothing is being written; the fault of the last one.
  Status Wait();
  // True when a checkpoint failed in the background; Wait() tells how.
  bool failed() const { return failed_.load(); }

 private:
  Status WriteAndPublish(const CheckpointState& state, bool final, int64_t order);

  FileSystem& files_;
  std::string attempt_folder_;
  Authority& authority_;
  Pulse& pulse_;
  ParameterSnapshot snapshot_;
  std::atomic<bool> failed_{false};
  std::future<Status> writing_;  // last: its destructor waits for the thread that uses the others
};

}  // namespace plateau
