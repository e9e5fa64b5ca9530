// Plateau detection as a fold over validation values.
#include "common/lr_plateau.h"

#include <fmt/format.h>

namespace plateau {

LrState InitialLrState(const LrPolicy& policy) {
  LrState state;
  state.lr = policy.initial;
  return state;
}

LrOutcome DecideLr(const LrPolicy& policy, const LrState& state, double value) {
  LrState next = state;
  LrDecision decision;
  next.validations += 1;
  decision.validation = next.validations;
  decision.improved = value < state.best * (1.0 - policy.threshold) || (state.best_validation == 0 && value == value);
  const bool cooling = state.cooldown_left > 0;
  if (cooling) next.cooldown_left -= 1;
  if (decision.improved) {
    decision.reason = state.best_validation == 0 ? fmt::format("first value {:.6g}", value)
                                                 : fmt::format("{:.6g} improves on {:.6g} of validation {}", value, state.best,
                                                               state.best_validation);
    next.best = value;
    next.best_validation = next.validations;
    next.bad = 0;
  } else if (policy.kind == LrKind::kConstant) {
    decision.reason = fmt::format("{:.6g} does not improve on {:.6g} of validation {}; the rate is constant", value, state.best,
                                  state.best_validation);
  } else if (cooling) {
    decision.reason = fmt::format("{:.6g} does not improve on {:.6g}, not counted during the cooldown ({} left)", value, state.best,
                                  next.cooldown_left);
  } else {
    next.bad += 1;
    const std::string plateau = fmt::format("{} validation{} in a row without improvement on {:.6g} of validation {} (threshold {:g})",
                                            next.bad, next.bad == 1 ? "" : "s", state.best, state.best_validation, policy.threshold);
    if (next.bad <= policy.patience) {
      decision.reason = plateau + fmt::format(", {} tolerated", policy.patience);
    } else if (state.decays >= policy.max_decays) {
      decision.action = LrAction::kStop;
      decision.reason = "plateau: " + plateau + fmt::format(", and all {} decays are done", policy.max_decays);
      next.stopped = true;
    } else {
      decision.action = LrAction::kDecay;
      next.decays += 1;
      next.lr = state.lr * policy.factor;
      next.bad = 0;
      next.cooldown_left = policy.cooldown;
      decision.reason =
          "plateau: " + plateau + fmt::format("; decay {} of {}: {:g} -> {:g}", next.decays, policy.max_decays, state.lr, next.lr);
    }
  }
  decision.lr = next.lr;
  return {next, decision};
}

std::vector<LrDecision> ReplayLr(const LrPolicy& policy, std::span<const double> values) {
  std::vector<LrDecision> decisions;
  LrState state = InitialLrState(policy);
  for (const double value : values) {
    auto outcome = DecideLr(policy, state, value);
    state = outcome.state;
    decisions.push_back(std::move(outcome.decision));
  }
  return decisions;
}

const char* LrActionName(LrAction action) {
  switch (action) {
    case LrAction::kKeep: return "keep";
    case LrAction::kDecay: return "decay";
    case LrAction::kStop: return "stop";
  }
  return "keep";
}

const char* LrKindName(LrKind kind) { return kind == LrKind::kPlateau ? "plateau" : "constant"; }

}  // namespace plateau
