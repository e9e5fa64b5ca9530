// Which samples a step sees: a pure function of (seed, step), the same for any number of ranks.
#pragma once

#include <cstdint>

#include "common/random.h"

namespace plateau {

// Position in the endless stream of samples: epoch e's samples are positions [e*size, (e+1)*size), in the order
// Permutation(seed, kShuffle, e, size). A batch may span two epochs. O(1), no table.
struct StreamSample {
  uint64_t epoch = 0;
  uint64_t dense = 0;  // dense sample number, see SourceOrdinal()
};

class Sampler {
 public:
  Sampler(uint64_t seed, uint64_t size) : seed_(seed), size_(size) {}
  StreamSample At(uint64_t position) const;

 private:
  uint64_t seed_;
  uint64_t size_;
};

// Rows [first, last) of a global batch that rank `rank` of `world_size` computes: balanced, uneven splits allowed.
struct RowRange {
  int first = 0, last = 0;
  int size() const { return last - first; }
};
RowRange RankRows(int global_batch, int rank, int world_size);

}  // namespace plateau
