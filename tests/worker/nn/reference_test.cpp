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
  for (const Window& window : {Window{3, 1, 1}, Window{1, 1, 0}, Window{3, 2, 1}, Window{5, 2, 0}}) {
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
  for (const Window& window : {Window{2, 2, 0}, Window{3, 2, 1}}) {
    Map x = Random(2, 3, 7, 6);
    const Map shape = PoolForward(x, window), dy = Random(shape.n, shape.c, shape.h, shape.w);
    ExpectGradient(x.values, PoolBackward(dy, x, window).values, [&] { return Dot(PoolForward(x, window), dy); });
  }
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

TEST_F(ReferenceGradients, WholeChain) {
  const Network network{
      .name = "tiny",
      .classes = 3,
      .channels = 2,
      .layers = {{.name = "conv", .inputs = {-1}, .out_channels = 3, .kernel = 3, .pad = 1, .relu = true},
                 {.kind = LayerKind::kMaxPool, .name = "pool", .inputs = {0}, .kernel = 2, .stride = 2},
                 {.kind = LayerKind::kFullyConnected, .name = "fc", .inputs = {1}, .out_channels = 5, .relu = true, .dropout = 0.3},
                 {.kind = LayerKind::kFullyConnected, .name = "out", .inputs = {2}, .out_channels = 3}}};
  std::vector<std::vector<double>> parameters;
  for (const ParameterInfo& info : ListParameters(network, *InferShapes(network, 5, 4))) {
    parameters.push_back(RandomVector(static_cast<int>(info.CanonicalCount())));
  }
  std::vector<float> images(3 * 2 * 5 * 4);
  for (float& value : images) value = static_cast<float>(stream_.NextNormal());
  const std::vector<int32_t> labels = {0, 2, 1};
  const std::vector<float> weights = {1, 1, 1};
  const std::vector<uint64_t> index = {10, 11, 12};
  const LaneBatch lane{images, labels, weights, index};
  const auto run = [&] { return RunNetwork(network, parameters, lane, 5, 4, 3, true, 1, 2); };
  const auto result = run();
  for (size_t p = 0; p < parameters.size(); ++p) {
    ExpectGradient(parameters[p], result.gradients[p], [&] { return run().loss / 3; });
  }
}

TEST(Reference, PoolTakesTheFirstOfEqualValues) {
  Map x(1, 1, 2, 2), dy(1, 1, 1, 1);
  x.values = {1, 3, 3, 3};
  dy.values = {5};
  EXPECT_EQ(PoolBackward(dy, x, {2, 2, 0}).values, (std::vector<double>{0, 5, 0, 0}));
}

}  // namespace
}  // namespace plateau::reference
