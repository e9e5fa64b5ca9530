// SGD against the formula in double, and its promises about biases and threads.
#include "worker/train/sgd.h"

#include <cmath>

#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/support/fake_parameters.h"
#include "worker/collective/single.h"

namespace plateau {
namespace {

std::vector<float> Normal(size_t count, uint64_t salt) {
  RandomStream random(7, RandomPurpose::kInit, 0, salt);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.NextNormal());
  return values;
}

TEST(Sgd, FollowsCaffesFormulaOverManySteps) {
  constexpr size_t kCount = 1001;
  std::vector<float> w = Normal(kCount, 1), v(kCount);
  std::vector<double> w_exact(w.begin(), w.end()), v_exact(kCount);
  for (int step = 0; step < 20; ++step) {
    const auto g = Normal(kCount, 100 + static_cast<uint64_t>(step));
    SgdUpdate(w, v, g, 0.01F, 0.9F, 5e-4F, 1);
    for (size_t i = 0; i < kCount; ++i) {
      v_exact[i] = double{0.9F} * v_exact[i] - double{0.01F} * (g[i] + double{5e-4F} * w_exact[i]);
      w_exact[i] += v_exact[i];
    }
  }
  for (size_t i = 0; i < kCount; ++i) {
    EXPECT_NEAR(w[i], w_exact[i], 1e-5);
    EXPECT_NEAR(v[i], v_exact[i], 1e-6);
  }
}

TEST(Sgd, AnyNumberOfThreadsGivesTheSameBits) {
  constexpr size_t kCount = 300'007;
  std::vector<float> w1 = Normal(kCount, 1), v1 = Normal(kCount, 2), w3 = w1, v3 = v1;
  const auto g = Normal(kCount, 3);
  SgdUpdate(w1, v1, g, 0.1F, 0.9F, 1e-3F, 1);
  SgdUpdate(w3, v3, g, 0.1F, 0.9F, 1e-3F, 3);
  EXPECT_EQ(w1, w3);
  EXPECT_EQ(v1, v3);
}

TEST(Sgd, AWeightThatIsNoLongerFiniteIsSeen) {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    std::vector<float> w(100'000, 1.0F), v(w.size()), g(w.size());
    EXPECT_TRUE(SgdUpdate(w, v, g, 0.1F, 0.9F, 0, 2));
    g[77'777] = bad;
    EXPECT_FALSE(SgdUpdate(w, v, g, 0.1F, 0.9F, 0, 2));
  }
}

TEST(Sgd, BiasesAreExemptFromDecayWhenAsked) {
  for (const bool decays : {true, false}) {
    test::FakeParameters parameters(test::ChainInfos(1));
    for (int p = 0; p < 2; ++p) std::fill(parameters.weight(p).begin(), parameters.weight(p).end(), 1.0F);
    SingleCollective world;
    const std::vector<int> layers{0};
    GradientReducer reducer(parameters, layers, 1, world);
    reducer.Push(0, 0);
    reducer.Finish({});
    Sgd(parameters, {.momentum = 0.9, .weight_decay = 0.5, .decay_biases = decays}).Update(reducer, 0.1);
    EXPECT_FLOAT_EQ(parameters.weight(0)[0], 1.0F - 0.1F * 0.5F);
    EXPECT_FLOAT_EQ(parameters.weight(1)[0], decays ? 0.95F : 1.0F);
    EXPECT_EQ(parameters.changes, 1);
  }
}

TEST(Sgd, RunningAveragesMoveByTheirOwnMomentumWithoutRateDecayOrVelocity) {
  std::vector<ParameterInfo> infos = test::ChainInfos(1);
  infos[1].role = ParameterRole::kRunningVariance;
  infos[1].average_momentum = 0.1;
  test::FakeParameters parameters(infos);
  SingleCollective world;
  const std::vector<int> layers{0};
  GradientReducer reducer(parameters, layers, 1, world);
  Sgd sgd(parameters, {.momentum = 0.9, .weight_decay = 0.5});
  for (float& value : parameters.weight(1)) value = 1;
  double expected = 1;
  for (int step = 0; step < 5; ++step) {
    for (float& value : parameters.gradient(1)) value = 4;  // the batch's variance
    reducer.Push(0, 0);
    reducer.Finish({});
    EXPECT_EQ(sgd.Update(reducer, 0.3), -1);
    expected = 0.9 * expected + 0.1 * 4;
    EXPECT_NEAR(parameters.weight(1)[3], expected, 1e-6);
    EXPECT_EQ(parameters.momentum(1)[3], 0);
  }
  parameters.gradient(1)[2] = HUGE_VALF;
  reducer.Push(0, 0);
  reducer.Finish({});
  EXPECT_EQ(sgd.Update(reducer, 0.3), 1);
}

}  // namespace
}  // namespace plateau
