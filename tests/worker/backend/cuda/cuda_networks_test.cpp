// Whole networks on the CUDA engine: every way in which layers meet, held against the naive loops, and the papers' networks against the
// CPU engine. The emulated build checks our kernels, calls and buffers; what a device's libraries round is seen only by the gpu build.
#include "tests/worker/backend/cuda/cuda_fixture.h"

namespace plateau::cuda {
namespace {

constexpr int kClasses = 7, kBatch = 5;

struct Case {
  const char* name;
  Network (*make)();
  int side, channels;
};

class CudaGraph : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { SkipWithoutDevice(); }
  const Case& c_ = GetParam();
  const Network network_ = c_.make();
  Samples samples_ = MakeSamples(kBatch, c_.side, kClasses, 7, c_.channels);
  std::unique_ptr<Engine> Make() { return MakeCudaEngine(network_, {.threads = 1, .seed = 5, .crop = c_.side}); }
  PlanOptions Options(int batch, bool training) const {
    return {.batch = batch, .height = c_.side, .width = c_.side, .training = training};
  }
};

TEST_P(CudaGraph, LossLogitsAndEveryGradientEqualTheNaiveLoops) {
  auto engine = Make();
  const StepResult ours = RunStep(*engine, samples_.lane(), c_.side, 2 * kBatch);
  const auto right = reference::RunNetwork(network_, DoubleParameters(engine->parameters()), samples_.lane(), c_.side, c_.side,
                                           2 * kBatch, true, 5, 3);
  EXPECT_LT(RelativeError(ours.logits, right.logits.values), 1e-5);
  EXPECT_NEAR(ours.loss.loss, right.loss, 1e-5 * right.loss);
  EXPECT_EQ(ours.loss.images, kBatch);
  ExpectGradients(engine->parameters(), ours.gradients, right.gradients, 1e-5, 1e-7);
  EXPECT_TRUE(Compile(*engine, Options(kBatch, true))->HiddenFinite());
}

TEST_P(CudaGraph, AnEvaluationPlanEqualsTheNaiveLoopsWithoutHeadsAndDropout) {
  auto engine = Make();
  const auto right = reference::RunNetwork(network_, DoubleParameters(engine->parameters()), samples_.lane(), c_.side, c_.side,
                                           kBatch, false, 5, 3);
  CudaPlan* plan = Compile(*engine, Options(kBatch, false));
  plan->Forward({samples_.images, samples_.labels, samples_.weights, {}}, 3);
  EXPECT_LT(RelativeError(plan->logits(), right.logits.values), 1e-5);
  EXPECT_NEAR(plan->Loss(samples_.lane(), kBatch).loss, right.loss, 1e-5 * right.loss);
  EXPECT_EQ(plan->FirstNonFiniteLayer(samples_.lane(), 3), "");
}

TEST_P(CudaGraph, TheSameStepTwiceGivesTheSameBits) {
  auto one = Make(), two = Make();
  const StepResult first = RunStep(*one, samples_.lane(), c_.side, kBatch);
  RunStep(*one, samples_.rows(0, 2), c_.side, kBatch);
  for (Engine* engine : {one.get(), two.get()}) {
    const StepResult again = RunStep(*engine, samples_.lane(), c_.side, kBatch);
    EXPECT_EQ(again.logits, first.logits);
    EXPECT_EQ(again.loss.loss, first.loss.loss);
    EXPECT_EQ(again.gradients, first.gradients);
  }
}

TEST_P(CudaGraph, PaddingRowsBehindTheSamplesAddNothing) {
  auto engine = Make();
  Samples padded = samples_;
  padded.weights[3] = padded.weights[4] = 0;
  padded.labels[4] = -1;
  const StepResult whole = RunStep(*engine, padded.lane(), c_.side, 3), real = RunStep(*engine, padded.rows(0, 3), c_.side, 3);
  EXPECT_EQ(whole.loss.images, 3);
  EXPECT_NEAR(whole.loss.loss, real.loss.loss, 1e-5 * real.loss.loss);
  ExpectGradients(engine->parameters(), whole.gradients, real.gradients, 1e-5, 1e-7);
}

TEST_P(CudaGraph, NoParameterThatIsNotFiniteHides) {
  auto engine = Make();
  ParameterStore& store = engine->parameters();
  const Samples few = MakeSamples(2, c_.side, kClasses, 7, c_.channels);
  CudaPlan* plan = Compile(*engine, Options(2, true));
  const auto looks_finite = [&] {
    return std::isfinite(RunStep(*engine, few.lane(), c_.side, 2).loss.loss) && plan->HiddenFinite();
  };
  EXPECT_TRUE(looks_finite());
  for (int p = 0; p < store.count(); ++p) {
    for (const float factor : {NAN, INFINITY}) {
      const auto weight = store.weight(p);
      const std::vector<float> kept(weight.begin(), weight.end());
      for (float& value : weight) value *= factor;
      store.WeightsChanged();
      const std::string layer = network_.layers[static_cast<size_t>(store.info(p).layer)].name;
      EXPECT_FALSE(looks_finite()) << store.info(p).name << " " << factor;
      EXPECT_EQ(plan->FirstNonFiniteLayer(few.lane(), 3), layer) << store.info(p).name << " " << factor;
      std::copy(kept.begin(), kept.end(), weight.begin());
      store.WeightsChanged();
    }
  }
  EXPECT_TRUE(looks_finite());
}

TEST_P(CudaGraph, Bf16StaysNearFp32) {
  auto exact = Make(), rounded = MakeCudaEngine(network_, {.threads = 1, .seed = 5, .crop = c_.side, .precision = Precision::kBf16});
  const StepResult right = RunStep(*exact, samples_.lane(), c_.side, kBatch);
  const StepResult ours = RunStep(*rounded, samples_.lane(), c_.side, kBatch), again = RunStep(*rounded, samples_.lane(), c_.side, kBatch);
  // Half a unit of 8 bits is 2e-3 relative a rounding; some ten of them stand one behind the other here, and ReLUs near zero turn.
  EXPECT_LT(RelativeError(ours.logits, right.logits), 0.03);
  EXPECT_NEAR(ours.loss.loss, right.loss.loss, 0.03 * right.loss.loss);
  double difference = 0, size = 0;
  for (size_t p = 0; p < right.gradients.size(); ++p) {
    for (size_t i = 0; i < right.gradients[p].size(); ++i) {
      difference += std::pow(ours.gradients[p][i] - right.gradients[p][i], 2);
      size += std::pow(right.gradients[p][i], 2);
    }
  }
  EXPECT_LT(std::sqrt(difference / size), 0.1);
  EXPECT_EQ(again.gradients, ours.gradients);
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaGraph,
                         testing::Values(Case{"Inception", [] { return InceptionNetwork(kClasses); }, 32, 3},
                                         Case{"Residual", [] { return ResidualNetwork(kClasses); }, 32, 3},
                                         Case{"Odd", [] { return OddNetwork(kClasses); }, 28, 1},
                                         Case{"Direct", [] { return DirectNetwork(kClasses); }, 12, 3},
                                         Case{"Tangled", [] { return TangledNetwork(kClasses); }, 16, 3}),
                         [](const auto& info) { return info.param.name; });

TEST(CudaLanes, OfOneGlobalBatchSumToItsGradientWithTheSameMasks) {
  SkipWithoutDevice();
  if (testing::Test::IsSkipped()) return;
  const Samples samples = MakeSamples(kBatch, 32, kClasses);
  auto engine = MakeCudaEngine(InceptionNetwork(kClasses), {.threads = 1, .seed = 5, .crop = 32});
  const StepResult whole = RunStep(*engine, samples.lane(), 32, kBatch);
  StepResult sum = RunStep(*engine, samples.rows(0, 3), 32, kBatch);
  const StepResult second = RunStep(*engine, samples.rows(3, kBatch), 32, kBatch);
  for (size_t p = 0; p < sum.gradients.size(); ++p)
    for (size_t i = 0; i < sum.gradients[p].size(); ++i) sum.gradients[p][i] += second.gradients[p][i];
  ExpectGradients(engine->parameters(), sum.gradients, whole.gradients, 1e-5, 1e-7);
}

TEST(CudaLanes, OfBatchNormTakeTheirOwnStatisticsByTheirShare) {
  SkipWithoutDevice();
  if (testing::Test::IsSkipped()) return;
  auto engine = MakeCudaEngine(ResidualNetwork(kClasses), {.threads = 1, .crop = 32});
  const Samples samples = MakeSamples(8, 32, kClasses);
  const StepResult alone = RunStep(*engine, samples.rows(0, 6), 32, 6), lane = RunStep(*engine, samples.rows(0, 6), 32, 8);
  for (int p = 0; p < engine->parameters().count(); ++p) {
    auto share = alone.gradients[static_cast<size_t>(p)];
    for (float& value : share) value *= 0.75F;
    EXPECT_LT(RelativeError(lane.gradients[static_cast<size_t>(p)], share), 1e-5) << engine->parameters().info(p).name;
  }
}

class CudaPaperNetwork : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { SkipWithoutDevice(); }
  // The smallest crops that leave something for the last layers.
  static int Crop(const std::string& name) {
    if (name == "lenet") return 28;
    if (name == "googlenet") return 80;
    return name == "alexnet" || name == "zfnet" ? 64 : 32;
  }
  static Network Make(const std::string& name) {
    NetworkOptions options = PaperOptions(name);
    options.classes = kClasses;
    if (name != "lenet") options.width = 0.02;  // sixteen channels nearly everywhere
    return *MakeNetwork(name, options);
  }
};

