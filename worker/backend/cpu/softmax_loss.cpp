// Row-wise stable soft-max.
#include "worker/backend/cpu/softmax_loss.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace plateau {
namespace {

constexpr int kTop = 5;

// Classes that stand before `label`: larger logits, and equal ones of a lower index.
int ClassesBefore(const float* row, int classes, int label) {
  int before = 0;
  for (int c = 0; c < classes; ++c) before += row[c] > row[label] || (row[c] == row[label] && c < label);
  return before;
}

// -log softmax[label]; writes scale * (softmax - onehot) when asked.
double RowLoss(const float* row, int classes, int label, double scale, float* gradient) {
  const double top = *std::max_element(row, row + classes);
  double sum = 0;
  for (int c = 0; c < classes; ++c) sum += std::exp(row[c] - top);
  if (gradient != nullptr) {
    for (int c = 0; c < classes; ++c) gradient[c] = static_cast<float>(scale * std::exp(row[c] - top) / sum);
    gradient[label] = static_cast<float>(scale * (std::exp(row[label] - top) / sum - 1));
  }
  return std::log(sum) - (row[label] - top);
}

}  // namespace

LossSums SoftmaxLoss(std::span<const float> logits, int classes, std::span<const int32_t> labels, std::span<const float> weights,
                     int global_batch, int threads, std::span<double> row_losses, std::span<float> gradient, double loss_weight) {
  const auto batch = static_cast<int>(labels.size());
  PLATEAU_CHECK(static_cast<int>(weights.size()) == batch && static_cast<int>(logits.size()) == batch * classes && global_batch > 0,
                "{} labels, {} weights, {} logits, global batch {}", batch, weights.size(), logits.size(), global_batch);
  for (int n = 0; n < batch; ++n) {
    if (weights[n] > 0 && (labels[n] < 0 || labels[n] >= classes)) {
      throw Failure(ErrorCode::kInvalidInput,
                    fmt::format("row {} of the batch has label {}, the network has {} classes: the model does not fit the data set",
                                n, labels[n], classes));
    }
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int n = 0; n < batch; ++n) {
    float* row_gradient = gradient.empty() ? nullptr : gradient.data() + int64_t{n} * classes;
    row_losses[n] = 0;
    if (weights[n] > 0) {
      row_losses[n] =
          RowLoss(logits.data() + int64_t{n} * classes, classes, labels[n], loss_weight * weights[n] / global_batch, row_gradient);
    } else if (row_gradient != nullptr) {
      std::fill_n(row_gradient, classes, 0.0F);
    }
  }
  LossSums sums;
  for (int n = 0; n < batch; ++n) {
    if (!(weights[n] > 0)) continue;
    ++sums.images;
    sums.loss += row_losses[n];
    if (!std::isfinite(row_losses[n])) continue;
    const int before = ClassesBefore(logits.data() + int64_t{n} * classes, classes, labels[n]);
    sums.top1_correct += before == 0;
    sums.top5_correct += before < kTop;
  }
  return sums;
}

}  // namespace plateau
