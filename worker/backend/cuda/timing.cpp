// Times candidates by events around single runs, and turns choices into built algorithms.
#include "worker/backend/cuda/timing.h"

#include <algorithm>
#include <limits>

#include "common/log.h"

namespace plateau::cuda {
namespace {

constexpr double kHopeless = 1.5;  // a first run this many times the best median ends a candidate's timing

double RunOnce(const Stream& stream, const Candidate& candidate, Event& begin, Event& end) {
  begin.Record(stream.get());
  candidate.run();
  end.Record(stream.get());
  end.Wait();
  return double{end.MillisecondsSince(begin)};
}

// Median of the runs behind a warm-up; adds to `spent_ms`.
double Measure(const Stream& stream, const Candidate& candidate, double best_ms, double& spent_ms) {
  Event begin(true), end(true);
  spent_ms += RunOnce(stream, candidate, begin, end);
  std::vector<double> runs;
  for (int i = 0; i < kTimedRuns; ++i) {
    runs.push_back(RunOnce(stream, candidate, begin, end));
    spent_ms += runs.back();
    if (runs.back() * candidate.factor > best_ms * kHopeless) break;
  }
  std::nth_element(runs.begin(), runs.begin() + static_cast<std::ptrdiff_t>(runs.size() / 2), runs.end());
  return runs[runs.size() / 2] * candidate.factor;
}

}  // namespace

std::string Fastest(Libraries& libraries, const std::string& what, const std::vector<Candidate>& candidates) {
  const Stream& stream = libraries.stream();
  const Candidate* best = nullptr;
  double best_ms = std::numeric_limits<double>::infinity(), spent_ms = 0;
  std::string last_fault = "there is none";
  for (const Candidate& candidate : candidates) {
    if (spent_ms > kMaxTimedMs && best != nullptr) break;
    libraries.GoOn();
    try {
      const double ms = Measure(stream, candidate, best_ms, spent_ms);
      LogDebug("{}: {}: {:.3f} ms", what, candidate.text, ms);
      if (ms < best_ms || best == nullptr) {
        best = &candidate;
        best_ms = ms;
      }
    } catch (const Failure& failure) {
      last_fault = fmt::format("{}: {}", candidate.text, failure.what());
      LogDebug("{}: left out: {}", what, last_fault);
    }
  }
  if (best == nullptr)
    throw Failure(ErrorCode::kInternal,
                  fmt::format("{}: none of {} algorithms runs on this device: {}", what, candidates.size(), last_fault));
  return best->text;
}

std::byte* ScratchForTiming(Libraries& libraries, size_t bytes, const std::string& what) {
  try {
    return static_cast<std::byte*>(libraries.TimingScratch(bytes));
  } catch (const Failure& failure) {
    if (failure.code() != ErrorCode::kUnavailable) throw;
    LogWarning("{}: not timed, the first algorithm that the heuristics name is taken: {}", what, failure.what());
    return nullptr;
  }
}

void BuildChosen(AlgorithmChoices& choices, const std::string& key, const std::string& plan,
                 const std::function<std::string()>& time, const std::function<Status(const std::string& text)>& build) {
  bool timed = false;
  const auto time_now = [&] {
    timed = true;
    return time();
  };
  const std::optional<std::string> exception = choices.Exception(key, plan);
  std::string text = exception ? *exception : choices.Choose(key, time_now);
  for (int refused = 0;; ++refused) {
    const Status built = build(text);
    if (built) return;
    const Error& why = built.error();
    if (timed || refused == kMostRefused)
      throw Failure(ErrorCode::kInternal, fmt::format("{}: \"{}\" {} and cannot be built now: {}", key, text,
                                                      timed ? "ran when it was timed" : "is the last on record", why.message));
    // That plans differ in their workspace is in the order of things; another reason is not.
    LogText(why.code == ErrorCode::kUnavailable ? LogLevel::kInfo : LogLevel::kWarning,
            fmt::format("{}: the algorithm on record, \"{}\", cannot be used here ({}): {}; another is taken", key, text, plan,
                        why.message));
    text = choices.Replace({key, plan, text, why}, time_now);
  }
}

}  // namespace plateau::cuda
