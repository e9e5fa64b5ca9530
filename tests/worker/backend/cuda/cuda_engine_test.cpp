// The CUDA engine as a whole: its list of plans, its memory, its refusals, and what it says of values that are not finite.
#include <gmock/gmock.h>

#include "tests/worker/backend/cuda/cuda_fixture.h"

namespace plateau::cuda {
namespace {

constexpr int kCrop = 32, kClasses = 7;
constexpr double kWidth = 0.0625;  // 16 to 32 channels, 256 units

std::unique_ptr<Engine> SmallEngine(double dropout = 0.5, Precision precision = Precision::kFp32) {
  return MakeCudaEngine(MakeTestNetwork("vgg-a", kWidth, kClasses, dropout),
                        {.threads = 1, .seed = 5, .crop = kCrop, .precision = precision});
}

class CudaEngineTest : public DeviceTest {};

TEST_F(CudaEngineTest, MasksChangeWithStepAndSample) {
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

TEST_F(CudaEngineTest, PlansShareWeightsAndArenaAndMayAlternate) {
  auto engine = SmallEngine();
  const Samples samples = MakeSamples(8, kCrop, kClasses);
  const StepResult small = RunStep(*engine, samples.rows(0, 2), kCrop, 2);
  const CudaPlan* plan = Compile(*engine, {.batch = 2, .height = kCrop, .width = kCrop, .training = true});
  const int generation = plan->generation();
  const StepResult large = RunStep(*engine, samples.lane(), kCrop, 8);  // grows the arena under the first plan
  EXPECT_NE(plan->generation(), generation);
  EXPECT_EQ(RunStep(*engine, samples.rows(0, 2), kCrop, 2).gradients, small.gradients);
  EXPECT_EQ(RunStep(*engine, samples.lane(), kCrop, 8).gradients, large.gradients);
  const int grown = plan->generation();
  Compile(*engine, {.batch = 4, .height = kCrop, .width = kCrop, .training = true});
  EXPECT_EQ(plan->generation(), grown);  // it had room
}

TEST_F(CudaEngineTest, TheListOfPlansIsBoundedAndAnAskedForPlanIsKept) {
  auto engine = SmallEngine();
  const auto compile = [&](int batch) {
    return Compile(*engine, {.batch = batch, .height = kCrop, .width = kCrop, .training = false});
  };
  CudaPlan* first = compile(1);
  for (int batch = 2; batch <= 3 * Engine::kMaxPlans; ++batch) {
    compile(batch);
    EXPECT_EQ(compile(1), first);  // the most recently asked for, so never the one that leaves
  }
  const Samples samples = MakeSamples(1, kCrop, kClasses);
  first->Forward(samples.lane(), 0);
  EXPECT_TRUE(std::isfinite(first->Loss(samples.lane(), 1).loss));
}

TEST_F(CudaEngineTest, BackwardWithoutItsOwnForwardAndLossIsAFailure) {
  auto engine = SmallEngine();
  const Samples samples = MakeSamples(2, kCrop, kClasses);
  CudaPlan* training = Compile(*engine, {.batch = 2, .height = kCrop, .width = kCrop, .training = true});
  CudaPlan* evaluation = Compile(*engine, {.batch = 2, .height = kCrop, .width = kCrop, .training = false});
  training->Forward(samples.lane(), 0);
  EXPECT_THROW(training->BackwardData(15), Failure);  // no loss yet
  training->Loss(samples.lane(), 2);
  evaluation->Forward(samples.lane(), 0);
  EXPECT_THROW(training->BackwardData(15), Failure);
  EXPECT_THROW(training->BackwardWeights(15), Failure);
  EXPECT_THROW(training->Loss(samples.lane(), 2), Failure);
  training->Forward(samples.lane(), 0);
  training->Claim();  // captured work begins: the host's pass is over
  training->Loss(samples.lane(), 2);
  EXPECT_THROW(evaluation->Loss(samples.lane(), 2), Failure);
}

TEST_F(CudaEngineTest, ALabelThatNoClassHasIsRefusedUnlessItsRowIsPadding) {
  auto engine = SmallEngine();
  Samples samples = MakeSamples(2, kCrop, kClasses);
  CudaPlan* plan = Compile(*engine, {.batch = 2, .height = kCrop, .width = kCrop, .training = true});
  samples.labels[1] = kClasses;
  plan->Forward(samples.lane(), 0);
  EXPECT_THROW(plan->Loss(samples.lane(), 2), Failure);
  samples.weights[1] = 0;
  plan->Forward(samples.lane(), 0);
  EXPECT_EQ(plan->Loss(samples.lane(), 2).images, 1);
}

TEST_F(CudaEngineTest, BackwardLayersAreThoseWithParametersLastFirst) {
  auto engine = SmallEngine();
  CudaPlan* plan = Compile(*engine, {.batch = 1, .height = kCrop, .width = kCrop, .training = true});
  EXPECT_EQ(plan->backward_layers(), (std::vector<int>{15, 14, 13, 11, 10, 8, 7, 5, 4, 2, 0}));
  EXPECT_EQ(plan->forward_seconds().size(), 16u);
  EXPECT_EQ(plan->pass_seconds().size(), 16u);
  EXPECT_FALSE(plan->algorithms().empty());
  EXPECT_NE(engine->description().find("cuda ("), std::string::npos) << engine->description();
}

TEST_F(CudaEngineTest, TheFirstNonFiniteLayerIsNamed) {
  const Samples samples = MakeSamples(2, kCrop, kClasses);
  const auto poisoned = [&](int parameter, float value) {
    auto engine = SmallEngine();
    engine->parameters().weight(parameter)[5] = value;
    engine->parameters().WeightsChanged();
    return Compile(*engine, {.batch = 2, .height = kCrop, .width = kCrop, .training = true})
        ->FirstNonFiniteLayer(samples.lane(), 3);
  };
  EXPECT_EQ(poisoned(0, 0.1F), "");
  EXPECT_EQ(poisoned(0, NAN), "conv1_1");
  EXPECT_EQ(poisoned(6, INFINITY), "conv3_2");
  EXPECT_EQ(poisoned(20, NAN), "fc8");

  auto engine = SmallEngine();
  for (float& weight : engine->parameters().weight(4)) weight *= 1e38F;  // finite weights, overflowing output
  engine->parameters().WeightsChanged();
  CudaPlan* plan = Compile(*engine, {.batch = 2, .height = kCrop, .width = kCrop, .training = true});
  EXPECT_EQ(plan->FirstNonFiniteLayer(samples.lane(), 3), "conv3_1");
  Samples bad = samples;
  bad.images[77] = NAN;
  EXPECT_EQ(plan->FirstNonFiniteLayer(bad.lane(), 3), "input");
}

TEST_F(CudaEngineTest, NoOverflowAndNoImageThatIsNotFiniteHidesBehindARelu) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    Samples samples = MakeSamples(2, kCrop, kClasses);
    auto engine = SmallEngine(0.5, precision);
    CudaPlan* plan = Compile(*engine, {.batch = 2, .height = kCrop, .width = kCrop, .training = true});
    const auto looks_finite = [&] {
      return std::isfinite(RunStep(*engine, samples.lane(), kCrop, 2).loss.loss) && plan->HiddenFinite();
    };
    EXPECT_TRUE(looks_finite());
    const auto weight = engine->parameters().weight(4);
    const std::vector<float> kept(weight.begin(), weight.end());
    for (float& value : weight) value *= 1e38F;
    engine->parameters().WeightsChanged();
    EXPECT_FALSE(looks_finite());
    std::copy(kept.begin(), kept.end(), weight.begin());
    engine->parameters().WeightsChanged();
    EXPECT_TRUE(looks_finite());
    samples.images[5] = NAN;
    EXPECT_FALSE(looks_finite());
  }
}

TEST_F(CudaEngineTest, BytesAreTheFloatsThatTheyStandFor) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    auto engine = SmallEngine(0.5, precision);
    EXPECT_TRUE(engine->takes_pixels());
    const Samples samples = MakePixelSamples(4, kCrop, kClasses);
    const StepResult floats = RunStep(*engine, samples.lane(), kCrop, 4), bytes = RunStep(*engine, samples.pixel_lane(), kCrop, 4);
    EXPECT_EQ(bytes.logits, floats.logits);
    EXPECT_EQ(bytes.gradients, floats.gradients);
    EXPECT_EQ(RunStep(*engine, samples.lane(), kCrop, 4).logits, floats.logits) << "a plan takes either";
    CudaPlan* plan = Compile(*engine, {.batch = 4, .height = kCrop, .width = kCrop, .training = true});
    EXPECT_EQ(plan->FirstNonFiniteLayer(samples.pixel_lane(), 3), "");
    Samples bad = samples;
    bad.scales[2].gain[1] = INFINITY;
    EXPECT_EQ(plan->FirstNonFiniteLayer(bad.pixel_lane(), 3), "input");
  }
  const Network wide = *MakeNetwork("vgg-a", {.width = kWidth, .classes = 2, .channels = kMostPixelChannels + 1});
  EXPECT_FALSE(MakeCudaEngine(wide, {.threads = 1, .crop = kCrop})->takes_pixels());
}

