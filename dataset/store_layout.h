// Where a record lies: source ordinal <-> (shard, slot). The formula of dataset/FORMAT.md, "Location".
#pragma once

#include <cstdint>
#include <vector>

#include "common/random.h"
#include "dataset/manifest.h"

namespace plateau {

struct Location {
  uint64_t shard = 0;  // index into SplitInfo::shards
  uint64_t slot = 0;   // the key in it
  bool operator==(const Location&) const = default;
};

// A value; all methods are pure and thread-safe.
class StoreLayout {
 public:
  // `split_number` is the split's place in the manifest's list. sources >= 1, shards >= 1.
  StoreLayout(uint64_t store_seed, uint64_t split_number, uint64_t sources, uint64_t shards)
      : permutation_(store_seed, RandomPurpose::kStore, split_number, sources), shards_(shards) {}
  Location Of(uint64_t source_ordinal) const {
    const uint64_t position = permutation_(source_ordinal);
    return {position % shards_, position / shards_};
  }
  uint64_t SourceOrdinalAt(const Location& location) const {
    return permutation_.Inverse(location.slot * shards_ + location.shard);
  }
  // Slots of a shard, filled or rejected: keys are 0 .. Slots(shard) - 1.
  uint64_t Slots(uint64_t shard) const { return (permutation_.size() + shards_ - 1 - shard) / shards_; }

 private:
  Permutation permutation_;
  uint64_t shards_;
};

}  // namespace plateau
