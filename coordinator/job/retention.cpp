// Newest, best and current stay; the rest goes.
#include "coordinator/job/retention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace plateau {

Retention Retain(std::vector<CheckpointRecord> checkpoints, const CheckpointRecord& newest, int keep_last, int keep_best) {
  Retention result;
  std::erase_if(checkpoints, [&](const CheckpointRecord& old) {
    const bool given_up = old.step >= newest.step;
    if (given_up && old.path != newest.path) result.removed.push_back(old.path);
    return given_up;
  });
  checkpoints.push_back(newest);

  const size_t count = checkpoints.size();
  std::vector<bool> keep(count, false);
  keep[count - 1] = true;
  const auto last = static_cast<size_t>(std::max(keep_last, 1));
  for (size_t i = count - std::min(count, last); i < count; ++i) keep[i] = true;
  std::vector<size_t> validated;
  for (size_t i = 0; i < count; ++i)
    if (checkpoints[i].validation > 0) validated.push_back(i);
  const auto rank_by = [&](size_t i) {
    return std::isnan(checkpoints[i].metric) ? std::numeric_limits<double>::infinity() : checkpoints[i].metric;
  };
  std::stable_sort(validated.begin(), validated.end(), [&](size_t a, size_t b) { return rank_by(a) < rank_by(b); });
  for (size_t i = 0; i < std::min(validated.size(), static_cast<size_t>(std::max(keep_best, 0))); ++i) keep[validated[i]] = true;

  for (size_t i = 0; i < count; ++i) {
    if (keep[i])
      result.kept.push_back(checkpoints[i]);
    else
      result.removed.push_back(checkpoints[i].path);
  }
  return result;
}

}  // namespace plateau