TEST_F(CudaEngineTest, ImpossibleInputsAreRefusedNamingTheLayer) {
  const auto network = MakeTestNetwork("vgg-a", kWidth, kClasses, 0.5);
  const auto tiny = CreateCudaEngine(network, {.crop = 31});
  ASSERT_FALSE(tiny.has_value());
  EXPECT_NE(tiny.error().message.find("pool5"), std::string::npos) << tiny.error().message;
  auto engine = SmallEngine();
  const auto wrong = engine->Compile({.batch = 1, .height = 64, .width = 64});
  ASSERT_FALSE(wrong.has_value());
  EXPECT_NE(wrong.error().message.find("fc6"), std::string::npos) << wrong.error().message;
  EXPECT_FALSE(engine->Compile({.batch = 0, .height = kCrop, .width = kCrop}).has_value());
  // 63 rounds down to the same map as 32..63, so it fits.
  EXPECT_TRUE(engine->Compile({.batch = 1, .height = 63, .width = 63}).has_value());
  const auto nowhere = CreateCudaEngine(network, {.crop = kCrop, .device = 1000});
  EXPECT_FALSE(nowhere.has_value());
}

TEST_F(CudaEngineTest, APlanOfImagesThatAreNotSquareEqualsTheNaiveLoops) {
  const Network network = ResidualNetwork(kClasses);
  auto engine = MakeCudaEngine(network, {.threads = 1, .crop = 32});
  Samples samples = MakeSamples(2, 48, kClasses);
  samples.images.resize(size_t{2} * 3 * 48 * 36);
  CudaPlan* plan = Compile(*engine, {.batch = 2, .height = 48, .width = 36, .training = false});
  plan->Forward(samples.lane(), 0);
  const auto right = reference::RunNetwork(network, DoubleParameters(engine->parameters()), samples.lane(), 48, 36, 2, false, 1, 0);
  EXPECT_LT(RelativeError(plan->logits(), right.logits.values), 1e-5);
}

