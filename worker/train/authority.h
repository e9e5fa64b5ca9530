// Who decides the learning rate and publishes checkpoints: the coordinator, or rank 0 itself when there is none. Used by rank 0
// only.
#pragma once

#include <memory>
#include <string>

#include "common/file.h"
#include "common/lr_plateau.h"
#include "common/messages.h"
#include "worker/train/checkpoint.h"
#include "worker/train/coordinator_link.h"

namespace plateau {

class Authority {
 public:
  virtual ~Authority() = default;
  // Folds a validation's value into the policy's state. May block for as long as the coordinator is away; kUnavailable when a stop
  // was asked for meanwhile.
  virtual Result<LrOutcome> Decide(const ValidationReport& report, double value, const LrState& before) = 0;
  // Number of the newest order to write a checkpoint now, 0 none so far. It counts up.
  virtual int64_t CheckpointOrder() const = 0;
  // A checkpoint is complete on the disk; `order`: the newest one it obeys. Called on the thread that wrote it.
  virtual Status Publish(const WrittenCheckpoint& written, const CheckpointState& state, bool final, int64_t order) = 0;
  virtual void Report(const Metrics& metrics) = 0;
  virtual Status Finish(const Finished& finished) = 0;
};

struct RetentionOptions {
  int keep_last = 2, keep_best = 1;
};

// Rank 0 without a coordinator: decides by the policy, publishes current.json and deletes what need not be kept.
std::unique_ptr<Authority> MakeLocalAuthority(FileSystem& files, std::string run_folder, const LrPolicy& policy,
                                              const RetentionOptions& retention);
// Asks and tells the coordinator over `link` (borrowed).
std::unique_ptr<Authority> MakeLinkAuthority(CoordinatorLink& link, const LrPolicy& policy);

}  // namespace plateau
