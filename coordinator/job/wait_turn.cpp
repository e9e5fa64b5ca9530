// Why a job does not start yet, or not where it was: no room for it, a lost host, a GPU that is not there, or the jobs that it depends
// on.
#include <algorithm>

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

// Recorded when it waits for something else than before. That others hold it now changes the message alone: a long line would write an
// event for each job whenever one starts or ends.
void Turn::On(const WaitNoted& event) {
  const bool released = job().state == JobState::kHeld && !IsDependencyReason(job().reason);  // the nodes have changed
  if (job().state != JobState::kQueued && !released) return;
  const bool news = released || job().reason != event.reason;
  job().state = JobState::kQueued;
  job().reason = event.reason;
  job().message = event.message;
  if (news) Record("waiting", event.message, {{"reason", event.reason}});
}

// A rank's GPU does not answer it: nobody is to be given it before its node says otherwise. Returns what to say of it.
std::string Turn::NoteMissingGpu(const Sender& sender, const std::string& why) {
  auto first = 0;
  for (const auto& share : job().Current()->shares) {
    const int place = sender.rank - first;
    first += share.workers;
    if (place < 0 || place >= static_cast<int>(share.gpus.size()) || sender.rank >= first) continue;
    const std::string& id = share.gpus[static_cast<size_t>(place)];
    job().Current()->missing_gpus.push_back(share.node + ":" + id);
    Do(WithdrawGpu{share.node, {id, why}});
    return fmt::format("GPU {} of {}, granted to rank {}, does not answer: {}", id, share.node, sender.rank, why);
  }
  return fmt::format("rank {} on {} misses a GPU that it was not granted: {}", sender.rank, sender.host, why);
}

// Whether the attempt missed GPUs, and none of them for the second time in a row: its node has offered that one anew since.
bool Turn::LostNewGpus() const {
  const auto& attempts = out_.job.attempts;
  const auto& missing = attempts.back().missing_gpus;
  if (missing.empty()) return false;
  if (attempts.size() < 2) return true;
  const auto& before = attempts[attempts.size() - 2].missing_gpus;
  return std::find_first_of(missing.begin(), missing.end(), before.begin(), before.end()) == missing.end();
}

// What does not answer is no longer offered: the next placement finds others, takes the CPU where it may, or holds the job. None of that
// is a restart.
void Turn::LookForOtherGpus() {
  job().state = JobState::kQueued;
  job().reason = kNoGpu;
  job().message = job().Current()->message + "; it is no longer offered, and no restart is used up";
  Record("waiting", job().message, {{"reason", job().reason}});
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
