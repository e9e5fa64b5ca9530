// The loss, its gradient and the counts against the reference and naive loops.
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/worker/backend/cuda/kernels_fixture.h"

namespace plateau::cuda {
namespace {

using reference::Map;

struct Rows {
  Map logits;
  std::vector<int32_t> labels;
  std::vector<float> weights;
};
Rows RandomRows(DataType type, int n, int classes) {
  Rows rows{RandomMap(type, n, classes, 1, 1), {}, std::vector<float>(static_cast<size_t>(n), 1.0F)};
  for (double& logit : rows.logits.values) logit *= 4;  // exact in both types
  RandomStream stream(3, RandomPurpose::kSynthetic, 0, 0);
  for (int i = 0; i < n; ++i) rows.labels.push_back(static_cast<int32_t>(stream.NextBelow(static_cast<uint32_t>(classes))));
  return rows;
}

class SoftmaxTest : public KernelTest {
 protected:
  struct Answer {
    DeviceLoss loss;
    Map gradient;
    std::vector<uint8_t> bytes;
  };
  Answer Run(const Rows& rows, float scale, const DeviceLoss& before = {}) {
    const int n = rows.logits.n;
    const auto logits = Upload(rows.logits), gradient = Fresh(n, rows.logits.c, 1, 1);
    const auto labels = Upload(rows.labels);
    const auto weights = Upload(rows.weights);
    const DeviceArray<RowLoss> scratch(stream(), n);
    const DeviceArray<DeviceLoss> loss(stream(), std::vector<DeviceLoss>{before});
    SoftmaxLoss(queue(), logits, labels.data(), weights.data(), scale, gradient, scratch.data(), loss.data());
    return {loss.ReadOne(), gradient.Read(), gradient.Bytes()};
  }
};
PLATEAU_BOTH_TYPES(SoftmaxTest);

// Rows by the definition: a label counts when fewer than `top` classes beat it, equal ones of a lower index included.
int64_t Correct(const Rows& rows, int top) {
  int64_t correct = 0;
  for (int n = 0; n < rows.logits.n; ++n) {
    std::vector<int> order(static_cast<size_t>(rows.logits.c));
    for (size_t c = 0; c < order.size(); ++c) order[c] = static_cast<int>(c);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return rows.logits.at(n, a, 0, 0) > rows.logits.at(n, b, 0, 0); });
    const auto place = std::find(order.begin(), order.end(), rows.labels[static_cast<size_t>(n)]) - order.begin();
    correct += rows.weights[static_cast<size_t>(n)] > 0 && place < top;
  }
  return correct;
}

TEST_P(SoftmaxTest, LossGradientAndCountsAreTheReferences) {
  for (const int classes : {2, 7, 10, 1000, 2500}) {
    Rows rows = RandomRows(type(), 19, classes);
    rows.weights[3] = rows.weights[17] = rows.weights[18] = 0;
    rows.labels[17] = -1;  // of a padding row nobody asks
    const float scale = 0.3F / 64;
    const Answer got = Run(rows, scale);
    rows.labels[17] = 0;
    const auto right = reference::SoftmaxLoss(rows.logits, rows.labels, rows.weights, 1);
    EXPECT_NEAR(got.loss.loss, right.loss, 1e-10 * right.loss) << classes;
    EXPECT_EQ(got.loss.images, 16);
    EXPECT_EQ(got.loss.top1_correct, Correct(rows, 1));
    EXPECT_EQ(got.loss.top5_correct, Correct(rows, 5));
    EXPECT_EQ(got.loss.nonfinite, 0);
    Map gradient = right.gradient;
    for (double& value : gradient.values) value *= scale;
    EXPECT_EQ(Differences(got.gradient.values, gradient.values, Bound(type()), 1e-40), "") << classes;
    EXPECT_EQ(Run(rows, scale).bytes, got.bytes);
  }
}

TEST_P(SoftmaxTest, TiesGoToTheLowerClass) {
  for (const int label : {0, 1, 4, 5, 6}) {
    Rows rows{Map(1, 7, 1, 1), {label}, {1}};  // all equal
    const Answer got = Run(rows, 1);
    EXPECT_EQ(got.loss.top1_correct, label == 0) << label;
    EXPECT_EQ(got.loss.top5_correct, label < 5) << label;
    EXPECT_NEAR(got.loss.loss, std::log(7), 1e-12);
  }
}

