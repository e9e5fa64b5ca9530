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
inline constexpr int kMostRefused = 8;       // choices on record that are tried one after another
inline constexpr double kMaxTimedMs = 2000;  // of device time a pass; what was not timed until then is not chosen

// The text of the fastest, on the libraries' stream. Blocks. Throws Failure naming `what` when none runs, and StartStopped.
std::string Fastest(Libraries& libraries, const std::string& what, const std::vector<Candidate>& candidates);

// Libraries::TimingScratch, or null with a warning when memory is short: what is not timed is what the heuristics name first.
std::byte* ScratchForTiming(Libraries& libraries, size_t bytes, const std::string& what);

// Asks `choices` for `key` and builds what they name, by `build`. What cannot be built here is replaced by what they answer next, with
// a line in the log that names key and reason: a plan's own choice, the machine's file's, or what `time` finds, a pass's search as
// AlgorithmChoices::Choose takes it. `plan`: as AlgorithmChoices has it. `build` fails with kUnavailable where only workspace is short.
// Throws Failure.
void BuildChosen(AlgorithmChoices& choices, const std::string& key, const std::string& plan,
                 const std::function<std::string()>& time, const std::function<Status(const std::string& text)>& build);

}  // namespace plateau::cuda
