// The learning rate's policy: pure functions from (policy, validations so far) to a decision. Shared by coordinator and rank 0.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <vector>

namespace plateau {

enum class LrKind { kPlateau, kConstant };

// Simonyan & Zisserman 2014, section 3.1: "decreased by a factor of 10 when the validation set accuracy stopped improving".
struct LrPolicy {
  LrKind kind = LrKind::kPlateau;
  double initial = 0.01;
  double factor = 0.1;      // lr *= factor at a plateau
  int patience = 2;         // validations in a row without improvement that are tolerated; the decay comes with number patience+1
  double threshold = 1e-3;  // relative: improved means value < best * (1 - threshold)
  int cooldown = 0;         // validations after a decay that are not counted as bad
  int max_decays = 3;       // the plateau after this many decays ends the run
};

enum class LrAction { kKeep, kDecay, kStop };

// The controller after some validations. A value: copy it, store it, compare it.
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

// What one validation led to. `lr` holds from the next step on.
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

const char* LrActionName(LrAction action);  // "keep", "decay", "stop"
const char* LrKindName(LrKind kind);        // "plateau", "constant"

}  // namespace plateau
