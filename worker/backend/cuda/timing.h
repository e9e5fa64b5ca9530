// How an operator comes by its algorithm: what is on record, else the fastest of a few, timed on the device.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/backend/cuda/libraries.h"
#include "worker/nn/algorithm_choices.h"

namespace plateau::cuda {

// One way to compute a pass, built and ready to run on the stream.
struct Candidate {
  std::string text;           // names it: what a choice is
  double factor = 1;          // its time counts this many times
  std::function<void()> run;  // queues it once; one that throws Failure is left out
};

inline constexpr int kTimedRuns = 5;         // the median counts
inline constexpr size_t kMaxCandidates = 8;  // of one pass and way of fusing
inline constexpr size_t kMaxOffers = 100;    // of a library's heuristics that are looked at for them
inline constexpr double kMaxTimedMs = 2000;  // of device time a pass; what was not timed until then is not chosen

// The text of the fastest, on the libraries' stream. Blocks. Throws Failure naming `what` when none runs, and StartStopped.
std::string Fastest(Libraries& libraries, const std::string& what, const std::vector<Candidate>& candidates);

// Libraries::TimingScratch, or null with a warning when memory is short: what is not timed is what the heuristics name first.
std::byte* ScratchForTiming(Libraries& libraries, size_t bytes, const std::string& what);

// Asks `choices` for `key` and builds what they name, by `build`; what cannot be built here is timed again, with a warning that
// names key and reason, and stays this process's own. `time` is a pass's search, as AlgorithmChoices::Choose takes it. Throws
// Failure.
void BuildChosen(AlgorithmChoices& choices, const std::string& key, const std::function<std::string()>& time,
                 const std::function<Status(const std::string& text)>& build);

}  // namespace plateau::cuda
