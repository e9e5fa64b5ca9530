// Multinomial logistic regression: loss, its gradient and exact top-1 and top-5 counts, in double sums.
#pragma once

#include <cstdint>
#include <span>

#include "worker/nn/plan.h"

namespace plateau {

// logits [N, classes]; labels, weights [N]. `row_losses` is scratch of N doubles. Rows are summed in order, so that the number of
// threads changes nothing. A non-empty `gradient` [N, classes] becomes loss_weight * weight * (softmax - onehot) / global_batch. A
// row whose loss is not finite counts as wrong. Throws Failure for a label outside [0, classes) on a row of weight above 0.
LossSums SoftmaxLoss(std::span<const float> logits, int classes, std::span<const int32_t> labels, std::span<const float> weights,
                     int global_batch, int threads, std::span<double> row_losses, std::span<float> gradient,
                     double loss_weight = 1);

}  // namespace plateau