TEST_F(CudaEngineTest, GrayImagesAndOneClassWork) {
  const auto network = *MakeNetwork("vgg-a", {.width = kWidth, .classes = 1, .channels = 1});
  auto engine = MakeCudaEngine(network, {.threads = 1, .crop = kCrop});
  Samples samples = MakeSamples(2, kCrop, 1);
  samples.images.resize(2 * kCrop * kCrop);
  const StepResult result = RunStep(*engine, samples.lane(), kCrop, 2);
  EXPECT_NEAR(result.loss.loss, 0, 1e-6);
  EXPECT_EQ(result.loss.top1_correct, 2);
}

TEST_F(CudaEngineTest, TakesTheMemoryThatWasPredicted) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const Network network = MakeTestNetwork("vgg-a", kWidth, kClasses, 0.5);
    auto engine = SmallEngine(0.5, precision);
    const PlanOptions options{.batch = 6, .height = kCrop, .width = kCrop, .training = true};
    const CudaPlan* plan = Compile(*engine, options);
    const auto predicted = PredictMemory(network, kCrop, options, precision, 6);
    ASSERT_TRUE(predicted.has_value());
    EXPECT_EQ(plan->arena_bytes(), predicted->arena);
    EXPECT_EQ(plan->rows_bytes(), predicted->rows);
    EXPECT_LE(plan->workspace_bytes(), predicted->workspace);
    const auto bytes = static_cast<uint64_t>(plan->parameters().total()) * sizeof(float);
    EXPECT_EQ(bytes, predicted->weights);
    EXPECT_EQ(bytes, predicted->momenta);
    EXPECT_EQ(predicted->copy, precision == Precision::kBf16 ? bytes / 2 : 0);
  }
}

TEST_F(CudaEngineTest, ABatchThatDoesNotFitIsRefusedNamingTheLargestThatDoes) {
  auto engine = SmallEngine();
  size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  // One whose buffers take more than the device has, on all but the largest, and one whose maps are too large to count as well.
  for (const int batch : {1'000'000, 1 << 23}) {
    PlanOptions huge{.batch = batch, .height = kCrop, .width = kCrop, .training = true};
    const auto predicted = PredictMemory(engine->network(), kCrop, huge, Precision::kFp32, batch);
    if (predicted && predicted->arena <= total) continue;
    const auto refused = engine->Compile(huge);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
    huge.batch = 1;
    const auto largest = engine->LargestBatch(huge);
    ASSERT_TRUE(largest.has_value()) << largest.error().message;
    EXPECT_GT(*largest, 8);
    EXPECT_LT(*largest, batch);
    EXPECT_THAT(refused.error().message, ::testing::HasSubstr(fmt::format("the largest batch that fits is {}", *largest)));
    EXPECT_THAT(refused.error().message, ::testing::Not(::testing::HasSubstr("micro_batch")))
        << "what to change is the caller's to say";
  }
  // The refusal left the engine as it was.
  const Samples samples = MakeSamples(2, kCrop, kClasses);
  EXPECT_TRUE(std::isfinite(RunStep(*engine, samples.lane(), kCrop, 2).loss.loss));
}

}  // namespace
}  // namespace plateau::cuda
