// Fresh weights: their spread, and that they are a pure function of seed, parameter and position.
#include "worker/nn/init.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

namespace plateau {
namespace {

ParameterInfo Weight(std::vector<int64_t> shape, int64_t fan_in, int64_t fan_out) {
  return {.name = "w", .shape = std::move(shape), .fan_in = fan_in, .fan_out = fan_out};
}

std::vector<float> Draw(const InitScheme& scheme, const ParameterInfo& info, int parameter, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(info.CanonicalCount()));
  InitCanonical(scheme, info, parameter, seed, values);
  return values;
}

TEST(Init, EverySchemeHasZeroMeanAndItsOwnVariance) {
  const auto info = Weight({64, 128, 3, 3}, 128 * 9, 64 * 9);
  const std::vector<std::pair<InitScheme, double>> cases = {{{InitScheme::Kind::kHe, 0}, std::sqrt(2.0 / (128 * 9))},
                                                            {{InitScheme::Kind::kGlorot, 0}, std::sqrt(2.0 / (128 * 9 + 64 * 9))},
                                                            {{InitScheme::Kind::kGaussian, 0.01}, 0.01}};
  for (const auto& [scheme, sigma] : cases) {
    const auto values = Draw(scheme, info, 0, 1);
    double sum = 0, squares = 0, fourth = 0;
    for (const float value : values) {
      const double z = value / sigma;
      sum += z, squares += z * z, fourth += z * z * z * z;
    }
    const auto n = static_cast<double>(values.size());
    EXPECT_NEAR(sum / n, 0, 4 / std::sqrt(n));
    EXPECT_NEAR(squares / n, 1, 4 * std::sqrt(2 / n));
    EXPECT_NEAR(fourth / n, 3, 4 * std::sqrt(96 / n));  // a normal's kurtosis
  }
}

TEST(Init, BiasesAreZero) {
  ParameterInfo bias = Weight({10}, 9, 9);
  bias.role = ParameterRole::kBias;
  EXPECT_EQ(Draw({InitScheme::Kind::kGaussian, 1}, bias, 1, 1), std::vector<float>(10, 0.0F));
}

TEST(Init, ValuesDependOnSeedAndParameterOnlyNotOnThreads) {
  const auto info = Weight({7, 5, 3, 3}, 45, 63);
  omp_set_num_threads(1);
  const auto one = Draw({}, info, 3, 1);
  omp_set_num_threads(3);
  EXPECT_EQ(Draw({}, info, 3, 1), one);
  EXPECT_NE(Draw({}, info, 3, 2), one);
  EXPECT_NE(Draw({}, info, 4, 1), one);
}

TEST(Init, ALongerTensorBeginsWithTheShorterOnesValues) {
  const auto shorter = Draw({InitScheme::Kind::kGaussian, 1}, Weight({3, 3}, 3, 3), 0, 1);
  const auto longer = Draw({InitScheme::Kind::kGaussian, 1}, Weight({4, 5}, 5, 4), 0, 1);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin()));
}

}  // namespace
}  // namespace plateau
