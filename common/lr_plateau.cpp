// Plateau detection as a fold over validation values, and the rates that are functions of the step.
#include "common/lr_plateau.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include <fmt/format.h>

namespace plateau {
namespace {

constexpr std::array<std::pair<LrKind, const char*>, 5> kKinds{{{LrKind::kPlateau, "plateau"},
                                                                {LrKind::kConstant, "constant"},
                                                                {LrKind::kStep, "step"},
                                                                {LrKind::kPoly, "poly"},
                                                                {LrKind::kCosine, "cosine"}}};

// Steps of an interval, at least one, so that "0.5ep" of a tiny set is still one.
double StepsOf(const Interval& interval, const RunLength& length) {
  if (interval.unit == Interval::Unit::kIterations) return std::max(interval.amount, 1.0);
  const double epoch_steps = static_cast<double>(length.images) / static_cast<double>(std::max<int64_t>(length.global_batch, 1));
  return std::max(interval.amount * epoch_steps, 1.0);
}

double Scheduled(const LrPolicy& policy, double base, const RunLength& length, double step) {
  const double done = std::clamp(step / static_cast<double>(std::max<int64_t>(length.total_steps, 1)), 0.0, 1.0);
  switch (policy.kind) {
    case LrKind::kStep: return base * std::pow(policy.factor, std::floor(step / StepsOf(policy.every, length)));
    case LrKind::kPoly: return policy.final + (base - policy.final) * std::pow(1 - done, policy.power);
    case LrKind::kCosine: return policy.final + (base - policy.final) * (1 + std::cos(std::numbers::pi * done)) / 2;
    case LrKind::kPlateau:
    case LrKind::kConstant: break;
  }
  return base;
}

}  // namespace

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
  } else if (policy.kind != LrKind::kPlateau) {
    decision.reason = fmt::format(
        "{:.6g} does not improve on {:.6g} of validation {}; the rate {}", value, state.best, state.best_validation,
        policy.kind == LrKind::kConstant ? "is constant" : fmt::format("follows its {} schedule", LrKindName(policy.kind)));
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

const char* LrKindName(LrKind kind) {
  for (const auto& [value, name] : kKinds)
    if (value == kind) return name;
  return "plateau";
}

std::optional<LrKind> LrKindFromName(const std::string& name) {
  for (const auto& [value, known] : kKinds)
    if (name == known) return value;
  return std::nullopt;
}

double RateAt(const LrPolicy& policy, double base, const RunLength& length, int64_t step) {
  const double rate = Scheduled(policy, base, length, static_cast<double>(step));
  if (!policy.warmup) return rate;
  const double risen = std::min(static_cast<double>(step + 1) / StepsOf(*policy.warmup, length), 1.0);
  return rate * (policy.warmup_from + (1 - policy.warmup_from) * risen);
}

bool VariesByStep(const LrPolicy& policy) {
  return policy.warmup || (policy.kind != LrKind::kPlateau && policy.kind != LrKind::kConstant);
}

}  // namespace plateau
