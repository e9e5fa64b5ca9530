// A wait for what has no event to wait for.
#include "worker/collective/patient_wait.h"

#include <sched.h>
#include <time.h>

namespace plateau {
namespace {

constexpr int kSpinPolls = 2000;    // polls before the core is offered to others
constexpr int kYieldPolls = 20000;  // polls before waits begin to sleep
constexpr long kSleepNs = 50'000;

}  // namespace

void PatientWait::Pause() {
  ++polls_;
  if (polls_ < kSpinPolls) return;
  if (polls_ < kYieldPolls) {
    sched_yield();
    return;
  }
  const timespec nap{0, kSleepNs};
  nanosleep(&nap, nullptr);
}

}  // namespace plateau
