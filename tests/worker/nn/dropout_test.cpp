// Dropout masks: fast loop against the definition, and what they must not depend on.
#include "worker/nn/dropout.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/random.h"

namespace plateau {
namespace {

std::vector<float> Mask(const DropoutKey& key, double rate, size_t units) {
  std::vector<float> values(units, 1.0F);
  ApplyDropout(key, rate, values);
  return values;
}

TEST(Dropout, FastLoopEqualsTheDefinitionForEveryLength) {
  const DropoutKey key{.seed = 3, .step = 1u << 25, .sample = (1ull << 33) + 5, .layer = 13};
  for (const size_t units : {1u, 3u, 4u, 5u, 16u, 64u, 67u, 1000u, 4096u}) {
    const auto mask = Mask(key, 0.3, units);
    for (size_t unit = 0; unit < units; ++unit) {
      const bool kept = DropoutWord(key, static_cast<uint32_t>(unit)) >= DropoutThreshold(0.3);
      ASSERT_EQ(mask[unit], kept ? static_cast<float>(1 / (1 - 0.3)) : 0.0F) << units << " " << unit;
    }
  }
}

TEST(Dropout, TheDefinitionIsTheDocumentedWordOfTheStream) {
  const DropoutKey key{.seed = 3, .step = 7, .sample = 99, .layer = 2};
  const RandomStream stream(3, RandomPurpose::kDropout, 7, 99);
  EXPECT_EQ(DropoutWord(key, 0), stream.Block(2u << 22)[0]);
  EXPECT_EQ(DropoutWord(key, 11), stream.Block((2u << 22) + 2)[3]);
}

TEST(Dropout, KeepsTheExpectedShare) {
  for (const double rate : {0.1, 0.5, 0.9}) {
    const auto mask = Mask({.seed = 1, .step = 2, .sample = 3, .layer = 4}, rate, 100000);
    const auto dropped = static_cast<double>(std::count(mask.begin(), mask.end(), 0.0F));
    EXPECT_NEAR(dropped / 100000, rate, 0.006);  // four standard errors at most
  }
}

TEST(Dropout, SeedStepSampleAndLayerEachChangeTheMask) {
  const DropoutKey key{.seed = 1, .step = 2, .sample = 3, .layer = 4};
  const auto base = Mask(key, 0.5, 256);
  EXPECT_EQ(base, Mask(key, 0.5, 256));
  EXPECT_NE(base, Mask({2, 2, 3, 4}, 0.5, 256));
  EXPECT_NE(base, Mask({1, 3, 3, 4}, 0.5, 256));
  EXPECT_NE(base, Mask({1, 2, 4, 4}, 0.5, 256));
  EXPECT_NE(base, Mask({1, 2, 3, 5}, 0.5, 256));
}

TEST(Dropout, RateZeroChangesNothing) { EXPECT_EQ(Mask({1, 2, 3, 4}, 0, 100), std::vector<float>(100, 1.0F)); }

}  // namespace
}  // namespace plateau
