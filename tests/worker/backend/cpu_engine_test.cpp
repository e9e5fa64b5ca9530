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
  const auto right =
      reference::RunNetwork(network, DoubleParameters(engine->parameters()), samples.lane(), kCrop, kCrop, 4, true, 5, 3);
  EXPECT_LT(RelativeError(ours.logits, right.logits.values), 1e-5);
  EXPECT_NEAR(ours.loss.loss, right.loss, 1e-5 * right.loss);
  for (size_t p = 0; p < right.gradients.size(); ++p) {
    EXPECT_LT(RelativeError(ours.gradients[p], right.gradients[p]), c.algorithm == ConvAlgorithm::kDirect ? 1e-5 : 1e-4)
        << engine->parameters().info(static_cast<int>(p)).name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, WholeNetwork,
                         testing::Values(Case{"vgg-a", ConvAlgorithm::kDirect, 0, 1}, Case{"vgg-a", ConvAlgorithm::kAuto, 0.5, 2},
                                         Case{"vgg-a", ConvAlgorithm::kWinograd, 0.5, 1},
                                         Case{"vgg-d", ConvAlgorithm::kAuto, 0.5, 2},
                                         Case{"vgg-d", ConvAlgorithm::kDirect, 0.3, 2}));

std::unique_ptr<Engine> SmallEngine(int threads = 2, double dropout = 0.5, const char* network = "vgg-a", int crop = kCrop) {
  return MakeEngine(MakeTestNetwork(network, kWidth, kClasses, dropout), {.threads = threads, .seed = 5, .crop = crop});
}

TEST(CpuEngine, TheSameStepTwiceGivesTheSameBits) {
  for (const int threads : {1, 2}) {
    const Samples samples = MakeSamples(6, 64, kClasses);
    auto one = SmallEngine(threads, 0.5, "vgg-d", 64), two = SmallEngine(threads, 0.5, "vgg-d", 64);
    const StepResult first = RunStep(*one, samples.lane(), 64, 6);
    for (int again = 0; again < 3; ++again) {
      const StepResult next = RunStep(*one, samples.lane(), 64, 6);
      EXPECT_EQ(next.logits, first.logits);
      EXPECT_EQ(next.loss.loss, first.loss.loss);
      EXPECT_EQ(next.gradients, first.gradients);
    }
    EXPECT_EQ(RunStep(*two, samples.lane(), 64, 6).gradients, first.gradients);
  }
}

TEST(CpuEngine, PaddingRowsAddNothing) {
  auto engine = SmallEngine();
  Samples padded = MakeSamples(5, kCrop, kClasses);
  padded.weights[3] = padded.weights[4] = 0;
  padded.labels[4] = -1;
  const StepResult whole = RunStep(*engine, padded.lane(), kCrop, 3), real = RunStep(*engine, padded.rows(0, 3), kCrop, 3);
  EXPECT_EQ(whole.loss.images, 3);
  EXPECT_EQ(whole.loss.top1_correct, real.loss.top1_correct);
  EXPECT_NEAR(whole.loss.loss, real.loss.loss, 1e-5 * real.loss.loss);
  for (size_t p = 0; p < real.gradients.size(); ++p) EXPECT_LT(RelativeError(whole.gradients[p], real.gradients[p]), 1e-5);
}

TEST(CpuEngine, MicroBatchesSumToTheWholeBatchAlsoUnevenOnesWithTheSameMasks) {
  auto engine = SmallEngine();
  const Samples samples = MakeSamples(7, kCrop, kClasses);
  const StepResult whole = RunStep(*engine, samples.lane(), kCrop, 7);
  const StepResult first = RunStep(*engine, samples.rows(0, 4), kCrop, 7), second = RunStep(*engine, samples.rows(4, 7), kCrop, 7);
  EXPECT_NEAR(first.loss.loss + second.loss.loss, whole.loss.loss, 1e-5 * whole.loss.loss);
  for (size_t p = 0; p < whole.gradients.size(); ++p) {
    auto sum = first.gradients[p];
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += second.gradients[p][i];
    EXPECT_LT(RelativeError(sum, whole.gradients[p]), 1e-5) << engine->parameters().info(static_cast<int>(p)).name;
  }
}

TEST(CpuEngine, ThreadsChangeTheResultByRoundingOnlySoTheMasksAreTheSame) {
  const Samples samples = MakeSamples(4, kCrop, kClasses);
  auto one = SmallEngine(1), three = SmallEngine(3);
  const StepResult a = RunStep(*one, samples.lane(), kCrop, 4), b = RunStep(*three, samples.lane(), kCrop, 4);
  EXPECT_LT(RelativeError(a.logits, b.logits), 1e-5);
}

