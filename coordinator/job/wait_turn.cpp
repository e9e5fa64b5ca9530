// Why a job does not start yet: no room for it, a lost host, or the jobs that it depends on.
#include "coordinator/job/turn.h"

namespace plateau {

void Turn::On(const HoldPlaced& event) {
  const bool again = job().state == JobState::kHeld && !IsDependencyReason(job().reason) && job().message != event.message;
  if (job().state != JobState::kQueued && !again) return;
  job().state = JobState::kHeld;
  job().reason = event.reason;
  job().message = event.message;
  Record("held", event.message, {{"reason", event.reason}});
}

void Turn::On(const WaitNoted& event) {
  if (job().state != JobState::kQueued || (job().reason == event.reason && job().message == event.message)) return;
  job().reason = event.reason;
  job().message = event.message;
  Record("waiting", event.message, {{"reason", event.reason}});
}

void Turn::On(const DependenciesJudged& event) {
  if (job().state != JobState::kQueued && job().state != JobState::kHeld) return;
  const auto& [readiness, reason, message] = event.verdict;
  if (readiness == Readiness::kReady) {
    if (!IsDependencyReason(job().reason)) return;
    job().state = JobState::kQueued;
    job().reason = "RELEASED";
    job().message = "its dependencies are met; waiting to be started";
    return Record("released", job().message);
  }
  if (readiness == Readiness::kNever) return End(JobState::kCancelled, reason, message);
  const JobState state = readiness == Readiness::kWaits ? JobState::kQueued : JobState::kHeld;
  if (job().state == state && job().reason == reason && job().message == message) return;
  job().state = state;
  job().reason = reason;
  job().message = message;
  Record(state == JobState::kHeld ? "held" : "waiting", message, {{"reason", reason}});
}

}  // namespace plateau
