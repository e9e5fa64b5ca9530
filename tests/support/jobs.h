// Jobs for the coordinator's tests: a small specification, and a state machine that is told events and remembers what it did.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/job/machine.h"

namespace plateau::test {

inline JobSpec SmallSpec(int workers = 2) {
  JobSpec spec;
  spec.name = "small";
  spec.output = "/runs";
  spec.model.network = "vgg-a";
  spec.data.store = "/store";
  spec.lr = {.initial = 0.01, .patience = 0, .threshold = 0, .max_decays = 2};
  spec.resources.workers = workers;
  spec.fault = {.max_restarts = 2, .hang_timeout_s = 10};
  return spec;
}

// That many workers of one core each on the coordinator's machine.
inline std::vector<NodeShare> Here(int workers) {
  NodeShare share{.workers = workers};
  for (int core = 0; core < workers; ++core) share.cores.push_back(core);
  return {share};
}

// A job in the machine. Tell() advances it by one event at the current time; Wait() turns the clock.
class JobUnderTest {
 public:
  explicit JobUnderTest(JobSpec spec = SmallSpec()) {
    job.id = spec.name + "-1";
    job.spec = std::make_shared<const JobSpec>(std::move(spec));
    Tell(Submitted{});
  }

  Outcome Tell(const JobEvent& event) {
    Outcome outcome = Advance(job, event, now, limits);
    job = outcome.job;
    for (const auto& row : outcome.events) history.push_back(row.type);
    return outcome;
  }
  void Wait(int64_t ms) {
    now.unix_ms += ms;
    now.monotonic_ms += ms;
  }
  Sender From(int rank) const {
    return {.job = job.id,
            .attempt = static_cast<int>(job.attempts.size()),
            .token = "secret",
            .rank = rank,
            .host = "node",
            .pid = 100 + rank};
  }
  Outcome Say(int rank, const WorkerMessage& message) { return Tell(WorkerSaid{From(rank), message}); }
  void Start() {
    Tell(StartGranted{"secret", Here(job.spec->resources.workers)});
    Tell(Launched{static_cast<int>(job.attempts.size()), 42});
  }
  // Every rank, with progress.
  void Beat(int64_t step = 0, const std::string& phase = "start") {
    ++progress;
    for (int rank = 0; rank < job.spec->resources.workers; ++rank) Say(rank, Heartbeat{step, phase, progress});
  }
  void Run() {
    Start();
    Beat();
  }
  Outcome Exit(int code, int signal = 0) {
    return Tell(
        AttemptExited{static_cast<int>(job.attempts.size()), code, signal, "mpirun exited with code " + std::to_string(code)});
  }

  Job job;
  Moment now{1'000'000, 500};
  MachineLimits limits;
  int64_t progress = 0;
  std::vector<std::string> history;  // event types
};

// The first action of a kind; null when there is none.
template <typename Action>
const Action* FindAction(const Outcome& outcome) {
  for (const auto& action : outcome.actions)
    if (const auto* found = std::get_if<Action>(&action)) return found;
  return nullptr;
}

// The reply to the worker; null when there is none of this kind.
template <typename Reply>
const Reply* FindReply(const Outcome& outcome) {
  const auto* reply = FindAction<ReplyToWorker>(outcome);
  return reply == nullptr ? nullptr : std::get_if<Reply>(&reply->reply);
}

inline ValidationReport Validation(int number, int64_t top1_correct, int64_t step = 0) {
  return {.number = number,
          .step = step > 0 ? step : number * 100,
          .epoch = 1.0 * number,
          .images = 1000,
          .top1_correct = top1_correct,
          .top5_correct = 900,
          .loss = 1.5};
}

}  // namespace plateau::test
