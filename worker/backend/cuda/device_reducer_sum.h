// Sums of device memory over ranks: NCCL between the devices, MPI through page-locked host memory, or nothing for a rank alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/compute.h"
#include "worker/backend/cuda/runtime.h"
#include "worker/collective/collective.h"

namespace plateau {
class StartWatch;
}

namespace plateau::cuda {

// Device memory.
struct Stretch {
  float* values = nullptr;
  int64_t count = 0;
};

// Training thread only; all ranks begin the same sums in the same order. The same values on the same ranks give the same bits on every
// rank and in every run. Faults throw Failure.
class RankSum {
 public:
  virtual ~RankSum() = default;
  // Whether Start and Finish only queue, and may be captured into a graph. Otherwise Finish blocks until the sums are there.
  virtual bool capturable() const = 0;
  // Begins to sum over ranks, in place, what the stretches hold when the computing stream comes to this point.
  virtual void Start(std::span<const Stretch> stretches) = 0;
  // What is queued on the computing stream from now on sees every sum that was begun.
  virtual void Finish() = 0;
  // Blocks the host until `done`, an event of the computing stream that was recorded outside a capture.
  virtual void Wait(const Event& done) = 0;
  // "all-reduce NCCL 2.28.9 ring simple", for logs and the fingerprint; "" for a rank alone.
  virtual std::string description() const = 0;
};

std::unique_ptr<RankSum> MakeNoSum();
// Through `collective`, in pieces; `most_floats` are summed in a step.
std::unique_ptr<RankSum> MakeHostSum(Collective& collective, const Stream& compute, int64_t most_floats);

struct RankSumOptions {
  CollectiveKind wanted = CollectiveKind::kAuto;
  int device = 0;
  bool deterministic = true;
  int64_t most_floats = 0;      // of a step
  StartWatch* watch = nullptr;  // borrowed, of joining NCCL
};
// Collective. kAuto takes NCCL where every rank has a device of its own, else MPI, which rank 0 says in the log. Errors, the same on
// every rank: kInvalidInput where NCCL is asked for and two ranks share a device; kUnavailable when its communicator does not come to
// be; kConflict when `watch` wanted a stop meanwhile. Borrows collective and stream.
Result<std::unique_ptr<RankSum>> MakeRankSum(const RankSumOptions& options, Collective& collective, const Stream& compute);

}  // namespace plateau::cuda
