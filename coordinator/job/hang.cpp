// The hang verdict on a running attempt.
#include "coordinator/job/hang.h"

#include <algorithm>
#include <vector>

#include "common/text.h"

namespace plateau {
namespace {

using Ranks = std::vector<const WorkerView*>;

int64_t HangMs(const Job& job) { return static_cast<int64_t>(job.spec->fault.hang_timeout_s * 1000); }

int64_t SilentAtMs(const Job& job, const WorkerView& worker, const MachineLimits& limits) {
  return worker.heard_ms + SilenceLimitMs(job, worker, limits);
}

// Rank 0 waits for a decision or for the acknowledgement of its end: that is the coordinator's time, not a hang.
bool WaitsForCoordinator(const WorkerView& worker) {
  return worker.rank == 0 && worker.collective == 0 && (worker.phase == "wait-decision" || worker.phase == "done");
}

// When an attempt counts as stalled unless a rank moves before.
std::optional<int64_t> StalledAtMs(const Job& job, const MachineLimits& limits) {
  int64_t moved_ms = 0;
  bool starting = false;
  for (const WorkerView& worker : job.workers) {
    if (!worker.seen || WaitsForCoordinator(worker)) return std::nullopt;
    moved_ms = std::max(moved_ms, worker.moved_ms);
    starting = starting || worker.phase.starts_with("start");  // "start: joining NCCL"
  }
  return moved_ms + (starting ? std::max(HangMs(job), limits.start_stall_ms) : HangMs(job));
}

HangVerdict Blame(const WorkerView& worker) {
  return {.rank = worker.rank, .host = worker.host, .step = worker.step, .phase = worker.phase};
}

// `known`: the ranks were all heard before, by an earlier life of the coordinator.
HangVerdict JudgeSilence(const Ranks& silent, bool known, int64_t now_ms) {
  const WorkerView& worst =
      **std::min_element(silent.begin(), silent.end(), [](const auto* a, const auto* b) { return a->heard_ms < b->heard_ms; });
  HangVerdict verdict = Blame(worst);
  verdict.seconds = static_cast<double>(now_ms - worst.heard_ms) / 1000.0;
  verdict.message = worst.seen ? fmt::format("rank {} on {} was silent for {} at step {} in phase {}", worst.rank, worst.host,
                                             HumanDuration(verdict.seconds), worst.step, worst.phase)
                               : fmt::format("rank {} was not heard within {} of the start of the {}", worst.rank,
                                             HumanDuration(verdict.seconds), known ? "coordinator" : "attempt");
  if (silent.size() > 1) verdict.message += fmt::format(" ({} ranks are silent)", silent.size());
  return verdict;
}

std::string Others(size_t count) { return count == 1 ? "the other rank" : fmt::format("{} other ranks", count); }

// Who keeps the gang waiting, and why that one. All are heard and none moves.
HangVerdict FindOddOne(const std::vector<WorkerView>& workers) {
  Ranks waiting, outside;
  for (const WorkerView& worker : workers) (worker.collective > 0 ? waiting : outside).push_back(&worker);
  const auto first = [](const Ranks& ranks, auto key) {
    return *std::min_element(ranks.begin(), ranks.end(), [&](const auto* a, const auto* b) { return key(*a) < key(*b); });
  };
  const auto describe = [](const WorkerView& w) { return fmt::format("rank {} on {} at step {} in phase {}", w.rank, w.host, w.step, w.phase); };
  if (outside.empty()) {
    const WorkerView& behind = *first(waiting, [](const WorkerView& w) { return w.collective; });
    const auto ahead = std::count_if(waiting.begin(), waiting.end(), [&](const auto* w) { return w->collective > behind.collective; });
    HangVerdict verdict = Blame(behind);
    if (ahead > 0) {
      verdict.message = fmt::format("{} is in an earlier collective call than {}", describe(behind), Others(static_cast<size_t>(ahead)));
      return verdict;
    }
    verdict.rank = -1;
    verdict.host.clear();
    verdict.message = fmt::format("all {} ranks wait in the same collective call at step {} in phase {}: MPI or the network is stuck",
                                  workers.size(), behind.step, behind.phase);
    return verdict;
  }
  const WorkerView& behind = *first(outside, [](const WorkerView& w) { return std::pair(w.step, w.moved_ms); });
  HangVerdict verdict = Blame(behind);
  verdict.message = describe(behind);
  const bool alike = std::all_of(workers.begin(), workers.end(),
                                 [&](const auto& w) { return w.step == behind.step && w.phase == behind.phase; });
  if (!waiting.empty()) {
    verdict.message += fmt::format(" keeps {} waiting in a collective call", Others(waiting.size()));
  } else if (workers.size() > 1 && alike) {
    verdict.rank = -1;
    verdict.host.clear();
    verdict.message = fmt::format("all {} ranks stand at step {} in phase {}", workers.size(), behind.step, behind.phase);
  }
  if (outside.size() > 1 && verdict.rank >= 0) verdict.message += fmt::format(" ({} ranks are in no collective call)", outside.size());
  return verdict;
}

}  // namespace

int64_t SilenceLimitMs(const Job& job, const WorkerView& worker, const MachineLimits& limits) {
  if (worker.seen) return HangMs(job);
  const bool known = job.Current()->state != "STARTING";  // to an earlier life of the coordinator
  return std::max(HangMs(job), known ? limits.reconnect_allowance_ms : limits.start_allowance_ms);
}

bool WatchesHeartbeats(const Job& job) {
  const Attempt* attempt = job.Current();
  return attempt != nullptr && HasProcesses(job.state) && !job.kill_sent && attempt->finished.empty() && attempt->reason.empty() &&
         !job.workers.empty();
}

std::optional<HangVerdict> JudgeHang(const Job& job, int64_t now_ms, const MachineLimits& limits) {
  if (!WatchesHeartbeats(job)) return std::nullopt;
  Ranks silent;
  for (const WorkerView& worker : job.workers)
    if (now_ms >= SilentAtMs(job, worker, limits)) silent.push_back(&worker);
  if (!silent.empty()) return JudgeSilence(silent, job.Current()->state != "STARTING", now_ms);
  const auto stalled_ms = StalledAtMs(job, limits);
  if (!stalled_ms || now_ms < *stalled_ms) return std::nullopt;
  HangVerdict verdict = FindOddOne(job.workers);
  const auto last = std::max_element(job.workers.begin(), job.workers.end(),
                                     [](const WorkerView& a, const WorkerView& b) { return a.moved_ms < b.moved_ms; });
  verdict.silent = false;
  verdict.seconds = static_cast<double>(now_ms - last->moved_ms) / 1000.0;
  verdict.message = fmt::format("no progress for {}: {}", HumanDuration(verdict.seconds), verdict.message);
  return verdict;
}

std::optional<int64_t> NextHangVerdictMs(const Job& job, const MachineLimits& limits) {
  if (!WatchesHeartbeats(job)) return std::nullopt;
  std::optional<int64_t> next = StalledAtMs(job, limits);
  for (const WorkerView& worker : job.workers) {
    const int64_t silent_ms = SilentAtMs(job, worker, limits);
    next = next ? std::min(*next, silent_ms) : silent_ms;
  }
  return next;
}

}  // namespace plateau
