// The stream of samples and its cut into ranks.
#include "dataset/sampler.h"

#include "common/check.h"

namespace plateau {

StreamSample Sampler::At(uint64_t position) const {
  const uint64_t epoch = position / size_;
  return {epoch, Permutation(seed_, RandomPurpose::kShuffle, epoch, size_)(position % size_)};
}

RowRange RankRows(int global_batch, int rank, int world_size) {
  PLATEAU_CHECK(world_size >= 1 && rank >= 0 && rank < world_size, "rank {} of {}", rank, world_size);
  const auto edge = [&](int64_t r) { return static_cast<int>(global_batch * r / world_size); };
  return {edge(rank), edge(rank + 1)};
}

}  // namespace plateau
