// Counting: ties, five best, class by class, and the soft-max that goes before.
#include "worker/evaluate/counts.h"

#include <cmath>

#include <gtest/gtest.h>

#include "worker/collective/single.h"

namespace plateau {
namespace {

TEST(Counts, TiesGoToTheLowerClassIndex) {
  const std::vector<float> tie{0.2F, 0.3F, 0.3F, 0.2F};
  EXPECT_EQ(ClassesBefore(tie, 1), 0);
  EXPECT_EQ(ClassesBefore(tie, 2), 1);
  EXPECT_EQ(ClassesBefore(tie, 0), 2);
  EXPECT_EQ(ClassesBefore(tie, 3), 3);
  EXPECT_EQ(FirstChoice(tie), 1);
}

TEST(Counts, TopFiveIsTheFirstFive) {
  TestCounts counts(7, false);
  const std::vector<float> falling{0.3F, 0.2F, 0.15F, 0.12F, 0.1F, 0.08F, 0.05F};
  for (int label = 0; label < 7; ++label) counts.Add(falling, label);
  EXPECT_EQ(counts.images(), 7);
  EXPECT_EQ(counts.correct1(), 1);
  EXPECT_EQ(counts.correct5(), 5);
  EXPECT_DOUBLE_EQ(counts.top1_error(), 6.0 / 7);
  EXPECT_DOUBLE_EQ(counts.top5_error(), 2.0 / 7);
}

TEST(Counts, ClassesAndConfusionsAddUp) {
  TestCounts counts(3, true);
  const std::vector<float> first{0.6F, 0.3F, 0.1F}, last{0.1F, 0.2F, 0.7F};
  counts.Add(first, 0);
  counts.Add(first, 1);
  counts.Add(last, 1);
  counts.Add(last, 2);
  counts.Add(last, 2);
  SingleCollective alone;
  counts.Share(alone);
  EXPECT_EQ(counts.class_images(1), 2);
  EXPECT_EQ(counts.class_correct1(1), 0);
  EXPECT_EQ(counts.class_correct1(2), 2);
  EXPECT_EQ(counts.class_correct5(1), 2);
  EXPECT_EQ(counts.confusion(1, 0), 1);
  EXPECT_EQ(counts.confusion(1, 2), 1);
  int64_t all = 0, right = 0;
  for (int label = 0; label < 3; ++label)
    for (int choice = 0; choice < 3; ++choice) {
      all += counts.confusion(label, choice);
      if (label == choice) right += counts.confusion(label, choice);
    }
  EXPECT_EQ(all, counts.images());
  EXPECT_EQ(right, counts.correct1());
  EXPECT_NEAR(counts.mean_loss(), -(std::log(0.6) + std::log(0.3) + std::log(0.2) + 2 * std::log(0.7)) / 5, 1e-6);
}

TEST(Counts, SoftmaxIsStableAndWeighed) {
  std::vector<double> sum(3, 1.0);
  AddSoftmax(std::vector<float>{1000, 1000, 990}, 0.5, sum);
  const double total = 2 + std::exp(-10.0);
  EXPECT_NEAR(sum[0], 1 + 0.5 / total, 1e-12);
  EXPECT_NEAR(sum[2], 1 + 0.5 * std::exp(-10.0) / total, 1e-12);
}

}  // namespace
}  // namespace plateau
