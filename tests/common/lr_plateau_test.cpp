// The plateau policy: the recipe's worked example as a golden test, and each rule by itself.
#include "common/lr_plateau.h"

#include <cmath>

#include <gtest/gtest.h>

namespace plateau {
namespace {

std::vector<LrAction> Actions(const LrPolicy& policy, std::vector<double> values) {
  std::vector<LrAction> actions;
  for (const auto& decision : ReplayLr(policy, values)) actions.push_back(decision.action);
  return actions;
}

TEST(LrPlateau, WorkedExampleOfTheRecipe) {
  const LrPolicy policy{.initial = 0.01, .patience = 1, .threshold = 0};
  const std::vector<double> errors{50, 40, 41, 42, 41, 39};
  const auto decisions = ReplayLr(policy, errors);
  ASSERT_EQ(decisions.size(), 6u);
  EXPECT_TRUE(decisions[0].improved);
  EXPECT_TRUE(decisions[1].improved);
  EXPECT_EQ(decisions[2].action, LrAction::kKeep);
  EXPECT_EQ(decisions[3].action, LrAction::kDecay);
  EXPECT_DOUBLE_EQ(decisions[3].lr, 0.001);
  EXPECT_EQ(decisions[4].action, LrAction::kKeep);
  EXPECT_FALSE(decisions[4].improved);
  EXPECT_TRUE(decisions[5].improved);
  EXPECT_DOUBLE_EQ(decisions[5].lr, 0.001);
}

TEST(LrPlateau, ThresholdIsRelativeToTheBest) {
  const LrPolicy policy{.patience = 0, .threshold = 0.01};
  const auto decisions = ReplayLr(policy, std::vector<double>{1.0, 0.995, 0.9});
  EXPECT_EQ(decisions[1].action, LrAction::kDecay);  // 0.995 is no improvement on 1.0 by one percent
  EXPECT_TRUE(decisions[2].improved);
}

TEST(LrPlateau, BestSurvivesDecays) {
  const LrPolicy policy{.patience = 0, .threshold = 0, .max_decays = 2};
  EXPECT_EQ(Actions(policy, {1, 2, 1.5, 1.2}),
            (std::vector{LrAction::kKeep, LrAction::kDecay, LrAction::kDecay, LrAction::kStop}));
}

TEST(LrPlateau, CooldownIsNotCountedAndStillUpdatesTheBest) {
  const LrPolicy policy{.patience = 0, .threshold = 0, .cooldown = 2, .max_decays = 3};
  EXPECT_EQ(Actions(policy, {1, 2, 2, 0.5, 0.6}),
            (std::vector{LrAction::kKeep, LrAction::kDecay, LrAction::kKeep, LrAction::kKeep, LrAction::kDecay}));
}

TEST(LrPlateau, ThePlateauAfterTheLastDecayStops) {
  const LrPolicy policy{.patience = 2, .threshold = 0, .max_decays = 1};
  const auto decisions = ReplayLr(policy, std::vector<double>{1, 1, 1, 1, 1, 1, 1});
  EXPECT_EQ(decisions[3].action, LrAction::kDecay);
  EXPECT_EQ(decisions[6].action, LrAction::kStop);
  EXPECT_NE(decisions[6].reason.find("all 1 decays"), std::string::npos);
}

TEST(LrPlateau, ReasonsCountInGoodEnglish) {
  const auto decisions = ReplayLr({.patience = 2, .threshold = 0}, std::vector<double>{1, 1, 1});
  EXPECT_NE(decisions[1].reason.find("1 validation in a row"), std::string::npos) << decisions[1].reason;
  EXPECT_NE(decisions[2].reason.find("2 validations in a row"), std::string::npos) << decisions[2].reason;
}

TEST(LrPlateau, ConstantNeverDecays) {
  const LrPolicy policy{.kind = LrKind::kConstant, .patience = 0};
  for (const auto& decision : ReplayLr(policy, std::vector<double>{1, 1, 1, 1, 1})) EXPECT_DOUBLE_EQ(decision.lr, policy.initial);
}

TEST(LrPlateau, NotANumberCountsAsNotImproved) {
  const LrPolicy policy{.patience = 0, .threshold = 0};
  EXPECT_EQ(Actions(policy, {std::nan(""), 1.0}), (std::vector{LrAction::kDecay, LrAction::kKeep}));
}

TEST(LrPlateau, FoldingOneByOneEqualsTheReplay) {
  const LrPolicy policy{.patience = 1, .threshold = 1e-3};
  const std::vector<double> values{0.9, 0.8, 0.81, 0.82, 0.79, 0.79, 0.79, 0.79};
  LrState state = InitialLrState(policy);
  const auto replayed = ReplayLr(policy, values);
  for (size_t i = 0; i < values.size(); ++i) {
    const auto outcome = DecideLr(policy, state, values[i]);
    EXPECT_EQ(outcome.decision, replayed[i]);
    state = outcome.state;
  }
}

constexpr RunLength kTenEpochs{.images = 1'000, .global_batch = 10, .total_steps = 1'000};

TEST(LrSchedule, PlateauAndConstantKeepTheBaseRate) {
  for (const LrKind kind : {LrKind::kPlateau, LrKind::kConstant}) {
    const LrPolicy policy{.kind = kind};
    for (const int64_t step : {0, 1, 999, 5'000}) EXPECT_EQ(RateAt(policy, 0.003, kTenEpochs, step), 0.003);
    EXPECT_FALSE(VariesByStep(policy));
  }
}

TEST(LrSchedule, StepFallsAtEachMultiple) {
  const LrPolicy policy{.kind = LrKind::kStep, .factor = 0.5, .every = {Interval::Unit::kEpochs, 3}};
  EXPECT_DOUBLE_EQ(RateAt(policy, 0.8, kTenEpochs, 299), 0.8);
  EXPECT_DOUBLE_EQ(RateAt(policy, 0.8, kTenEpochs, 300), 0.4);
  EXPECT_DOUBLE_EQ(RateAt(policy, 0.8, kTenEpochs, 900), 0.1);
  const LrPolicy iterations{.kind = LrKind::kStep, .factor = 0.1, .every = {Interval::Unit::kIterations, 7}};
  EXPECT_DOUBLE_EQ(RateAt(iterations, 1, kTenEpochs, 6), 1);
  EXPECT_DOUBLE_EQ(RateAt(iterations, 1, kTenEpochs, 7), 0.1);
}

TEST(LrSchedule, PolyFallsToTheFinalRate) {
  const LrPolicy policy{.kind = LrKind::kPoly, .power = 2, .final = 0.1};
  EXPECT_DOUBLE_EQ(RateAt(policy, 1.1, kTenEpochs, 0), 1.1);
  EXPECT_DOUBLE_EQ(RateAt(policy, 1.1, kTenEpochs, 500), 0.1 + 1.0 * 0.25);
  EXPECT_DOUBLE_EQ(RateAt(policy, 1.1, kTenEpochs, 1'000), 0.1);
  EXPECT_DOUBLE_EQ(RateAt(policy, 1.1, kTenEpochs, 2'000), 0.1) << "beyond the end it stays there";
}

TEST(LrSchedule, CosineHalvesInTheMiddle) {
  const LrPolicy policy{.kind = LrKind::kCosine};
  EXPECT_DOUBLE_EQ(RateAt(policy, 0.2, kTenEpochs, 0), 0.2);
  EXPECT_NEAR(RateAt(policy, 0.2, kTenEpochs, 500), 0.1, 1e-15);
  EXPECT_NEAR(RateAt(policy, 0.2, kTenEpochs, 250), 0.2 * (1 + std::sqrt(0.5)) / 2, 1e-15);
  EXPECT_NEAR(RateAt(policy, 0.2, kTenEpochs, 1'000), 0, 1e-15);
}

TEST(LrSchedule, AWarmUpRisesToTheRateOfThePolicy) {
  const LrPolicy policy{.kind = LrKind::kPlateau, .warmup = Interval{Interval::Unit::kIterations, 4}, .warmup_from = 0.2};
  EXPECT_DOUBLE_EQ(RateAt(policy, 1, kTenEpochs, 0), 0.2 + 0.8 / 4);
  EXPECT_DOUBLE_EQ(RateAt(policy, 1, kTenEpochs, 1), 0.2 + 0.8 / 2);
  EXPECT_DOUBLE_EQ(RateAt(policy, 1, kTenEpochs, 3), 1);
  EXPECT_DOUBLE_EQ(RateAt(policy, 1, kTenEpochs, 100), 1);
  EXPECT_TRUE(VariesByStep(policy));
  const LrPolicy cosine{.kind = LrKind::kCosine, .warmup = Interval{Interval::Unit::kEpochs, 1}};
  EXPECT_DOUBLE_EQ(RateAt(cosine, 1, kTenEpochs, 49), 0.5 * RateAt({.kind = LrKind::kCosine}, 1, kTenEpochs, 49));
}

TEST(LrSchedule, ItsValidationsDecideNothing) {
  for (const LrKind kind : {LrKind::kConstant, LrKind::kStep, LrKind::kPoly, LrKind::kCosine}) {
    const LrPolicy policy{.kind = kind, .initial = 0.5, .patience = 0};
    for (const auto& decision : ReplayLr(policy, std::vector<double>{1, 2, 3, 4, 5, 6})) {
      EXPECT_EQ(decision.action, LrAction::kKeep) << LrKindName(kind);
      EXPECT_EQ(decision.lr, 0.5);
    }
  }
  EXPECT_NE(ReplayLr({.kind = LrKind::kPoly}, std::vector<double>{1, 2})[1].reason.find("poly schedule"), std::string::npos);
}

}  // namespace
}  // namespace plateau
