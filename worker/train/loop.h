// The training loop of a rank: steps, and between them ordered boundaries of validation, decision and checkpoint.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/clock.h"
#include "dataset/pipeline.h"
#include "worker/collective/collective.h"
#include "worker/nn/plan.h"
#include "worker/train/authority.h"
#include "worker/train/checkpoint_saver.h"
#include "worker/train/pulse.h"
#include "worker/train/reporter.h"
#include "worker/train/state.h"
#include "worker/train/step.h"
#include "worker/train/trace.h"
#include "worker/train/validate.h"

namespace plateau {

struct LoopOptions {
  JobSpec spec;
  RunIdentity identity;
  LaneShape shape;  // of this rank
  RunLength length;
  int decode_threads = 1;
  bool unpublished = false;  // the state to go on from is not the published checkpoint: it is written and published at once
  double stop_after_s = 0;  // of this run, then as if a stop had been asked for; 0: never
};

// What rank 0 has and others do not.
struct RankZeroParts {
  Authority& authority;
  CheckpointSaver& saver;
  Reporter& reporter;
};

// The parts a loop works with; borrowed.
struct LoopParts {
  Engine& engine;
  Plan& training_plan;
  Plan& validation_plan;
  const StoreReader& store;
  Collective& collective;
  const Clock& clock;
  Pulse& pulse;
  StopFlag& stop;
  RankZeroParts* rank_zero = nullptr;
  TraceWriter* trace = nullptr;
};

// Why the run could not go on; the same on every rank.
struct TrainFault {
  Error error;
  std::string reason;  // "NAN_LOSS", "IO"
  int64_t step = 0;
  std::string layer;  // NAN_LOSS
};

// One run from `state` to its end. Training thread only.
class TrainLoop {
 public:
  TrainLoop(const LoopOptions& options, const LoopParts& parts, TrainState state);
  // The end's reason: "MAX_EPOCHS", "MAX_STEPS", "PLATEAU", or "STOPPED" when a stop was asked for; its checkpoint is on the disk.
  // All ranks return alike. Faults of one rank alone (a record that cannot be read) throw Failure.
  tl::expected<std::string, TrainFault> Run();

 private:
  using Outcome = tl::expected<void, TrainFault>;
  Outcome Boundary();
  Outcome Step(Pipeline& pipeline);
  void ValidateAndDecide();
  Outcome SaveCheckpoint(bool final);
  TrainFault NonFiniteLoss(const Batch& batch);
  TrainFault NonFiniteWeights(int parameter) const;
  TrainFault CheckpointFault(const Status& status) const;
  StepTotals Votes();
  bool Due(const Interval& interval, int64_t since_step, bool voted) const;
  double Epoch(int64_t step) const;
  Result<std::unique_ptr<Pipeline>> StartPipeline() const;

  LoopOptions options_;
  LoopParts parts_;
  TrainState state_;
  GradientReducer reducer_;
  Sgd sgd_;
  StepParts step_parts_;
  Validator validator_;
  StepTotals last_;        // totals of the last step: votes that all ranks saw
  bool stopping_ = false;  // agreed by all ranks
  std::string end_;
  int64_t checkpointed_step_ = 0;                              // step of the newest checkpoint; -1: it is not published
  int64_t validation_clock_ms_ = 0, checkpoint_clock_ms_ = 0;  // rank 0: when the time-based intervals began
  int64_t begun_ms_ = 0;                                       // monotonic
  int64_t order_ = 0, obeyed_order_ = 0;                       // rank 0: of the authority, voted for and obeyed
};

}  // namespace plateau
