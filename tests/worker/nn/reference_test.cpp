// The naive backward loops against finite differences of the naive forward loops, in double.
#include "worker/nn/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "common/random.h"

namespace plateau::reference {
namespace {

class ReferenceGradients : public testing::Test {
 protected:
  Map Random(int n, int c, int h, int w) {
    Map map(n, c, h, w);
    for (double& value : map.values) value = stream_.NextNormal();
    return map;
  }
  std::vector<double> RandomVector(int count) {
    std::vector<double> values(static_cast<size_t>(count));
    for (double& value : values) value = stream_.NextNormal();
    return values;
  }
  RandomStream stream_{11, RandomPurpose::kSynthetic, 0, 0};
};

double Dot(const Map& a, const Map& b) {
  double sum = 0;
  for (size_t i = 0; i < a.values.size(); ++i) sum += a.values[i] * b.values[i];
  return sum;
}

// Central differences of `scalar` in every entry of `values`, compared as vectors: relative L2 below 1e-5.
void ExpectGradient(std::vector<double>& values, const std::vector<double>& gradient, const std::function<double()>& scalar) {
  constexpr double kStep = 1e-5;
  double difference = 0, size = 0;
  ASSERT_EQ(values.size(), gradient.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const double kept = values[i];
    values[i] = kept + kStep;
    const double above = scalar();
    values[i] = kept - kStep;
    const double below = scalar();
    values[i] = kept;
    const double numeric = (above - below) / (2 * kStep);
    difference += (numeric - gradient[i]) * (numeric - gradient[i]);
    size += numeric * numeric;
  }
  ASSERT_GT(size, 0);
  EXPECT_LT(std::sqrt(difference / size), 1e-5);
}

TEST_F(ReferenceGradients, Convolution) {
  for (const Window& window :
       {Window{3, 1, 1}, Window{1, 1, 0}, Window{3, 2, 1}, Window{5, 2, 0}, Window{1, 2, 0}, Window{7, 4, 2}}) {
    Map x = Random(2, 3, 7, 6), w = Random(4, 3, window.kernel, window.kernel);
    std::vector<double> b = RandomVector(4);
    const Map shape = ConvForward(x, w, b, window), dy = Random(shape.n, shape.c, shape.h, shape.w);
    const auto scalar = [&] { return Dot(ConvForward(x, w, b, window), dy); };
    ExpectGradient(x.values, ConvBackwardData(dy, w, x, window).values, scalar);
    const auto gradients = ConvBackwardWeights(dy, x, w, window);
    ExpectGradient(w.values, gradients.w.values, scalar);
    ExpectGradient(b, gradients.b, scalar);
  }
}

TEST_F(ReferenceGradients, MaxPool) {
  for (const Window& window : {Window{2, 2, 0}, Window{3, 2, 1}, Window{3, 2, 0, true}, Window{3, 1, 1}}) {
    Map x = Random(2, 3, 7, 6);
    const Map shape = PoolForward(x, window), dy = Random(shape.n, shape.c, shape.h, shape.w);
    ExpectGradient(x.values, PoolBackward(dy, x, window).values, [&] { return Dot(PoolForward(x, window), dy); });
  }
}

TEST_F(ReferenceGradients, AveragePool) {
  for (const Window& window : {Window{2, 2, 0}, Window{3, 2, 1}, Window{3, 2, 0, true}, Window{0, 1, 0}}) {
    Map x = Random(2, 3, 8, 6);
    const Map shape = AveragePoolForward(x, window), dy = Random(shape.n, shape.c, shape.h, shape.w);
    ExpectGradient(x.values, AveragePoolBackward(dy, x, window).values, [&] { return Dot(AveragePoolForward(x, window), dy); });
  }
}

TEST_F(ReferenceGradients, Lrn) {
  for (const LrnDef& lrn : {LrnDef{.alpha = 0.3}, LrnDef{.size = 3, .k = 1, .alpha = 0.5, .beta = 0.5}}) {
    Map x = Random(2, 7, 2, 3);
    const Map dy = Random(2, 7, 2, 3);
    ExpectGradient(x.values, LrnBackward(dy, x, lrn).values, [&] { return Dot(LrnForward(x, lrn), dy); });
  }
}

TEST_F(ReferenceGradients, BatchNormWithAPaddingRow) {
  Map x = Random(4, 3, 2, 3);
  auto scale = RandomVector(3), shift = RandomVector(3);
  Map dy = Random(4, 3, 2, 3);
  for (size_t i = 3 * 18; i < dy.values.size(); ++i) dy.values[i] = 0;  // the padding row's gradient
  const auto scalar = [&] { return Dot(BatchNormForward(x, scale, shift, BatchStatistics(x, 3), 1e-3), dy); };
  const auto gradients = BatchNormBackward(dy, x, scale, 3, 1e-3);
  ExpectGradient(x.values, gradients.x.values, scalar);
  ExpectGradient(scale, gradients.scale, scalar);
  ExpectGradient(shift, gradients.shift, scalar);
}

TEST_F(ReferenceGradients, ConcatAndAdd) {
  Map a = Random(2, 2, 3, 2), b = Random(2, 3, 3, 2), c = Random(2, 3, 3, 2);
  const Map wide = Random(2, 5, 3, 2), narrow = Random(2, 3, 3, 2);
  ExpectGradient(a.values, ConcatBackward(wide, a, 0).values, [&] { return Dot(Concat({&a, &b}), wide); });
  ExpectGradient(b.values, ConcatBackward(wide, b, 2).values, [&] { return Dot(Concat({&a, &b}), wide); });
  ExpectGradient(c.values, narrow.values, [&] { return Dot(Add({&b, &c}), narrow); });
}

TEST_F(ReferenceGradients, FullyConnected) {
  Map x = Random(3, 4, 2, 2), w = Random(5, 16, 1, 1);
  std::vector<double> b = RandomVector(5);
  const Map dy = Random(3, 5, 1, 1);
  const auto scalar = [&] { return Dot(FcForward(x, w, b), dy); };
  ExpectGradient(x.values, FcBackwardData(dy, w, x).values, scalar);
  const auto gradients = FcBackwardWeights(dy, x, w);
  ExpectGradient(w.values, gradients.w.values, scalar);
  ExpectGradient(b, gradients.b, scalar);
}

TEST_F(ReferenceGradients, ReluAndDropout) {
  Map x = Random(3, 20, 1, 1);
  const Map dy = Random(3, 20, 1, 1);
  const std::vector<uint64_t> index = {4, 900, 1};
  const auto forward = [&] {
    Map y = x;
    Relu(y);
    Dropout(y, 0.4, 2, 9, 5, index);
    return y;
  };
  Map gradient = dy, relu = x;
  Relu(relu);
  Dropout(gradient, 0.4, 2, 9, 5, index);
  ReluBackward(relu, gradient);
  ExpectGradient(x.values, gradient.values, [&] { return Dot(forward(), dy); });
}

TEST_F(ReferenceGradients, SoftmaxLossDividedByTheGlobalBatchWithAPaddingRow) {
  Map logits = Random(4, 6, 1, 1);
  const std::vector<int32_t> labels = {5, 0, 2, 3};
  const std::vector<float> weights = {1, 1, 0, 1};
  const auto gradient = SoftmaxLoss(logits, labels, weights, 8).gradient;
  ExpectGradient(logits.values, gradient.values, [&] { return SoftmaxLoss(logits, labels, weights, 8).loss / 8; });
}

// Convolution -> batch norm -> two branches that an add joins and a head reads -> concat with a normalised branch -> logits.
Network Branching() {
  using enum LayerKind;
  return {.name = "branching",
          .classes = 3,
          .channels = 2,
          .layers = {{.name = "conv", .inputs = {-1}, .out_channels = 3, .kernel = 3, .pad = 1, .bias = false},
                     {.kind = kBatchNorm, .name = "bn", .inputs = {0}, .relu = true},
                     {.name = "left", .inputs = {1}, .out_channels = 3, .kernel = 1},
                     {.kind = kAdd, .name = "add", .inputs = {2, 1}, .relu = true},
                     {.kind = kFullyConnected, .name = "aux", .inputs = {3}, .out_channels = 3, .auxiliary = 1},
                     {.kind = kLrn, .name = "lrn", .inputs = {1}, .lrn = {.alpha = 0.2}},
                     {.kind = kConcat, .name = "concat", .inputs = {3, 5, 3}},
                     {.kind = kMaxPool, .name = "pool", .inputs = {6}, .kernel = 3, .stride = 2, .ceil_mode = true},
                     {.kind = kAveragePool, .name = "mean", .inputs = {7}, .global = true, .dropout = 0.3},
                     {.kind = kFullyConnected, .name = "fc", .inputs = {8}, .out_channels = 5, .relu = true, .dropout = 0.3},
                     {.kind = kFullyConnected, .name = "out", .inputs = {9}, .out_channels = 3}},
          .auxiliary = {{.layer = 4, .loss_weight = 0.3}}};
}

TEST_F(ReferenceGradients, WholeNetworkWithAWeightedHeadAndAPaddingRow) {
  const Network network = Branching();
  Network head = network;  // the auxiliary classifier as a network of its own: it reads the same first parameters
  head.auxiliary.clear();
  head.layers.resize(5);
  head.layers[4].auxiliary = 0;
  const auto infos = ListParameters(network, *InferShapes(network, 6, 5));
  std::vector<std::vector<double>> parameters;
  for (const ParameterInfo& info : infos) parameters.push_back(RandomVector(static_cast<int>(info.CanonicalCount())));
  std::vector<float> images(4 * 2 * 6 * 5);
  for (float& value : images) value = static_cast<float>(stream_.NextNormal());
  const std::vector<int32_t> labels = {0, 2, 1, 0};
  const std::vector<float> weights = {1, 1, 1, 0};
  const std::vector<uint64_t> index = {10, 11, 12, 13};
  const LaneBatch lane{images, labels, weights, index};
  const auto run = [&](const Network& which) { return RunNetwork(which, parameters, lane, 6, 5, 6, true, 1, 2); };
  const auto scalar = [&] { return (run(network).loss + 0.3 * run(head).loss) / 6; };
  const auto result = run(network);
  for (size_t p = 0; p < parameters.size(); ++p) {
    SCOPED_TRACE(infos[p].name);
    if (infos[p].learned()) ExpectGradient(parameters[p], result.gradients[p], scalar);
  }
  EXPECT_EQ(RunNetwork(network, parameters, lane, 6, 5, 6, false, 1, 2).gradients.size(), 0u);
}

TEST(Reference, PoolTakesTheFirstOfEqualValues) {
  Map x(1, 1, 2, 2), dy(1, 1, 1, 1);
  x.values = {1, 3, 3, 3};
  dy.values = {5};
  EXPECT_EQ(PoolBackward(dy, x, {2, 2, 0}).values, (std::vector<double>{0, 5, 0, 0}));
}

}  // namespace
}  // namespace plateau::reference
