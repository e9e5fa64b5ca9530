// Counts top-1 and top-5, class by class where asked.
#include "worker/evaluate/counts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.h"

namespace plateau {
namespace {

constexpr int kTop = 5;

}  // namespace

void AddSoftmax(std::span<const float> scores, double weight, std::span<double> sum) {
  PLATEAU_CHECK(!scores.empty() && scores.size() == sum.size(), "{} scores, {} sums", scores.size(), sum.size());
  const double top = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (const float score : scores) total += std::exp(score - top);
  for (size_t c = 0; c < scores.size(); ++c) sum[c] += weight * std::exp(scores[c] - top) / total;
}

int ClassesBefore(std::span<const float> posterior, int label) {
  const auto own = static_cast<size_t>(label);
  int before = 0;
  for (size_t c = 0; c < posterior.size(); ++c)
    before += posterior[c] > posterior[own] || (posterior[c] == posterior[own] && c < own);
  return before;
}

int FirstChoice(std::span<const float> posterior) {
  return static_cast<int>(std::max_element(posterior.begin(), posterior.end()) - posterior.begin());
}

TestCounts::TestCounts(int classes, bool per_class) : classes_(classes) {
  if (!per_class) return;
  const auto count = static_cast<size_t>(classes);
  class_images_.resize(count);
  class_correct5_.resize(count);
  confusion_.resize(count * count);
}

void TestCounts::Add(std::span<const float> posterior, int label) {
  PLATEAU_CHECK(static_cast<int>(posterior.size()) == classes_ && label >= 0 && label < classes_, "{} values, label {}, {} classes",
                posterior.size(), label, classes_);
  const int before = ClassesBefore(posterior, label);
  const auto own = static_cast<size_t>(label);
  ++totals_[0];
  totals_[1] += before == 0;
  totals_[2] += before < kTop;
  loss_ -= std::log(std::max(posterior[own], std::numeric_limits<float>::min()));
  if (!per_class()) return;
  ++class_images_[own];
  class_correct5_[own] += before < kTop;
  ++confusion_[own * static_cast<size_t>(classes_) + static_cast<size_t>(FirstChoice(posterior))];
}

void TestCounts::Share(Collective& collective) {
  collective.AllReduceSum(std::span<int64_t>(totals_));
  collective.AllReduceSum(std::span<double>(&loss_, 1));
  if (!per_class()) return;
  for (auto* list : {&class_images_, &class_correct5_, &confusion_}) collective.AllReduceSum(std::span<int64_t>(*list));
}

}  // namespace plateau