TEST(CpuEngine, MasksChangeWithStepAndSample) {
  auto engine = SmallEngine();
  Samples samples = MakeSamples(4, kCrop, kClasses);
  const StepResult base = RunStep(*engine, samples.lane(), kCrop, 4, 3);
  EXPECT_NE(RunStep(*engine, samples.lane(), kCrop, 4, 4).logits, base.logits);
  samples.index[2] += 1;
  const StepResult other = RunStep(*engine, samples.lane(), kCrop, 4, 3);
  for (int n = 0; n < 4; ++n) {
    const bool same = std::equal(base.logits.begin() + n * kClasses, base.logits.begin() + (n + 1) * kClasses,
                                 other.logits.begin() + n * kClasses);
    EXPECT_EQ(same, n != 2) << n;
  }
}

TEST(CpuEngine, AnEvaluationPlanEqualsATrainingPlanWithoutDropout) {
  const Samples samples = MakeSamples(4, kCrop, kClasses);
  auto plain = SmallEngine(2, 0), dropped = SmallEngine(2, 0.5);
  const StepResult training = RunStep(*plain, samples.lane(), kCrop, 4);
  Plan* evaluation = *dropped->Compile({.batch = 4, .height = kCrop, .width = kCrop, .training = false});
  evaluation->Forward({samples.images, samples.labels, samples.weights, {}}, 3);
  const LossSums loss = evaluation->Loss(samples.lane(), 4);
  EXPECT_EQ(std::vector<float>(evaluation->logits().begin(), evaluation->logits().end()), training.logits);
  EXPECT_EQ(loss.loss, training.loss.loss);
  EXPECT_EQ(loss.top5_correct, training.loss.top5_correct);
}

TEST(CpuEngine, PlansShareWeightsAndArenaAndMayAlternate) {
  auto engine = SmallEngine();
  const Samples samples = MakeSamples(8, kCrop, kClasses);
  const StepResult small = RunStep(*engine, samples.rows(0, 2), kCrop, 2);
  const StepResult large = RunStep(*engine, samples.lane(), kCrop, 8);  // grows the arena under the first plan
  EXPECT_EQ(RunStep(*engine, samples.rows(0, 2), kCrop, 2).gradients, small.gradients);
  EXPECT_EQ(RunStep(*engine, samples.lane(), kCrop, 8).gradients, large.gradients);
}

TEST(CpuEngine, TheListOfPlansIsBoundedAndAnAskedForPlanIsKept) {
  auto engine = SmallEngine(1);
  const auto compile = [&](int batch) {
    return *engine->Compile({.batch = batch, .height = kCrop, .width = kCrop, .training = false});
  };
  Plan* first = compile(1);
  for (int batch = 2; batch <= 3 * Engine::kMaxPlans; ++batch) {
    compile(batch);
    EXPECT_EQ(compile(1), first);  // the most recently asked for, so never the one that leaves
  }
}

TEST(CpuEngine, BackwardWithoutItsOwnForwardAndLossIsAFailure) {
  auto engine = SmallEngine();
  const Samples samples = MakeSamples(2, kCrop, kClasses);
  Plan* training = *engine->Compile({.batch = 2, .height = kCrop, .width = kCrop, .training = true});
  Plan* evaluation = *engine->Compile({.batch = 2, .height = kCrop, .width = kCrop, .training = false});
  training->Forward(samples.lane(), 0);
  EXPECT_THROW(training->BackwardData(15), Failure);  // no loss yet
  training->Loss(samples.lane(), 2);
  evaluation->Forward(samples.lane(), 0);
  EXPECT_THROW(training->BackwardData(15), Failure);
  EXPECT_THROW(training->Loss(samples.lane(), 2), Failure);
}

TEST(CpuEngine, BackwardLayersAreThoseWithParametersLastFirst) {
  auto engine = SmallEngine();
  Plan* plan = *engine->Compile({.batch = 1, .height = kCrop, .width = kCrop, .training = true});
  EXPECT_EQ(plan->backward_layers(), (std::vector<int>{15, 14, 13, 11, 10, 8, 7, 5, 4, 2, 0}));
  EXPECT_EQ(plan->forward_seconds().size(), 16u);
}

