// The whole CPU engine on small networks, held against the naive loops and against itself.
#include "tests/worker/backend/engine_fixture.h"

namespace plateau {
namespace {

constexpr int kCrop = 32, kClasses = 7;
constexpr double kWidth = 0.0625;  // 16 to 32 channels, 256 units

struct Case {
  const char* network;
  ConvAlgorithm algorithm;
  double dropout;
  int threads;
};

class WholeNetwork : public testing::TestWithParam<Case> {};

TEST_P(WholeNetwork, LossLogitsAndEveryGradientEqualTheNaiveLoops) {
  const Case& c = GetParam();
  const Network network = MakeTestNetwork(c.network, kWidth, kClasses, c.dropout);
  auto engine = MakeEngine(network, {.threads = c.threads, .seed = 5, .crop = kCrop, .convolution = c.algorithm});
  const Samples samples = MakeSamples(4, kCrop, kClasses);
  const StepResult ours = RunStep(*engine, samples.lane(), kCrop, 4);
  const auto right = reference::RunChain(network, DoubleParameters(engine->parameters()), samples.lane(), kCrop, kCrop, 4, true, 5, 3);
  EXPECT_LT(RelativeError(ours.logits, right.logits.values), 1e-5);
  EXPECT_NEAR(ours.loss.loss, right.loss, 1e-5 * right.loss);
  for (size_t p = 0; p < right.gradients.size(); ++p) {
    EXPECT_LT(RelativeError(ours.gradients[p], right.gradients[p]), c.algorithm == ConvAlgorithm::kDirect ? 1e-5 : 1e-4)
        << engine->parameters().info(static_cast<int>(p)).name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, WholeNetwork,
                         testing::Values(Case{"vgg-a", ConvAlgorithm::kDirect, 0, 1}, Case{"vgg-a", ConvAlgorithm::kAuto, 0.5, 2},
                                         Case{"vgg-a", ConvAlgorithm::kWinograd, 0.5, 1}, Case{"vgg-d", ConvAlgorithm::kAuto, 0.5, 2},
                                         Case{"vgg-d", ConvAlgorithm::kDirect, 0.3, 2}));

}  // namespace
}  // namespace plateau
