// Takes batches of a validation through a network and sums their losses: the host drives a Plan, a device works behind the host.
#pragma once

#include "worker/nn/plan.h"

namespace plateau {

// One thread. Faults throw Failure.
class Scorer {
 public:
  virtual ~Scorer() = default;
  // Batches that may still be unsettled when the next one is enqueued: 0 where Enqueue computes, 1 where a device works behind the
  // host.
  virtual int depth() const = 0;
  // Begins a batch; at most depth() others are unsettled. Its spans are read when this returns.
  virtual void Enqueue(const LaneBatch& rows) = 0;
  // Waits for the oldest unsettled batch: its sums, as Plan::Loss has them.
  virtual LossSums Settle() = 0;
};

}  // namespace plateau