// With dropout as the papers have it: another mask would be seen in every figure.
TEST_P(CudaPaperNetwork, LogitsLossAndEveryGradientEqualTheCpuEngines) {
  const Network network = Make(GetParam());
  const int crop = Crop(GetParam());
  const Samples samples = MakeSamples(3, crop, kClasses, 7, network.channels);
  auto cuda = MakeCudaEngine(network, {.threads = 1, .seed = 5, .crop = crop});
  auto cpu = MakeEngine(network, {.threads = 1, .seed = 5, .crop = crop, .convolution = ConvAlgorithm::kDirect});
  const StepResult ours = RunStep(*cuda, samples.lane(), crop, 3), right = RunStep(*cpu, samples.lane(), crop, 3);
  // Fifty layers with batch norm over few values multiply rounding, and one ReLU that it turns moves gradients by percents.
  const bool deep = GetParam() == "resnet-50";
  EXPECT_LT(RelativeError(ours.logits, right.logits), deep ? 1e-3 : 1e-4);
  EXPECT_NEAR(ours.loss.loss, right.loss.loss, (deep ? 1e-3 : 1e-4) * right.loss.loss);
  EXPECT_EQ(ours.loss.top1_correct, right.loss.top1_correct);
  EXPECT_EQ(ours.loss.top5_correct, right.loss.top5_correct);
  const double bound = deep ? 2e-2 : GetParam() == "resnet-18" ? 1e-3 : 1e-4;
  ExpectGradients(cuda->parameters(), ours.gradients, right.gradients, bound, 1e-6);
}

TEST_P(CudaPaperNetwork, EvaluationPlansGiveTheCpuEnginesLogits) {
  const Network network = Make(GetParam());
  const int crop = Crop(GetParam());
  const Samples samples = MakeSamples(3, crop, kClasses, 7, network.channels);
  auto cuda = MakeCudaEngine(network, {.threads = 1, .seed = 5, .crop = crop});
  auto cpu = MakeEngine(network, {.threads = 1, .seed = 5, .crop = crop, .convolution = ConvAlgorithm::kDirect});
  const PlanOptions options{.batch = 3, .height = crop, .width = crop, .training = false};
  Plan* ours = Compile(*cuda, options);
  Plan* right = *cpu->Compile(options);
  for (Plan* plan : {ours, right}) plan->Forward(samples.lane(), 0);
  EXPECT_LT(RelativeError(ours->logits(), right->logits()), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaPaperNetwork,
                         testing::Values("vgg-a", "vgg-a-lrn", "vgg-c", "vgg-d", "vgg-e", "vgg-b-bn", "lenet", "alexnet", "zfnet",
                                         "googlenet", "resnet-18", "resnet-50"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace plateau::cuda
