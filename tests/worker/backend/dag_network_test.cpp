// Whole branching networks on the CPU engine, held against the naive loops and against themselves.
#include "tests/worker/backend/dag_fixture.h"
#include "worker/nn/dropout.h"

namespace plateau {
namespace {

constexpr int kClasses = 7, kBatch = 5;

struct Case {
  const char* name;
  Network (*make)();
  int side, channels, threads;
};

class WholeGraph : public testing::TestWithParam<Case> {
 protected:
  const Case& c_ = GetParam();
  const Network network_ = c_.make();
  Samples samples_ = MakeSamples(kBatch, c_.side, kClasses, 7, c_.channels);
  std::unique_ptr<Engine> Make(ConvAlgorithm algorithm = ConvAlgorithm::kDirect) {
    return MakeEngine(network_, {.threads = c_.threads, .seed = 5, .crop = c_.side, .convolution = algorithm});
  }
  reference::NetworkResult Right(Engine& engine, const LaneBatch& lane, int global_batch, bool training = true) {
    return reference::RunNetwork(network_, DoubleParameters(engine.parameters()), lane, c_.side, c_.side, global_batch, training, 5,
                                 3);
  }
};

TEST_P(WholeGraph, LossLogitsAndEveryGradientEqualTheNaiveLoops) {
  auto engine = Make();
  const StepResult ours = RunStep(*engine, samples_.lane(), c_.side, 2 * kBatch);
  const auto right = Right(*engine, samples_.lane(), 2 * kBatch);
  EXPECT_LT(RelativeError(ours.logits, right.logits.values), 1e-5);
  EXPECT_NEAR(ours.loss.loss, right.loss, 1e-5 * right.loss);
  ASSERT_EQ(ours.gradients.size(), right.gradients.size());
  for (size_t p = 0; p < right.gradients.size(); ++p)
    EXPECT_LT(RelativeError(ours.gradients[p], right.gradients[p]), 1e-5) << engine->parameters().info(static_cast<int>(p)).name;
}

TEST_P(WholeGraph, AnEvaluationPlanEqualsTheNaiveLoopsWithoutHeadsAndDropout) {
  auto engine = Make();
  const auto right = Right(*engine, samples_.lane(), kBatch, false);
  Plan* plan = *engine->Compile({.batch = kBatch, .height = c_.side, .width = c_.side, .training = false});
  plan->Forward({samples_.images, samples_.labels, samples_.weights, {}}, 3);
  EXPECT_LT(RelativeError(plan->logits(), right.logits.values), 1e-5);
  EXPECT_NEAR(plan->Loss(samples_.lane(), kBatch).loss, right.loss, 1e-5 * right.loss);
  EXPECT_EQ(plan->FirstNonFiniteLayer(samples_.lane(), 3), "");
}

TEST_P(WholeGraph, TheSameStepTwiceGivesTheSameBits) {
  auto one = Make(ConvAlgorithm::kAuto), two = Make(ConvAlgorithm::kAuto);
  const StepResult first = RunStep(*one, samples_.lane(), c_.side, kBatch);
  RunStep(*one, samples_.rows(0, 2), c_.side, kBatch);
  for (Engine* engine : {one.get(), two.get()}) {
    const StepResult again = RunStep(*engine, samples_.lane(), c_.side, kBatch);
    EXPECT_EQ(again.logits, first.logits);
    EXPECT_EQ(again.gradients, first.gradients);
  }
}

TEST_P(WholeGraph, PaddingRowsBehindTheSamplesAddNothing) {
  auto engine = Make();
  Samples padded = samples_;
  padded.weights[3] = padded.weights[4] = 0;
  padded.labels[4] = -1;
  const StepResult whole = RunStep(*engine, padded.lane(), c_.side, 3), real = RunStep(*engine, padded.rows(0, 3), c_.side, 3);
  EXPECT_EQ(whole.loss.images, 3);
  EXPECT_NEAR(whole.loss.loss, real.loss.loss, 1e-5 * real.loss.loss);
  for (size_t p = 0; p < real.gradients.size(); ++p)
    EXPECT_LT(RelativeError(whole.gradients[p], real.gradients[p]), 1e-5) << engine->parameters().info(static_cast<int>(p)).name;
}

TEST_P(WholeGraph, NoParameterThatIsNotFiniteHides) {
  auto engine = Make();
  ParameterStore& store = engine->parameters();
  const PlanOptions options{.batch = kBatch, .height = c_.side, .width = c_.side, .training = true};
  Plan* plan = *engine->Compile(options);
  const auto looks_finite = [&] {
    return std::isfinite(RunStep(*engine, samples_.lane(), c_.side, kBatch).loss.loss) && plan->HiddenFinite();
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
      EXPECT_EQ(plan->FirstNonFiniteLayer(samples_.lane(), 3), layer) << store.info(p).name << " " << factor;
      std::copy(kept.begin(), kept.end(), weight.begin());
      store.WeightsChanged();
    }
  }
  EXPECT_TRUE(looks_finite());
}

TEST_P(WholeGraph, EveryLayerWithParametersFinishesItsBackwardPassOnceLastFirst) {
  auto engine = Make();
  Plan* plan = *engine->Compile({.batch = 1, .height = c_.side, .width = c_.side, .training = true});
  std::vector<int> expected;
  for (int layer = static_cast<int>(network_.layers.size()) - 1; layer >= 0; --layer)
    if (HasParameters(network_.layers[static_cast<size_t>(layer)])) expected.push_back(layer);
  EXPECT_EQ(plan->backward_layers(), expected);
}

INSTANTIATE_TEST_SUITE_P(Cpu, WholeGraph,
                         testing::Values(Case{"Inception", [] { return InceptionNetwork(kClasses); }, 32, 3, 2},
                                         Case{"InceptionPlain", [] { return InceptionNetwork(kClasses, 0); }, 32, 3, 1},
                                         Case{"Residual", [] { return ResidualNetwork(kClasses); }, 32, 3, 2},
                                         Case{"Odd", [] { return OddNetwork(kClasses); }, 28, 1, 2},
                                         Case{"Direct", [] { return DirectNetwork(kClasses); }, 12, 3, 2},
                                         Case{"Tangled", [] { return TangledNetwork(kClasses); }, 16, 3, 2}),
                         [](const auto& info) { return info.param.name; });

TEST(Graph, AuxiliaryHeadsAddTheirWeightedLossToGradientsAndNothingToFigures) {
  const Samples samples = MakeSamples(kBatch, 32, kClasses);
  Network with = InceptionNetwork(kClasses, 0), doubled = with;
  for (AuxiliaryHead& head : doubled.auxiliary) head.loss_weight *= 2;
  Network without = with;
  for (AuxiliaryHead& head : without.auxiliary) head.loss_weight = 0;
  const EngineOptions options{.threads = 2, .seed = 5, .crop = 32, .convolution = ConvAlgorithm::kDirect};
  auto engine = MakeEngine(with, options), engine_doubled = MakeEngine(doubled, options),
       engine_without = MakeEngine(without, options);
  const StepResult one = RunStep(*engine, samples.lane(), 32, kBatch), two = RunStep(*engine_doubled, samples.lane(), 32, kBatch),
                   none = RunStep(*engine_without, samples.lane(), 32, kBatch);
  EXPECT_EQ(one.loss.loss, none.loss.loss);
  EXPECT_EQ(one.logits, none.logits);
  for (size_t p = 0; p < one.gradients.size(); ++p) {
    std::vector<double> linear(one.gradients[p].size());
    for (size_t i = 0; i < linear.size(); ++i) linear[i] = 2.0 * one.gradients[p][i] - none.gradients[p][i];
    EXPECT_LT(RelativeError(two.gradients[p], linear), 1e-4) << engine->parameters().info(static_cast<int>(p)).name;
  }
}

TEST(Graph, LanesOfBatchNormTakeTheirOwnStatisticsByTheirShare) {
  const Network network = ResidualNetwork(kClasses);
  auto engine = MakeEngine(network, {.threads = 2, .crop = 32});
  const Samples samples = MakeSamples(8, 32, kClasses);
  const StepResult alone = RunStep(*engine, samples.rows(0, 6), 32, 6), lane = RunStep(*engine, samples.rows(0, 6), 32, 8);
  for (int p = 0; p < engine->parameters().count(); ++p) {
    auto share = alone.gradients[static_cast<size_t>(p)];
    for (float& value : share) value *= 0.75F;
    EXPECT_LT(RelativeError(lane.gradients[static_cast<size_t>(p)], share), 1e-5) << engine->parameters().info(p).name;
  }
}

TEST(Graph, ANetworkThatEndsInAPoolGivesItsLogitsInEvaluation) {
  TableBuilder table("scores", 10);
  table.GlobalPool(table.Conv(table.Conv(-1, 16, 3, 1, 1), 10, 1, 1, 0, false));
  const Network network = table.Finish();
  auto engine = MakeEngine(network, {.threads = 1, .crop = 12});
  const Samples samples = MakeSamples(3, 12, 10);
  Plan* plan = *engine->Compile({.batch = 3, .height = 12, .width = 12, .training = false});
  plan->Forward(samples.lane(), 0);
  const auto right = reference::RunNetwork(network, DoubleParameters(engine->parameters()), samples.lane(), 12, 12, 3, false, 1, 0);
  EXPECT_LT(RelativeError(plan->logits(), right.logits.values), 1e-5);
  const auto training = engine->Compile({.batch = 3, .height = 12, .width = 12, .training = true});
  ASSERT_FALSE(training.has_value());
  EXPECT_EQ(training.error().code, ErrorCode::kUnsupported);
}

TEST(Graph, TablesThatCannotRunAreRefusedNamingTheLayer) {
  const auto refused = [](auto&& change) {
    Network network = InceptionNetwork(kClasses);
    const std::string layer = change(network);
    const auto engine = CreateCpuEngine(network, {.crop = 32});
    ASSERT_FALSE(engine.has_value()) << layer;
    EXPECT_EQ(engine.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(engine.error().message.find("layer " + layer + " "), std::string::npos) << engine.error().message;
  };
  const auto at = [](Network& network, size_t layer) -> LayerDef& { return network.layers[layer]; };
  refused([&](Network& n) { return at(n, 4).inputs = {9}, at(n, 4).name; });     // not earlier
  refused([&](Network& n) { return at(n, 4).inputs = {1, 2}, at(n, 4).name; });  // two inputs of a convolution
  refused([&](Network& n) { return at(n, 2).relu = true, at(n, 2).name; });      // LRN with a ReLU
  refused([&](Network& n) { return at(n, 3).dropout = 0.5, at(n, 3).name; });    // convolution with dropout
  refused([&](Network& n) { return n.layers.back().relu = true, n.layers.back().name; });
  refused([&](Network& n) { return at(n, 10).inputs.pop_back(), at(n, 9).name; });  // a branch that nobody joins
  refused([&](Network& n) { return n.layers[static_cast<size_t>(n.auxiliary[0].layer)].out_channels = 3, at(n, 14).name; });
  refused([&](Network& n) { return n.auxiliary[0].layer = 3, at(n, 3).name; });              // a head on the main path
  refused([&](Network& n) { return n.layers.back().inputs = {-1}, n.layers.back().name; });  // units of the images
  refused([&](Network& n) { return at(n, 15).inputs = {12}, at(n, 15).name; });              // the main path behind a head
}

}  // namespace
}  // namespace plateau
