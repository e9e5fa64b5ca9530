// The learning rate's policy: pure functions from (policy, validations so far) to a decision, and from a step to its rate. Shared by
// coordinator and rank 0.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/interval.h"

namespace plateau {

// kPlateau is decided at validations; the others are functions of the step alone, and their validations decide nothing.
enum class LrKind { kPlateau, kConstant, kStep, kPoly, kCosine };

// Simonyan & Zisserman 2014, section 3.1: "decreased by a factor of 10 when the validation set accuracy stopped improving".
struct LrPolicy {
  LrKind kind = LrKind::kPlateau;
  double initial = 0.01;
  double factor = 0.1;      // lr *= factor at a plateau
  int patience = 2;         // validations in a row without improvement that are tolerated; the decay comes with number patience+1
  double threshold = 1e-3;  // relative: improved means value < best * (1 - threshold)
  int cooldown = 0;         // validations after a decay that are not counted as bad
  int max_decays = 3;       // the plateau after this many decays ends the run
  Interval every{Interval::Unit::kEpochs, 30};  // kStep: lr *= factor each time this much has passed; epochs or iterations
  double power = 1;                             // kPoly
  double final = 0;                             // kPoly, kCosine: the rate at the run's end
  std::optional<Interval> warmup;               // any kind: until then the rate rises linearly; epochs or iterations
  double warmup_from = 0;                       // share of the rate from which it rises
};

// What relates epochs to steps and says where a run ends.
struct RunLength {
  int64_t images = 0;  // in the training split
  int64_t global_batch = 1;
  int64_t total_steps = 0;
};

enum class LrAction { kKeep, kDecay, kStop };

// The controller after some validations. A value: copy it, store it, compare it. `lr` is the base rate: what decisions change, and
// what RateAt turns into the rate of a step.
struct LrState {
  double lr = 0.01;
  double best = std::numeric_limits<double>::infinity();
  int validations = 0;  // how many values were seen
  int best_validation = 0;  // 1-based number of the best, 0 before the first
  int bad = 0;
  int cooldown_left = 0;
  int decays = 0;
  bool stopped = false;
  bool operator==(const LrState&) const = default;
};

// What one validation led to. `lr`, the base rate, holds from the next step on.
struct LrDecision {
  int validation = 0;  // 1-based
  LrAction action = LrAction::kKeep;
  double lr = 0.01;
  bool improved = false;
  std::string reason;  // one sentence for people, with the figures
  bool operator==(const LrDecision&) const = default;
};

struct LrOutcome {
  LrState state;
  LrDecision decision;
};

LrState InitialLrState(const LrPolicy& policy);
// Folds one validation value (an error or a loss: lower is better; NaN counts as not improved) into the state.
LrOutcome DecideLr(const LrPolicy& policy, const LrState& state, double value);
// All decisions of a history, oldest first: what a stored lr-history must equal.
std::vector<LrDecision> ReplayLr(const LrPolicy& policy, std::span<const double> values);


// The rate of 0-based step `step`, from the base rate `base` (LrState::lr). With s = step and T = total_steps:
//   plateau, constant   base
//   step                base * factor^floor(s / every)
//   poly                final + (base - final) * (1 - s/T)^power
//   cosine              final + (base - final) * (1 + cos(pi s/T)) / 2
// and during a warm-up of W steps, all of it times warmup_from + (1 - warmup_from) * (s + 1) / W. A function of its arguments alone:
// a resumed run, and the coordinator's view of it, see the same rate.
double RateAt(const LrPolicy& policy, double base, const RunLength& length, int64_t step);
// Whether RateAt is other than the base rate somewhere.
bool VariesByStep(const LrPolicy& policy);

const char* LrActionName(LrAction action);  // "keep", "decay", "stop"
const char* LrKindName(LrKind kind);        // "plateau", "constant", "step", "poly", "cosine"
std::optional<LrKind> LrKindFromName(const std::string& name);

}  // namespace plateau
