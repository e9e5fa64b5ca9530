// The training loop of a rank: steps, and between them ordered boundaries of validation, decision and checkpoint.
#pragma once

#include <deque>
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
  Trainer& trainer;  // of training_plan
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

// One run from `state` to its end. Training thread only. A trainer may run steps behind the host: what a step came to is then known
// when it is settled, `depth` steps later, and its batch is kept until then. Boundaries stand between settled steps: one that the
// step's number foretells comes as early as on the CPU, one that ranks vote for (a stop, an interval of time) `depth` steps later.
class TrainLoop {
 public:
  TrainLoop(const LoopOptions& options, const LoopParts& parts, TrainState state);
  // The end's reason: "MAX_EPOCHS", "MAX_STEPS", "PLATEAU", or "STOPPED" when a stop was asked for; its checkpoint is on the disk.
  // All ranks return alike. Faults of one rank alone (a record that cannot be read) throw Failure.
  tl::expected<std::string, TrainFault> Run();

 private:
  using Outcome = tl::expected<void, TrainFault>;
  // A step that was enqueued and not settled.
  struct Underway {
    std::unique_ptr<Batch> batch;
    double lr = 0, data_wait_s = 0;
  };
  bool BoundaryDue(int64_t step) const;
  Outcome Boundary();
  void EnqueueStep();
  Outcome SettleStep();
  Outcome SettleDownTo(size_t steps);
  void Drop();
  void ValidateAndDecide();
  Outcome SaveCheckpoint(bool final);
  TrainFault NonFiniteLoss(const Batch& batch);
  TrainFault NonFiniteWeights(int parameter) const;
  TrainFault CheckpointFault(const Status& status) const;
  StepTotals Votes();
  bool Due(const Interval& interval, int64_t since_step, int64_t step, bool voted) const;
  double Epoch(int64_t step) const;
  Result<std::unique_ptr<Pipeline>> StartPipeline() const;

  LoopOptions options_;
  LoopParts parts_;
  TrainState state_;
  LaneParts lanes_;
  Validator validator_;
  std::unique_ptr<Pipeline> pipeline_;
  std::deque<Underway> underway_;  // the oldest has the number state_.step
  StepTotals votes_;               // that all ranks saw since the last boundary
  bool stopping_ = false;  // agreed by all ranks
  std::string end_;
  int64_t checkpointed_step_ = 0;                              // step of the newest checkpoint; -1: it is not published
  int64_t validation_clock_ms_ = 0, checkpoint_clock_ms_ = 0;  // rank 0: when the time-based intervals began
  int64_t begun_ms_ = 0;                                       // monotonic
  int64_t order_ = 0, obeyed_order_ = 0;                       // rank 0: of the authority, voted for and obeyed
};

}  // namespace plateau