TEST_P(SoftmaxTest, HugeLogitsDoNotOverflow) {
  Rows rows{Map(2, 3, 1, 1), {1, 0}, {1, 1}};
  rows.logits.values = {3e38, -3e38, 0, 1e30, 1e30, -1e30};
  for (double& value : rows.logits.values) value = Rounded(static_cast<float>(value), type());
  const Answer got = Run(rows, 1);
  EXPECT_TRUE(std::isfinite(got.loss.loss));
  EXPECT_EQ(got.loss.nonfinite, 0);
  EXPECT_EQ(got.loss.top1_correct, 1);
  EXPECT_EQ(Differences(got.gradient.values, std::vector<double>{1, -1, 0, -0.5, 0.5, 0}, Bound(type())), "");
}

TEST_P(SoftmaxTest, NanAndInfiniteLogitsCountAsNonfiniteAndNeverAsCorrect) {
  for (const float bad : {kNan, kInfinity}) {
    for (const int at : {0, 2, 5}) {
      Rows rows = RandomRows(type(), 2, 6);
      rows.labels = {2, 2};
      rows.logits.at(1, at, 0, 0) = bad;
      const Answer got = Run(rows, 1);
      EXPECT_EQ(got.loss.nonfinite, 1) << bad << at;
      EXPECT_EQ(got.loss.images, 2);
      EXPECT_FALSE(std::isfinite(got.loss.loss));
      Rows first{Map(1, 6, 1, 1), {2}, {1}};
      std::copy_n(rows.logits.values.begin(), 6, first.logits.values.begin());
      EXPECT_EQ(got.loss.top1_correct, Correct(first, 1));
      EXPECT_EQ(got.loss.top5_correct, Correct(first, 5));
      rows.weights[1] = 0;  // a row that does not count brings nothing, its gradient is zero all the same
      const Answer padded = Run(rows, 1);
      EXPECT_EQ(padded.loss.nonfinite, 0);
      EXPECT_TRUE(std::isfinite(padded.loss.loss));
      for (int c = 0; c < 6; ++c) EXPECT_EQ(padded.gradient.at(1, c, 0, 0), 0);
    }
  }
}

TEST_P(SoftmaxTest, LabelWithoutClassMakesTheLossNan) {
  for (const int label : {-1, 6, 7, 1 << 20}) {  // 6 and 7 lie in the padding
    Rows rows = RandomRows(type(), 1, 6);
    rows.labels = {label};
    const Answer got = Run(rows, 1);
    EXPECT_EQ(got.loss.nonfinite, 1) << label;
    EXPECT_EQ(got.loss.top5_correct, 0);
  }
}

TEST_P(SoftmaxTest, LanesAddUpAndHeadsWithoutLossGiveTheSameGradient) {
  const Rows rows = RandomRows(type(), 5, 11);
  const Answer once = Run(rows, 0.125F), twice = Run(rows, 0.125F, once.loss);
  EXPECT_EQ(twice.loss.images, 10);
  EXPECT_DOUBLE_EQ(twice.loss.loss, 2 * once.loss.loss);
  EXPECT_EQ(twice.loss.top5_correct, 2 * once.loss.top5_correct);
  const auto logits = Upload(rows.logits), gradient = Fresh(5, 11, 1, 1);
  const auto labels = Upload(rows.labels);
  const auto weights = Upload(rows.weights);
  SoftmaxLoss(queue(), logits, labels.data(), weights.data(), 0.125F, gradient, nullptr, nullptr);
  EXPECT_EQ(gradient.Bytes(), once.bytes);
  gradient.Read();  // looks at the padding
}

TEST_P(SoftmaxTest, LossWithoutGradientIsTheSame) {
  const Rows rows = RandomRows(type(), 5, 11);
  const Answer right = Run(rows, 1);
  const auto logits = Upload(rows.logits);
  const auto labels = Upload(rows.labels);
  const auto weights = Upload(rows.weights);
  const DeviceArray<RowLoss> scratch(stream(), 5);
  const DeviceArray<DeviceLoss> loss(stream(), std::vector<DeviceLoss>{DeviceLoss{}});
  SoftmaxLoss(queue(), logits, labels.data(), weights.data(), 1, cuda::Map{}, scratch.data(), loss.data());
  EXPECT_EQ(loss.ReadOne().loss, right.loss.loss);
}

TEST_P(SoftmaxTest, LogitsComeOutDense) {
  const Map logits = RandomMap(type(), 5, 11, 1, 1);
  const DeviceArray<float> out(stream(), 55);
  LogitsToFloat(queue(), Upload(logits), out.data());
  EXPECT_EQ(Doubles(out.Read()), logits.values);
}

}  // namespace
}  // namespace plateau::cuda
