// Every compiled operator, forward and backward, against the naive loops in double: 1e-5 relative L2.
#include "tests/worker/backend/layers_fixture.h"
#include "worker/backend/cpu/elementwise.h"
#include "worker/backend/cpu/fc_layer.h"
#include "worker/backend/cpu/pool_layer.h"

namespace plateau {
namespace {

struct ConvCase {
  int batch, in, out, side, kernel;
};
const ConvCase kConvCases[] = {{2, 3, 16, 9, 3},  {2, 3, 64, 32, 3}, {4, 16, 16, 8, 3}, {2, 32, 48, 13, 3},
                               {3, 64, 32, 7, 3}, {5, 16, 32, 3, 3}, {1, 32, 16, 2, 3}, {2, 32, 32, 6, 1}};

TEST_F(Layers, ConvolutionEqualsTheNaiveLoopsInEveryPassAndAlgorithm) {
  for (const ConvCase& c : kConvCases) {
    const Map x = Random(c.batch, c.in, c.side, c.side), w = Random(c.out, c.in, c.kernel, c.kernel, 0.1);
    const Map dy = Random(c.batch, c.out, c.side, c.side);
    const auto b = RandomVector(c.out);
    const reference::Window window{c.kernel, 1, c.kernel / 2};
    const auto right_y = reference::ConvForward(x, w, b, window), right_dx = reference::ConvBackwardData(dy, w, x, window);
    const auto right_weights = reference::ConvBackwardWeights(dy, x, w, window);
    for (const auto requested : {ConvAlgorithm::kDirect, ConvAlgorithm::kWinograd, ConvAlgorithm::kAuto}) {
      const ConvSetup setup = Setup(c.batch, c.in, c.out, c.side, requested, c.kernel);
      const auto [run, algorithms] = RunConv(setup, x, w, b, dy, ConvLayer::NativeWeights(engine_, setup));
      const std::string what =
          fmt::format("{}x{}->{} @{} k{} {}", c.batch, c.in, c.out, c.side, c.kernel, ConvAlgorithmName(requested));
      EXPECT_LT(Error(run.y, right_y.values), kTolerance) << what;
      if (setup.data_gradient) {
        EXPECT_LT(Error(run.dx, right_dx.values), kTolerance) << what;
      }
      EXPECT_LT(Error(run.dw, right_weights.w.values), kTolerance) << what;
      EXPECT_LT(Error(run.db, right_weights.b), kTolerance) << what;
    }
  }
}

// Without AVX-512 there is no Winograd: the rule falls back to direct, which the naive loops check on the last shape either way.
TEST_F(Layers, WinogradIsUsedWhereItExistsAndEqualsDirectOnThePapersShapes) {
  const std::string best = HasAvx512() ? "winograd" : "direct";
  for (const ConvCase& c :
       {ConvCase{1, 64, 64, 56, 3}, ConvCase{2, 128, 128, 28, 3}, ConvCase{2, 256, 256, 14, 3}, ConvCase{8, 128, 128, 7, 3}}) {
    const Map x = Random(c.batch, c.in, c.side, c.side), w = Random(c.out, c.in, 3, 3, 0.05),
              dy = Random(c.batch, c.out, c.side, c.side);
    const auto b = RandomVector(c.out);
    const ConvSetup direct = Setup(c.batch, c.in, c.out, c.side, ConvAlgorithm::kDirect);
    const ConvSetup chosen = Setup(c.batch, c.in, c.out, c.side, ConvAlgorithm::kAuto);
    const auto native = ConvLayer::NativeWeights(engine_, chosen);
    const auto right = RunConv(direct, x, w, b, dy, native), ours = RunConv(chosen, x, w, b, dy, native);
    EXPECT_EQ(ours.algorithms, (std::vector<std::string>{"forward " + best, "backward_data " + best, "backward_weights " + best}));
    EXPECT_EQ(right.algorithms, (std::vector<std::string>{"forward direct", "backward_data direct", "backward_weights direct"}));
    const auto doubles = [](const std::vector<float>& values) { return std::vector<double>(values.begin(), values.end()); };
    EXPECT_LT(Error(ours.run.y, doubles(right.run.y)), kTolerance);
    EXPECT_LT(Error(ours.run.dx, doubles(right.run.dx)), kTolerance);
    EXPECT_LT(Error(ours.run.dw, doubles(right.run.dw)), kTolerance);
    EXPECT_LT(Error(ours.run.db, doubles(right.run.db)), kTolerance);
    if (c.side > 7) continue;
    const reference::Window window{3, 1, 1};
    EXPECT_LT(Error(ours.run.y, reference::ConvForward(x, w, b, window).values), kTolerance);
    EXPECT_LT(Error(ours.run.dx, reference::ConvBackwardData(dy, w, x, window).values), kTolerance);
    EXPECT_LT(Error(ours.run.dw, reference::ConvBackwardWeights(dy, x, w, window).w.values), kTolerance);
  }
}

TEST_F(Layers, AConvolutionWhoseWeightsLieInAnotherLayoutUsesACopyAndGivesTheSame) {
  const Map x = Random(2, 16, 8, 8), w = Random(32, 16, 3, 3), dy = Random(2, 32, 8, 8);
  const auto b = RandomVector(32);
  const ConvSetup setup = Setup(2, 16, 32, 8, ConvAlgorithm::kDirect);
  const memory::desc plain({32, 16, 3, 3}, memory::data_type::f32, memory::format_tag::oihw);
  ASSERT_FALSE(plain == ConvLayer::NativeWeights(engine_, setup));
  const auto native = RunConv(setup, x, w, b, dy, ConvLayer::NativeWeights(engine_, setup)).run,
             copied = RunConv(setup, x, w, b, dy, plain).run;
  EXPECT_EQ(copied.y, native.y);
  EXPECT_EQ(copied.dx, native.dx);
  EXPECT_EQ(copied.dw, native.dw);
}

TEST_F(Layers, ACopyFollowsTheWeights) {
  const Map x = Random(2, 16, 8, 8), w = Random(32, 16, 3, 3), y_shape(2, 32, 8, 8), dy = Random(2, 32, 8, 8);
  const auto b = RandomVector(32);
  const ConvSetup setup = Setup(2, 16, 32, 8, ConvAlgorithm::kDirect);
  CpuParameterStore store = MakeStore({{32, 16, 3, 3}, memory::data_type::f32, memory::format_tag::oihw}, {32, 16, 3, 3});
  SetWeights(store, w, b);
  ConvLayer layer(engine_, store, 0, 1, setup);
  RunLayer(layer, &store, x, setup.input, y_shape, dy);
  const Map other = Random(32, 16, 3, 3);
  SetWeights(store, other, b);
  const auto run = RunLayer(layer, &store, x, setup.input, y_shape, dy);
  EXPECT_LT(Error(run.y, reference::ConvForward(x, other, b, {3, 1, 1}).values), kTolerance);
  EXPECT_LT(Error(run.dx, reference::ConvBackwardData(dy, other, x, {3, 1, 1}).values), kTolerance);
}

TEST_F(Layers, ReluIsFusedBehindConvolutionAndBias) {
  const Map x = Random(2, 16, 12, 12), w = Random(16, 16, 3, 3), dy = Random(2, 16, 12, 12);
  const auto b = RandomVector(16);
  Map right = reference::ConvForward(x, w, b, {3, 1, 1});
  reference::Relu(right);
  for (const auto requested : {ConvAlgorithm::kDirect, ConvAlgorithm::kWinograd}) {
    ConvSetup setup = Setup(2, 16, 16, 12, requested);
    setup.relu = true;
    const auto run = RunConv(setup, x, w, b, dy, ConvLayer::NativeWeights(engine_, setup)).run;
    EXPECT_LT(Error(run.y, right.values), kTolerance);
    EXPECT_GE(*std::min_element(run.y.begin(), run.y.end()), 0);
  }
}

TEST_F(Layers, MaxPoolEqualsTheNaiveLoopsOnEvenAndOddMaps) {
  for (const int side : {8, 7, 3, 2}) {
    const Map x = Random(3, 32, side, side), shape = reference::PoolForward(x, {2, 2, 0}), dy = Random(3, 32, side / 2, side / 2);
    PoolLayer layer(engine_, {.input = Blocked(x), .out_height = side / 2, .out_width = side / 2, .training = true});
    const auto run = RunLayer(layer, nullptr, x, Blocked(x), shape, dy);
    EXPECT_LT(Error(run.y, shape.values), kTolerance) << side;
    EXPECT_LT(Error(run.dx, reference::PoolBackward(dy, x, {2, 2, 0}).values), kTolerance) << side;
  }
}

TEST_F(Layers, FullyConnectedEqualsTheNaiveLoopsForAnyNumberOfOutputs) {
  for (const int batch : {1, 3, 32}) {
    for (const int outputs : {7, 20, 64, 1000}) {
      const Map x = Random(batch, 96, 1, 1), w = Random(outputs, 96, 1, 1, 0.1), dy = Random(batch, outputs, 1, 1);
      const auto b = RandomVector(outputs);
      const FcSetup setup{.batch = batch, .inputs = 96, .outputs = outputs, .training = true};
      CpuParameterStore store = MakeStore(FcLayer::NativeWeights(engine_, setup), {outputs, 96});
      SetWeights(store, w, b);
      FcLayer layer(engine_, store, 0, 1, setup);
      const memory::desc input({batch, 96}, memory::data_type::f32, memory::format_tag::nc);
      const auto run = RunLayer(layer, &store, x, input, dy, dy);
      EXPECT_LT(Error(run.y, reference::FcForward(x, w, b).values), kTolerance) << batch << " " << outputs;
      EXPECT_LT(Error(run.dx, reference::FcBackwardData(dy, w, x).values), kTolerance) << batch << " " << outputs;
      const auto right = reference::FcBackwardWeights(dy, x, w);
      EXPECT_LT(Error(run.dw, right.w.values), kTolerance) << batch << " " << outputs;
      EXPECT_LT(Error(run.db, right.b), kTolerance) << batch << " " << outputs;
    }
  }
}

TEST_F(Layers, FlatChannelBlockReadsDenseMapsAndRefusesOthers) {
  const Map map(2, 32, 3, 3), odd(2, 20, 3, 3);
  EXPECT_EQ(FlatChannelBlock(Plain(map)), 1);
  EXPECT_EQ(FlatChannelBlock(Blocked(map)), 16);
  EXPECT_EQ(FlatChannelBlock(Blocked(odd)), 0);  // padded to 32
  EXPECT_EQ(FlatChannelBlock({{2, 32, 3, 3}, memory::data_type::f32, memory::format_tag::nhwc}), 0);
}

TEST_F(Layers, CanonicalFormSurvivesEveryLayoutAndPaddingIsZero) {
  struct Case {
    memory::desc desc;
    std::vector<int64_t> shape;
    int block;
    int64_t area;
  };
  using Tag = memory::format_tag;
  const auto kFloat = memory::data_type::f32;
  for (const Case& c :
       {Case{{{32, 48, 3, 3}, kFloat, Tag::OIhw16i16o}, {32, 48, 3, 3}, 1, 1},
        Case{{{16, 3, 3, 3}, kFloat, Tag::Ohwi16o}, {16, 3, 3, 3}, 1, 1}, Case{{{20, 64}, kFloat, Tag::OI16i16o}, {20, 64}, 1, 1},
        Case{{{20, 288}, kFloat, Tag::OI16i16o}, {20, 288}, 16, 9}}) {
    CpuParameterStore store = MakeStore(c.desc, c.shape, c.block, c.area);
    std::vector<float> canonical(static_cast<size_t>(store.info(0).CanonicalCount()));
    for (size_t i = 0; i < canonical.size(); ++i) canonical[i] = static_cast<float>(i + 1);
    std::vector<float> native(store.weight(0).size(), -1.0F), back(canonical.size());
    store.FromCanonical(0, canonical, native);
    store.ToCanonical(0, native, back);
    EXPECT_EQ(back, canonical);
    std::sort(native.begin(), native.end());
    const auto zeros = static_cast<size_t>(std::count(native.begin(), native.end(), 0.0F));
    EXPECT_EQ(zeros, native.size() - canonical.size());
    EXPECT_TRUE(std::equal(canonical.begin(), canonical.end(), native.begin() + static_cast<int64_t>(zeros)));
  }
}

TEST_F(Layers, MaskGradientIsTheBackwardOfReluAndInvertedDropout) {
  const std::vector<float> output = {0, 1, 2, 0, 5}, start = {1, 2, 3, 4, -6};
  std::vector<float> gradient = start;
  EXPECT_TRUE(MaskGradient(output.data(), gradient.data(), gradient.size(), 2, 2));
  EXPECT_EQ(gradient, (std::vector<float>{0, 4, 6, 0, -12}));
  gradient[3] = NAN;  // masked, yet told
  EXPECT_FALSE(MaskGradient(output.data(), gradient.data(), gradient.size(), 2, 2));
}

TEST_F(Layers, AllFiniteSeesOneBadValueAnywhere) {
  std::vector<float> values(1000, 3e38F);
  EXPECT_TRUE(AllFinite(values.data(), values.size(), 2));
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    for (const size_t at : {size_t{0}, size_t{499}, size_t{999}}) {
      auto copy = values;
      copy[at] = bad;
      EXPECT_FALSE(AllFinite(copy.data(), copy.size(), 2));
    }
  }
}

}  // namespace
}  // namespace plateau
