// One synchronous SGD step of a rank, from its batch to its updated weights.
#pragma once

#include <cstdint>
#include <vector>

#include "dataset/batch.h"
#include "worker/nn/plan.h"
#include "worker/nn/trainer.h"
#include "worker/train/pulse.h"
#include "worker/train/reducer.h"
#include "worker/train/sgd.h"

namespace plateau {

// As few lanes as micro_batch allows, of equal size. micro_batch 0: one lane. rank_rows >= 1.
LaneShape CutIntoLanes(int rank_rows, int micro_batch);

// All rows of a batch; borrowed from it.
LaneBatch RowsOf(const Batch& batch);
// The samples of one lane of a rank's rows.
LaneBatch LaneOf(const LaneBatch& rows, const LaneShape& shape, int lane);

// What runs a rank's lanes. Borrowed; the same every step.
struct LaneParts {
  Plan& plan;
  const Network& network;
  LaneShape shape;
  int global_batch = 1;
};

struct StepParts {
  LaneParts lanes;
  GradientReducer& reducer;
  Sgd& sgd;
  Pulse& pulse;
};

// Runs the step; its votes carry this rank's stop, fault and interval votes into the totals. When a rank's loss is not finite
// nothing is updated on any rank.
StepResult TrainStep(StepParts& parts, const StepInput& input);

// Place 0 of the network is its input, place i + 1 its layer i, and the place behind the last layer is the loss.
std::string PlaceName(const Network& network, size_t place);
// After a step whose loss was not finite on some rank: the first place whose values are not finite on this rank, by running forward
// again with checks; the number of places when all are finite.
size_t FirstNonFinitePlace(const LaneParts& parts, const LaneBatch& rows, uint64_t step);

}  // namespace plateau
