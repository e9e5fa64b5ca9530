// Runs whole training steps of one rank: the host drives a Plan layer by layer, a device runs the step as one piece of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/nn/plan.h"

namespace plateau {

// What a rank adds to a step besides gradients; the sums over ranks travel in the last bucket, so that every rank decides alike.
// Counts are exact up to 2^24.
struct StepTotals {
  double loss = 0;  // sum of -log p(label); the mean is loss / images
  int64_t images = 0;
  int64_t top1_correct = 0;
  int64_t nonfinite = 0;   // ranks whose loss, hidden outputs or gradients are NaN or infinite
  int64_t stop = 0;        // ranks that were asked to stop
  int64_t fault = 0;       // ranks that cannot go on (rank 0: a checkpoint could not be written)
  int64_t validate = 0;    // rank 0: a time-based validation is due
  int64_t checkpoint = 0;  // rank 0: a time-based or ordered checkpoint is due
};

// How a rank's rows are cut into lanes (micro-batches) of one plan shape; the last rows may be padding.
struct LaneShape {
  int lanes = 1;
  int lane_rows = 1;
  int rows() const { return lanes * lane_rows; }
};

struct TrainerOptions {
  LaneShape shape;  // of this rank; `lane_rows` is the training plan's batch
  int global_batch = 1;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  bool decay_biases = true;
  bool pixels = false;  // rows bring bytes, which the engine takes
};

struct StepInput {
  LaneBatch rows;  // all lanes of the rank, shape.rows() rows; borrowed until the step is settled
  uint64_t step = 0;
  double lr = 0;
  StepTotals votes;  // this rank's stop, fault and interval votes; they come back summed over ranks
};

struct StepResult {
  StepTotals totals;             // over all ranks
  int nonfinite_parameter = -1;  // first one that the update made a NaN or infinity; the same on all ranks
};

// Training thread only; all ranks make the same calls in the same order. Faults throw Failure.
// When a rank's loss is not finite, nothing is updated on any rank, and no later step that was enqueued updates anything either.
class Trainer {
 public:
  virtual ~Trainer() = default;
  // Steps that may still be unsettled when the next one is enqueued: 0 where Enqueue computes, 1 where a device works behind the
  // host.
  virtual int depth() const = 0;
  // Begins a step; at most depth() others are unsettled.
  virtual void Enqueue(const StepInput& input) = 0;
  // Waits for the oldest unsettled step. After the last one the parameters are those behind all steps.
  virtual StepResult Settle() = 0;
  // How sums over ranks are made where the trainer makes them itself, for logs and the fingerprint.
  virtual std::vector<std::string> algorithms() const { return {}; }
};

}  // namespace plateau
