// Soft-max, and exact counts of what was right.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/collective/collective.h"

namespace plateau {

// sum[c] += weight * softmax(scores)[c].
void AddSoftmax(std::span<const float> scores, double weight, std::span<double> sum);

// Classes that stand before `label`: larger values, and equal ones of a lower index. 0: the label is the first choice.
int ClassesBefore(std::span<const float> posterior, int label);
// The first choice: the largest value, of equal ones the lowest index.
int FirstChoice(std::span<const float> posterior);

// Exact sums over images.
class TestCounts {
 public:
  // per_class: counts by class and the confusion matrix (classes * classes values) as well.
  TestCounts(int classes, bool per_class);
  void Add(std::span<const float> posterior, int label);
  // Collective: the sums over all ranks, on every rank.
  void Share(Collective& collective);

  int classes() const { return classes_; }
  bool per_class() const { return !class_images_.empty(); }
  int64_t images() const { return totals_[0]; }
  int64_t correct1() const { return totals_[1]; }
  int64_t correct5() const { return totals_[2]; }
  // Fractions of the images; one rounding. 1 without images.
  double top1_error() const { return Error(correct1()); }
  double top5_error() const { return Error(correct5()); }
  double mean_loss() const { return images() > 0 ? loss_ / static_cast<double>(images()) : 0; }  // of -log posterior[label]
  // Of one class; only with per_class.
  int64_t class_images(int c) const { return class_images_[static_cast<size_t>(c)]; }
  int64_t class_correct1(int c) const { return confusion(c, c); }
  int64_t class_correct5(int c) const { return class_correct5_[static_cast<size_t>(c)]; }
  // Images of class `label` whose first choice was `choice`.
  int64_t confusion(int label, int choice) const { return confusion_[static_cast<size_t>(label) * classes_ + choice]; }

 private:
  double Error(int64_t correct) const {
    return images() > 0 ? static_cast<double>(images() - correct) / static_cast<double>(images()) : 1.0;
  }

  int classes_;
  std::vector<int64_t> totals_{0, 0, 0};
  double loss_ = 0;
  std::vector<int64_t> class_images_, class_correct5_, confusion_;
};

}  // namespace plateau
