// Every compiled operator, forward and backward, against the naive loops in double: 1e-5 relative L2.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "common/random.h"
#include "worker/backend/cpu/conv_layer.h"
#include "worker/backend/cpu/elementwise.h"
#include "worker/backend/cpu/fc_layer.h"
#include "worker/backend/cpu/pool_layer.h"
#include "worker/nn/reference.h"

namespace plateau {
namespace {

using dnnl::memory;
using reference::Map;
constexpr double kTolerance = 1e-5;

class Layers : public testing::Test {
 protected:
  Layers() { omp_set_num_threads(2); }

  // Values that float32 holds exactly, so that both sides compute with the same numbers.
  Map Random(int n, int c, int h, int w, double sigma = 1) {
    Map map(n, c, h, w);
    for (double& value : map.values) value = static_cast<float>(sigma * stream_.NextNormal());
    return map;
  }
  std::vector<double> RandomVector(int count) { return Random(1, count, 1, 1).values; }

  memory::desc Plain(const Map& map) const {
    return {{map.n, map.c, map.h, map.w}, memory::data_type::f32, memory::format_tag::nchw};
  }
  memory::desc Blocked(const Map& map) const {
    return {{map.n, map.c, map.h, map.w}, memory::data_type::f32, memory::format_tag::nChw16c};
  }

  std::vector<float> ToLayout(const Map& map, const memory::desc& desc) {
    std::vector<float> plain(map.values.begin(), map.values.end()), values(desc.get_size() / sizeof(float));
    if (desc.dims().size() == 2) return plain;
    memory from(Plain(map), engine_, plain.data()), to(desc, engine_, values.data());
    dnnl::reorder(from, to).execute(dnnl_stream_, from, to);
    dnnl_stream_.wait();
    return values;
  }
  std::vector<float> FromLayout(std::vector<float> values, const memory::desc& desc, const Map& shape) {
    if (desc.dims().size() == 2) return values;
    std::vector<float> plain(shape.values.size());
    memory from(desc, engine_, values.data()), to(Plain(shape), engine_, plain.data());
    dnnl::reorder(from, to).execute(dnnl_stream_, from, to);
    dnnl_stream_.wait();
    return plain;
  }

  static double Error(std::span<const float> actual, const std::vector<double>& expected) {
    EXPECT_EQ(actual.size(), expected.size());
    double difference = 0, size = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
      size += expected[i] * expected[i];
    }
    EXPECT_GT(size, 0);
    return std::sqrt(difference / size);
  }

  CpuParameterStore MakeStore(const memory::desc& weights, std::vector<int64_t> shape, int channel_block = 1, int64_t area = 1) {
    const int64_t outputs = shape[0];
    std::vector<ParameterInfo> infos = {{.name = "w", .shape = std::move(shape)},
                                        {.name = "b", .shape = {outputs}, .role = ParameterRole::kBias}};
    const memory::desc bias({outputs}, memory::data_type::f32, memory::format_tag::x);
    return {engine_, 2, std::move(infos), {{weights, channel_block, area}, {bias, 1, 1}}};
  }
  static void SetWeights(CpuParameterStore& store, const Map& w, const std::vector<double>& b) {
    const std::vector<float> weights(w.values.begin(), w.values.end()), biases(b.begin(), b.end());
    store.FromCanonical(0, weights, store.weight(0));
    store.FromCanonical(1, biases, store.weight(1));
    store.WeightsChanged();
  }
  static std::vector<float> Gradient(CpuParameterStore& store, int parameter) {
    std::vector<float> values(static_cast<size_t>(store.info(parameter).CanonicalCount()));
    store.ToCanonical(parameter, store.gradient(parameter), values);
    return values;
  }

  struct LayerRun {
    std::vector<float> y, dx, dw, db;
  };
  LayerRun RunLayer(CpuLayer& layer, CpuParameterStore* store, const Map& x, const memory::desc& input, const Map& y_shape,
                    const Map& dy) {
    std::vector<float> in = ToLayout(x, input), out(layer.output().get_size() / sizeof(float)),
                       gradient = ToLayout(dy, layer.output()), in_gradient(in.size());
    HugeBuffer scratchpad(std::max<size_t>(layer.scratchpad_bytes(), 1)), workspace(std::max<size_t>(layer.workspace_bytes(), 1));
    layer.Bind({in.data(), out.data(), in_gradient.data(), gradient.data(), workspace.data(), scratchpad.data()});
    layer.Forward(dnnl_stream_);
    layer.BackwardData(dnnl_stream_);
    layer.BackwardWeights(dnnl_stream_);
    LayerRun run{FromLayout(out, layer.output(), y_shape), FromLayout(in_gradient, input, x), {}, {}};
    if (store != nullptr) run.dw = Gradient(*store, 0), run.db = Gradient(*store, 1);
    return run;
  }

  struct ConvRun {
    LayerRun run;
    std::vector<std::string> algorithms;
  };
  ConvRun RunConv(const ConvSetup& setup, const Map& x, const Map& w, const std::vector<double>& b, const Map& dy,
                  const memory::desc& native) {
    CpuParameterStore store = MakeStore(native, {w.n, w.c, w.h, w.w});
    SetWeights(store, w, b);
    ConvLayer layer(engine_, store, 0, 1, setup);
    const Map y(setup.shape.batch, setup.shape.out_channels, setup.shape.height, setup.shape.width);
    return {RunLayer(layer, &store, x, setup.input, y, dy), layer.algorithms()};
  }

  ConvSetup Setup(int batch, int in, int out, int side, ConvAlgorithm requested, int kernel = 3) {
    const Map x(batch, in, side, side);
    return {.shape = {batch, in, out, side, side, kernel, 1, kernel / 2},
            .input = in % 16 == 0 ? Blocked(x) : Plain(x),
            .training = true,
            .data_gradient = in % 16 == 0,
            .requested = requested,
            .has_avx512 = HasAvx512()};
  }
  static bool HasAvx512() {
    const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa()),
               wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
    return (isa & wanted) == wanted;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream dnnl_stream_{engine_};
  RandomStream stream_{21, RandomPurpose::kSynthetic, 0, 0};
};

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
