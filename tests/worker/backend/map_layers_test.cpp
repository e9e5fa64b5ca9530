// Strided convolutions, pools over borders, normalisations and joins, forward and backward, against the naive loops: 1e-5 relative
// L2.
#include <algorithm>

#include "tests/worker/backend/layers_fixture.h"
#include "worker/backend/cpu/add_layer.h"
#include "worker/backend/cpu/batch_norm_layer.h"
#include "worker/backend/cpu/concat_layer.h"
#include "worker/backend/cpu/elementwise.h"
#include "worker/backend/cpu/fc_layer.h"
#include "worker/backend/cpu/lrn_layer.h"
#include "worker/backend/cpu/pool_layer.h"

namespace plateau {
namespace {

struct StridedCase {
  int in, out, side;
  reference::Window window;
  bool bias = true;
};
// First convolutions of the papers, projections, inception's branches, a fully connected layer as a convolution, LeNet's odd
// channels.
const StridedCase kStrided[] = {{3, 16, 23, {7, 2, 3}, false}, {3, 32, 31, {11, 4, 2}},       {3, 16, 27, {11, 4, 0}},
                                {1, 6, 28, {5, 1, 2}},         {6, 16, 14, {5, 1, 0}},        {16, 32, 14, {1, 2, 0}, false},
                                {16, 32, 14, {5, 1, 2}},       {24, 64, 9, {5, 1, 2}},        {16, 16, 9, {3, 2, 1}, false},
                                {32, 16, 7, {7, 1, 0}},        {32, 32, 6, {1, 1, 0}, false}, {16, 24, 8, {3, 1, 1}},
                                {64, 48, 13, {3, 1, 1}, false}};

TEST_F(Layers, ConvolutionsOfEveryKernelStrideAndBiasEqualTheNaiveLoops) {
  constexpr int kBatch = 3;
  for (const StridedCase& c : kStrided) {
    const Map x = Random(kBatch, c.in, c.side, c.side), w = Random(c.out, c.in, c.window.kernel, c.window.kernel, 0.1);
    const auto b = c.bias ? RandomVector(c.out) : std::vector<double>(static_cast<size_t>(c.out));
    const Map right_y = reference::ConvForward(x, w, b, c.window), dy = Random(kBatch, c.out, right_y.h, right_y.w);
    const ConvSetup setup{.shape = {kBatch, c.in, c.out, right_y.h, right_y.w, c.window.kernel, c.window.stride, c.window.pad},
                          .input = c.in <= 3 ? Plain(x) : Blocked(x),
                          .bias = c.bias,
                          .training = true,
                          .data_gradient = c.in > 3,
                          .has_avx512 = HasAvx512()};
    const auto run = RunConv(setup, x, w, b, dy, ConvLayer::NativeWeights(engine_, setup)).run;
    const std::string what =
        fmt::format("{}->{} @{} k{} s{} p{}", c.in, c.out, c.side, c.window.kernel, c.window.stride, c.window.pad);
    EXPECT_LT(Error(run.y, right_y.values), kTolerance) << what;
    if (setup.data_gradient) {
      EXPECT_LT(Error(run.dx, reference::ConvBackwardData(dy, w, x, c.window).values), kTolerance) << what;
    }
    const auto right = reference::ConvBackwardWeights(dy, x, w, c.window);
    EXPECT_LT(Error(run.dw, right.w.values), kTolerance) << what;
    if (c.bias) {
      EXPECT_LT(Error(run.db, right.b), kTolerance) << what;
    }
  }
}

// Whole blocks, a block half full, and plain.
const int kChannels[] = {32, 24, 6};

TEST_F(Layers, PoolsEqualTheNaiveLoopsAlsoWhereWindowsReachOverTheBorder) {
  const reference::Window windows[] = {{2, 2, 0},       {3, 2, 0}, {3, 2, 0, true}, {3, 2, 1},
                                       {3, 1, 1, true}, {3, 1, 1}, {2, 2, 0, true}, {5, 3, 0, true}};
  for (const reference::Window& window : windows) {
    for (const int side : {14, 8, 7, 5}) {
      for (const int channels : kChannels) {
        for (const bool average : {false, true}) {
          const Map x = Random(2, channels, side, side + 1);
          const Map right = average ? reference::AveragePoolForward(x, window) : reference::PoolForward(x, window);
          const Map dy = Random(2, channels, right.h, right.w);
          const memory::desc input = channels == 6 ? Plain(x) : Blocked(x);
          PoolLayer layer(engine_, {.input = input,
                                    .out_height = right.h,
                                    .out_width = right.w,
                                    .kernel_height = window.kernel,
                                    .kernel_width = window.kernel,
                                    .stride = window.stride,
                                    .pad = window.pad,
                                    .average = average,
                                    .training = true});
          const auto run = RunLayer(layer, nullptr, x, input, right, dy);
          const Map right_dx = average ? reference::AveragePoolBackward(dy, x, window) : reference::PoolBackward(dy, x, window);
          const std::string what = fmt::format("{} k{} s{} p{} ceil {} @{} x{}", average ? "average" : "max", window.kernel,
                                               window.stride, window.pad, window.ceil_mode, side, channels);
          EXPECT_LT(Error(run.y, right.values), kTolerance) << what;
          EXPECT_LT(Error(run.dx, right_dx.values), kTolerance) << what;
        }
      }
    }
  }
}

TEST_F(Layers, AGlobalAveragePoolIsTheMeanOfTheMap) {
  for (const int channels : kChannels) {
    const Map x = Random(3, channels, 7, 5), right = reference::AveragePoolForward(x, {0, 1, 0}), dy = Random(3, channels, 1, 1);
    const memory::desc input = channels == 6 ? Plain(x) : Blocked(x);
    PoolLayer layer(engine_, {.input = input,
                              .out_height = 1,
                              .out_width = 1,
                              .kernel_height = 7,
                              .kernel_width = 5,
                              .stride = 1,
                              .average = true,
                              .training = true});
    const auto run = RunLayer(layer, nullptr, x, input, right, dy);
    EXPECT_LT(Error(run.y, right.values), kTolerance) << channels;
    EXPECT_LT(Error(run.dx, reference::AveragePoolBackward(dy, x, {0, 1, 0}).values), kTolerance) << channels;
  }
}

TEST_F(Layers, LrnEqualsThePapersFormulaWithAlphaNotDividedByItsSize) {
  for (const LrnDef& lrn : {LrnDef{}, LrnDef{.size = 5, .k = 1, .alpha = 0.1, .beta = 0.75}}) {
    for (const int channels : {64, 96, 16, 24, 6}) {
      const Map x = Random(2, channels, 6, 5, 20), right = reference::LrnForward(x, lrn), dy = Random(2, channels, 6, 5);
      const memory::desc input = channels == 6 ? Plain(x) : Blocked(x);
      LrnLayer layer(engine_, {.input = input, .lrn = lrn, .training = true});
      const auto run = RunLayer(layer, nullptr, x, input, right, dy);
      EXPECT_LT(Error(run.y, right.values), kTolerance) << channels << " " << lrn.alpha;
      EXPECT_LT(Error(run.dx, reference::LrnBackward(dy, x, lrn).values), kTolerance) << channels << " " << lrn.alpha;
    }
  }
}

class BatchNorm : public Layers {
 protected:
  CpuParameterStore NormStore(int channels) {
    std::vector<ParameterInfo> infos;
    std::vector<NativeFormat> formats;
    for (const auto role :
         {ParameterRole::kScale, ParameterRole::kShift, ParameterRole::kRunningMean, ParameterRole::kRunningVariance}) {
      infos.push_back({.name = "bn", .shape = {channels}, .role = role});
      formats.push_back({.desc = {{channels}, memory::data_type::f32, memory::format_tag::x}});
    }
    return {engine_, 2, std::move(infos), formats};
  }
  void Set(CpuParameterStore& store, int parameter, const std::vector<double>& values) {
    const std::vector<float> floats(values.begin(), values.end());
    store.FromCanonical(parameter, floats, store.weight(parameter));
  }
};

TEST_F(BatchNorm, EqualsTheNaiveLoopsAndPaddingRowsStayOut) {
  constexpr int kBatch = 5;
  for (const int channels : kChannels) {
    for (const int rows : {kBatch, 3, 1}) {
      for (const bool relu : {false, true}) {
        Map x = Random(kBatch, channels, 4, 5, 3), dy = Random(kBatch, channels, 4, 5);
        for (double& value : x.values) value = static_cast<float>(value + 7);
        const auto scale = RandomVector(channels), shift = RandomVector(channels);
        CpuParameterStore store = NormStore(channels);
        Set(store, 0, scale);
        Set(store, 1, shift);
        const memory::desc input = channels == 6 ? Plain(x) : Blocked(x);
        BatchNormLayer layer(engine_, store, 0, {.input = input, .relu = relu, .training = true});
        layer.SetRows(rows);
        const auto run = RunLayer(layer, &store, x, input, x, dy);

        const auto statistics = reference::BatchStatistics(x, rows);
        Map right = reference::BatchNormForward(x, scale, shift, statistics, 1e-5), right_dy = dy;
        const size_t row = right.values.size() / kBatch;
        std::fill(right.values.begin() + static_cast<int64_t>(row) * rows, right.values.end(), 0);
        if (relu) reference::Relu(right), reference::ReluBackward(right, right_dy);
        const auto gradients = reference::BatchNormBackward(right_dy, x, scale, rows, 1e-5);
        const std::string what = fmt::format("{} channels, {} rows, relu {}", channels, rows, relu);
        EXPECT_LT(Error(run.y, right.values), kTolerance) << what;
        EXPECT_LT(Error(run.dx, gradients.x.values), kTolerance) << what;
        EXPECT_LT(Error(run.dw, gradients.scale), kTolerance) << what;
        EXPECT_LT(Error(run.db, gradients.shift), kTolerance) << what;
        auto variance = statistics.variance;
        for (double& value : variance) value *= static_cast<double>(statistics.count) / static_cast<double>(statistics.count - 1);
        EXPECT_LT(Error(Gradient(store, 2), statistics.mean), kTolerance) << what;
        EXPECT_LT(Error(Gradient(store, 3), variance), kTolerance) << what;
      }
    }
  }
}

TEST_F(BatchNorm, AnEvaluationPlanUsesTheRunningAverages) {
  for (const int channels : kChannels) {
    const Map x = Random(2, channels, 3, 3);
    const auto scale = RandomVector(channels), shift = RandomVector(channels), mean = RandomVector(channels);
    auto variance = RandomVector(channels);
    for (double& value : variance) value = static_cast<float>(value * value + 0.1);
    CpuParameterStore store = NormStore(channels);
    for (const auto& [parameter, values] : {std::pair{0, &scale}, {1, &shift}, {2, &mean}, {3, &variance}})
      Set(store, parameter, *values);
    Map right = reference::BatchNormForward(x, scale, shift, {mean, variance, 0}, 1e-3);
    reference::Relu(right);
    const memory::desc input = channels == 6 ? Plain(x) : Blocked(x);
    BatchNormLayer layer(engine_, store, 0, {.input = input, .epsilon = 1e-3, .relu = true, .training = false});
    auto in = ToLayout(x, input);
    std::vector<float> out(in.size());
    HugeBuffer scratchpad(std::max<size_t>(layer.scratchpad_bytes(), 1));
    layer.Bind({{in.data()}, out.data(), {nullptr}, nullptr, nullptr, scratchpad.data()});
    layer.Forward(dnnl_stream_);
    EXPECT_LT(Error(FromLayout(out, input, x), right.values), kTolerance) << channels;
  }
}

// Runs a layer of several inputs; the gradients that it leaves for itself to the output's buffer come back empty.
struct JoinRun {
  std::vector<float> y;
  std::vector<std::vector<float>> dx;
};
class Joins : public Layers {
 protected:
  JoinRun RunJoin(CpuLayer& layer, const std::vector<Map>& inputs, const std::vector<memory::desc>& descs, const Map& y_shape,
                  const Map& dy) {
    std::vector<std::vector<float>> in, gradients;
    LayerBuffers buffers;
    for (size_t i = 0; i < inputs.size(); ++i) {
      in.push_back(ToLayout(inputs[i], descs[i]));
      gradients.emplace_back(in.back().size());
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      buffers.inputs.push_back(in[i].data());
      buffers.input_gradients.push_back(layer.PassesGradient(static_cast<int>(i)) ? nullptr : gradients[i].data());
    }
    std::vector<float> out(layer.output().get_size() / sizeof(float)), gradient = ToLayout(dy, layer.output());
    HugeBuffer scratchpad(std::max<size_t>(layer.scratchpad_bytes(), 1));
    buffers.output = out.data();
    buffers.output_gradient = gradient.data();
    buffers.scratchpad = scratchpad.data();
    layer.Bind(buffers);
    layer.Forward(dnnl_stream_);
    layer.BackwardData(dnnl_stream_);
    JoinRun run{FromLayout(out, layer.output(), y_shape), {}};
    for (size_t i = 0; i < inputs.size(); ++i)
      run.dx.push_back(buffers.input_gradients[i] == nullptr ? std::vector<float>()
                                                             : FromLayout(gradients[i], descs[i], inputs[i]));
    return run;
  }
};

TEST_F(Joins, ConcatPutsChannelsBehindEachOtherInAnyLayout) {
  struct Case {
    std::vector<int> channels;
    std::vector<bool> blocked;
    int flat_block;
  };
  for (const Case& c : {Case{{16, 48, 32}, {true, true, true}, 16}, Case{{6, 10}, {false, false}, 1},
                        Case{{24, 16}, {true, true}, 1}, Case{{16, 32}, {true, false}, 1}, Case{{16}, {true}, 16}}) {
    std::vector<Map> inputs;
    std::vector<memory::desc> descs;
    std::vector<const Map*> pointers;
    for (size_t i = 0; i < c.channels.size(); ++i) {
      inputs.push_back(Random(2, c.channels[i], 3, 4));
      descs.push_back(c.blocked[i] ? Blocked(inputs[i]) : Plain(inputs[i]));
    }
    for (const Map& input : inputs) pointers.push_back(&input);
    const Map right = reference::Concat(pointers), dy = Random(2, right.c, 3, 4);
    ConcatLayer layer(engine_, {descs, true});
    EXPECT_EQ(FlatChannelBlock(layer.output()), c.flat_block);
    const auto run = RunJoin(layer, inputs, descs, right, dy);
    EXPECT_EQ(Error(run.y, right.values), 0);
    int first = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_EQ(Error(run.dx[i], reference::ConcatBackward(dy, inputs[i], first).values), 0) << i;
      first += inputs[i].c;
    }
  }
}

TEST_F(Joins, AddSumsMapsInAnyLayoutAndPassesItsGradientOn) {
  for (const bool relu : {false, true}) {
    const std::vector<Map> inputs = {Random(3, 32, 9, 7), Random(3, 32, 9, 7), Random(3, 32, 9, 7)};
    const std::vector<memory::desc> descs = {Blocked(inputs[0]), Plain(inputs[1]), Blocked(inputs[2])};
    Map right = reference::Add({&inputs[0], &inputs[1], &inputs[2]});
    if (relu) reference::Relu(right);
    const Map dy = Random(3, 32, 9, 7);
    AddLayer layer(engine_, {descs, relu, true, 2});
    const auto run = RunJoin(layer, inputs, descs, right, dy);
    EXPECT_LT(Error(run.y, right.values), 1e-6);
    EXPECT_TRUE(run.dx[0].empty() && run.dx[2].empty());
    EXPECT_EQ(Error(run.dx[1], dy.values), 0);
  }
}

TEST_F(Layers, CombinedGradientsAreSummedInOrderMaskedAndWatched) {
  constexpr size_t kCount = 10'007;
  const auto vector = [&] {
    const auto values = RandomVector(kCount);
    return std::vector<float>(values.begin(), values.end());
  };
  const auto a = vector(), b = vector(), c = vector(), output = vector();
  for (const bool in_place : {false, true}) {
    for (const bool masked : {false, true}) {
      auto target = in_place ? b : std::vector<float>(kCount);
      const float* parts[] = {a.data(), in_place ? target.data() : b.data(), c.data()};
      EXPECT_TRUE(CombineGradients(parts, masked ? output.data() : nullptr, target.data(), kCount, masked ? 2.0F : 1.0F, 2));
      for (size_t i = 0; i < kCount; ++i) {
        const float sum = a[i] + b[i] + c[i];
        ASSERT_EQ(target[i], !masked ? sum : output[i] > 0 ? 2 * sum : 0.0F) << i;
      }
    }
  }
  for (const size_t at : {size_t{0}, size_t{5000}, kCount - 1}) {
    auto bad = c;
    bad[at] = NAN;
    std::vector<float> sum(kCount);
    const float* parts[] = {a.data(), bad.data()};
    EXPECT_FALSE(CombineGradients(parts, nullptr, sum.data(), kCount, 1, 2));
    EXPECT_FALSE(CombineGradients(parts, output.data(), sum.data(), kCount, 1, 2));
  }
}

TEST_F(Layers, AddKeepsWhatIsNotANumberBehindItsRelu) {
  const std::vector<float> a = {1, -2, NAN, INFINITY, -INFINITY}, b = {2, 1, 1, 1, 1};
  const float* inputs[] = {a.data(), b.data()};
  std::vector<float> sum(a.size());
  AddMaps(inputs, sum.data(), sum.size(), true, 2);
  EXPECT_EQ(sum[0], 3);
  EXPECT_EQ(sum[1], 0);
  EXPECT_TRUE(std::isnan(sum[2]));
  EXPECT_EQ(sum[3], INFINITY);
  EXPECT_EQ(sum[4], 0);
}

}  // namespace
}  // namespace plateau
