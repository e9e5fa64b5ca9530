// Waits for events of a device, but not longer than asked: CUDA's own wait has no bound.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {

// A thread of its own sits in CUDA's wait and wakes the caller, who waits with a bound in between: nobody polls, and the caller hears of
// the event as soon as with CUDA's wait. One caller at a time.
class BoundedWait {
 public:
  explicit BoundedWait(int device);
  // Blocks until an event that is still waited for is done, but not longer than a few seconds: the thread is left behind then.
  ~BoundedWait();
  BoundedWait(const BoundedWait&) = delete;
  BoundedWait& operator=(const BoundedWait&) = delete;

  // Whether `event` was done within the bound. After false only the same event may be asked for; it must live until it is done. Faults
  // of the device throw Failure.
  bool Until(const Event& event, int64_t bound_ms);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;  // of both threads
};

}  // namespace plateau::cuda