TEST(CpuEngine, TheFirstNonFiniteLayerIsNamed) {
  const Samples samples = MakeSamples(2, kCrop, kClasses);
  const auto poisoned = [&](int parameter, float value) {
    auto engine = SmallEngine(1);
    engine->parameters().weight(parameter)[5] = value;
    engine->parameters().WeightsChanged();
    Plan* plan = *engine->Compile({.batch = 2, .height = kCrop, .width = kCrop, .training = true});
    return plan->FirstNonFiniteLayer(samples.lane(), 3);
  };
  EXPECT_EQ(poisoned(0, 0.1F), "");
  EXPECT_EQ(poisoned(0, NAN), "conv1_1");
  EXPECT_EQ(poisoned(6, INFINITY), "conv3_2");
  EXPECT_EQ(poisoned(20, NAN), "fc8");

  auto engine = SmallEngine(1);
  for (float& weight : engine->parameters().weight(4)) weight *= 1e38F;  // finite weights, overflowing output
  engine->parameters().WeightsChanged();
  Plan* plan = *engine->Compile({.batch = 2, .height = kCrop, .width = kCrop, .training = true});
  EXPECT_EQ(plan->FirstNonFiniteLayer(samples.lane(), 3), "conv3_1");
  Samples bad = samples;
  bad.images[77] = NAN;
  EXPECT_EQ(plan->FirstNonFiniteLayer(bad.lane(), 3), "input");
}

bool StepLooksFinite(Engine& engine, const Samples& samples) {
  const bool loss = std::isfinite(RunStep(engine, samples.lane(), kCrop, 2).loss.loss);
  const bool hidden = (*engine.Compile({.batch = 2, .height = kCrop, .width = kCrop, .training = true}))->HiddenFinite();
  return loss && hidden;
}

TEST(CpuEngine, NoValueThatIsNotFiniteHidesBehindAReluThatTurnsNanIntoZero) {
  Samples samples = MakeSamples(2, kCrop, kClasses);
  auto engine = SmallEngine(1);
  ParameterStore& store = engine->parameters();
  EXPECT_TRUE(StepLooksFinite(*engine, samples));
  const auto scaled = [&](int parameter, float factor) {  // looks at the step with every value of a parameter times `factor`
    const auto weight = store.weight(parameter);
    const std::vector<float> kept(weight.begin(), weight.end());
    for (float& value : weight) value *= factor;
    store.WeightsChanged();
    const bool finite = StepLooksFinite(*engine, samples);
    std::copy(kept.begin(), kept.end(), weight.begin());
    store.WeightsChanged();
    return finite;
  };
  for (int parameter = 0; parameter < store.count(); ++parameter) {
    for (const float factor : {NAN, INFINITY})
      EXPECT_FALSE(scaled(parameter, factor)) << store.info(parameter).name << " " << factor;
  }
  EXPECT_FALSE(scaled(4, 1e38F));  // finite weights whose products overflow
  EXPECT_TRUE(StepLooksFinite(*engine, samples));
  samples.images[5] = NAN;
  EXPECT_FALSE(StepLooksFinite(*engine, samples));
}

TEST(CpuEngine, ImpossibleInputsAreRefusedNamingTheLayer) {
  const auto network = MakeTestNetwork("vgg-a", kWidth, kClasses, 0.5);
  const auto tiny = CreateCpuEngine(network, {.crop = 31});
  ASSERT_FALSE(tiny.has_value());
  EXPECT_NE(tiny.error().message.find("pool5"), std::string::npos) << tiny.error().message;
  auto engine = SmallEngine();
  const auto wrong = engine->Compile({.batch = 1, .height = 64, .width = 64});
  ASSERT_FALSE(wrong.has_value());
  EXPECT_NE(wrong.error().message.find("fc6"), std::string::npos) << wrong.error().message;
  EXPECT_FALSE(engine->Compile({.batch = 0, .height = kCrop, .width = kCrop}).has_value());
  // 63 rounds down to the same map as 32..63, so it fits.
  EXPECT_TRUE(engine->Compile({.batch = 1, .height = 63, .width = 63}).has_value());
}

TEST(CpuEngine, GrayImagesAndOneClassWork) {
  const auto network = *MakeNetwork("vgg-a", {.width = kWidth, .classes = 1, .channels = 1});
  auto engine = MakeEngine(network, {.threads = 1, .crop = kCrop});
  Samples samples = MakeSamples(2, kCrop, 1);
  samples.images.resize(2 * kCrop * kCrop);
  const StepResult result = RunStep(*engine, samples.lane(), kCrop, 2);
  EXPECT_NEAR(result.loss.loss, 0, 1e-6);
  EXPECT_EQ(result.loss.top1_correct, 2);
}

}  // namespace
}  // namespace plateau
