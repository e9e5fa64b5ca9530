// Writes checkpoints in the background, one at a time, from snapshots.
#pragma once

#include <atomic>
#include <future>
#include <string>

#include "worker/train/authority.h"
#include "worker/train/checkpoint.h"
#include "worker/train/pulse.h"

namespace plateau {

// What a checkpoint cost the training thread.
struct SavePause {
  double waited_s = 0;    // for an earlier one that was still being written
  double snapshot_s = 0;  // for the copy of weights and momentum
};

// Training thread only. The writing runs on a thread of its own, of low priority and not bound to the rank's cores, while training
// goes on; at most one checkpoint is being written.
class CheckpointSaver {
 public:
  // Allocates the snapshot's memory. Borrows all; `threads` is the rank's team.
  CheckpointSaver(FileSystem& files, std::string attempt_folder, Authority& authority, ParameterStore& parameters, int threads,
                  Pulse& pulse)
      : files_(files),
        attempt_folder_(std::move(attempt_folder)),
        authority_(authority),
        pulse_(pulse),
        snapshot_(parameters, threads) {}

  // Takes a snapshot; writes and publishes it behind the caller's back. Blocks while an earlier one is still being written (the
  // log says so), and answers its fault. `order`: the newest order of the authority that it obeys.
  Result<SavePause> Save(CheckpointState state, int64_t order = 0);
  // The same on the caller's thread: it is on the disk, and the authority knows it, on return.
  Result<SavePause> SaveNow(CheckpointState state, bool final, int64_t order = 0);
  // Blocks until nothing is being written; the fault of the last one.
  Status Wait();
  bool writing() const;
  // True when a checkpoint failed in the background; Wait() tells how.
  bool failed() const { return failed_.load(); }

 private:
  Result<SavePause> Take(int64_t step);
  Status WriteAndPublish(const CheckpointState& state, bool final, int64_t order);

  FileSystem& files_;
  std::string attempt_folder_;
  Authority& authority_;
  Pulse& pulse_;
  ParameterSnapshot snapshot_;
  std::atomic<bool> failed_{false};
  int64_t writing_step_ = 0;
  std::future<Status> writing_;  // last: its destructor waits for the thread that uses the others
};

}  // namespace plateau
