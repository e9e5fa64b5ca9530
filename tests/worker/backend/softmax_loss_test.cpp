// Loss, gradient and exact counts.
#include "worker/backend/cpu/softmax_loss.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/random.h"
#include "worker/nn/reference.h"

namespace plateau {
namespace {

struct Rows {
  std::vector<float> logits;
  std::vector<int32_t> labels;
  std::vector<float> weights;
  int classes;
};

struct Answer {
  LossSums sums;
  std::vector<float> gradient;
};

Answer RunLoss(const Rows& rows, int global_batch, int threads = 1) {
  Answer answer;
  answer.gradient.resize(rows.logits.size(), 99.0F);
  std::vector<double> scratch(rows.labels.size());
  answer.sums = SoftmaxLoss(rows.logits, rows.classes, rows.labels, rows.weights, global_batch, threads, scratch, answer.gradient);
  return answer;
}

Rows RandomRows(int batch, int classes) {
  RandomStream stream(5, RandomPurpose::kSynthetic, 0, 0);
  Rows rows{.classes = classes};
  for (int i = 0; i < batch * classes; ++i) rows.logits.push_back(static_cast<float>(3 * stream.NextNormal()));
  for (int n = 0; n < batch; ++n) rows.labels.push_back(static_cast<int32_t>(stream.NextBelow(static_cast<uint32_t>(classes))));
  rows.weights.assign(static_cast<size_t>(batch), 1.0F);
  return rows;
}

TEST(SoftmaxLoss, LossAndGradientEqualTheNaiveLoops) {
  const Rows rows = RandomRows(9, 1000);
  reference::Map logits(9, 1000, 1, 1);
  logits.values.assign(rows.logits.begin(), rows.logits.end());
  const auto right = reference::SoftmaxLoss(logits, rows.labels, rows.weights, 32);
  const auto ours = RunLoss(rows, 32, 2);
  EXPECT_NEAR(ours.sums.loss, right.loss, 1e-10 * right.loss);
  double difference = 0, size = 0;
  for (size_t i = 0; i < rows.logits.size(); ++i) {
    difference += std::pow(ours.gradient[i] - right.gradient.values[i], 2);
    size += std::pow(right.gradient.values[i], 2);
  }
  EXPECT_LT(std::sqrt(difference / size), 1e-6);
}

TEST(SoftmaxLoss, ThreadsChangeNoBit) {
  const Rows rows = RandomRows(33, 50);
  const auto one = RunLoss(rows, 33, 1), three = RunLoss(rows, 33, 3);
  EXPECT_EQ(one.sums.loss, three.sums.loss);
  EXPECT_EQ(one.gradient, three.gradient);
}

TEST(SoftmaxLoss, HugeLogitsDoNotOverflow) {
  const auto answer = RunLoss({{1e30F, -1e30F, 0, 3e38F, 0, 0}, {1, 0}, {1, 1}, 3}, 2);
  EXPECT_TRUE(std::isfinite(answer.sums.loss));
  EXPECT_GT(answer.sums.loss, 1e30);
}

TEST(SoftmaxLoss, TiesGoToTheLowerClass) {
  const std::vector<float> equal(8, 1.5F);
  for (int label = 0; label < 8; ++label) {
    const auto sums = RunLoss({equal, {label}, {1}, 8}, 1).sums;
    EXPECT_EQ(sums.top1_correct, label == 0) << label;
    EXPECT_EQ(sums.top5_correct, label < 5) << label;
  }
}

TEST(SoftmaxLoss, FewerThanFiveClassesAreAlwaysInTheTopFive) {
  EXPECT_EQ(RunLoss({{3, 2, 1}, {2}, {1}, 3}, 1).sums.top5_correct, 1);
}

TEST(SoftmaxLoss, PaddingRowsAddNothingEvenWithNonsenseInThem) {
  Rows rows = RandomRows(4, 10);
  const auto whole = RunLoss(rows, 4);
  Rows padded = rows;
  padded.logits.insert(padded.logits.end(), 10, NAN);
  padded.labels.push_back(-1);
  padded.weights.push_back(0);
  const auto answer = RunLoss(padded, 4);
  EXPECT_EQ(answer.sums.loss, whole.sums.loss);
  EXPECT_EQ(answer.sums.images, 4);
  EXPECT_EQ(answer.sums.top5_correct, whole.sums.top5_correct);
  for (int c = 0; c < 10; ++c) EXPECT_EQ(answer.gradient[40 + c], 0);
}

TEST(SoftmaxLoss, ANotFiniteRowMakesTheLossNotFiniteAndCountsAsWrong) {
  const auto sums = RunLoss({{NAN, 0, 1, 5, 0, 1}, {0, 0}, {1, 1}, 3}, 2).sums;
  EXPECT_FALSE(std::isfinite(sums.loss));
  EXPECT_EQ(sums.top1_correct, 1);
}

TEST(SoftmaxLoss, ALabelOutsideTheClassesIsAFailureThatSaysSo) {
  try {
    RunLoss({{0, 0, 0}, {3}, {1}, 3}, 1);
    FAIL() << "accepted label 3 of 3 classes";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), ErrorCode::kInvalidInput);
    EXPECT_NE(std::string(failure.what()).find("label 3"), std::string::npos);
  }
}

}  // namespace
}  // namespace plateau
