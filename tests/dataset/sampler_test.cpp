// The stream of samples: every record once an epoch, the same for any number of ranks, seekable.
#include "dataset/sampler.h"

#include <algorithm>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace plateau {
namespace {

TEST(Sampler, EveryRecordOncePerEpochWhateverTheBatch) {
  constexpr uint64_t kSize = 103;
  const Sampler sampler(9, kSize);
  for (uint64_t epoch = 0; epoch < 3; ++epoch) {
    std::set<uint64_t> seen;
    for (uint64_t position = epoch * kSize; position < (epoch + 1) * kSize; ++position) {
      const StreamSample sample = sampler.At(position);
      EXPECT_EQ(sample.epoch, epoch);
      EXPECT_LT(sample.dense, kSize);
      seen.insert(sample.dense);
    }
    EXPECT_EQ(seen.size(), kSize);
  }
}

TEST(Sampler, EpochsAndSeedsHaveOrdersOfTheirOwn) {
  const auto order = [](uint64_t seed, uint64_t epoch) {
    const Sampler sampler(seed, 200);
    std::vector<uint64_t> out;
    for (uint64_t i = 0; i < 200; ++i) out.push_back(sampler.At(epoch * 200 + i).dense);
    return out;
  };
  EXPECT_EQ(order(1, 0), order(1, 0));
  EXPECT_NE(order(1, 0), order(1, 1));
  EXPECT_NE(order(1, 0), order(2, 0));
  EXPECT_FALSE(std::is_sorted(order(1, 0).begin(), order(1, 0).end()));
}

// Written once from this code: a change here changes what every resumed job sees.
TEST(Sampler, TheOrderIsFixedForEver) {
  const Sampler sampler(1, 10000);
  std::vector<uint64_t> got;
  for (const uint64_t position : {0ULL, 1ULL, 9999ULL, 10000ULL, 123456789012ULL}) got.push_back(sampler.At(position).dense);
  EXPECT_EQ(got, (std::vector<uint64_t>{8055, 4265, 8102, 6537, 8282}));
}

TEST(RankRows, PartsAreBalancedAndCoverTheBatchInOrder) {
  for (const int batch : {1, 2, 7, 64, 256, 1000})
    for (const int world : {1, 2, 3, 4, 7, 16}) {
      int next = 0, smallest = batch, largest = 0;
      for (int rank = 0; rank < world; ++rank) {
        const RowRange rows = RankRows(batch, rank, world);
        EXPECT_EQ(rows.first, next);
        next = rows.last;
        smallest = std::min(smallest, rows.size());
        largest = std::max(largest, rows.size());
      }
      EXPECT_EQ(next, batch);
      EXPECT_LE(largest - smallest, 1);
    }
}

TEST(RankRows, AnyNumberOfRanksTogetherSeesTheSameSamplesOfAStep) {
  const Sampler sampler(3, 1000);
  constexpr uint64_t kBatch = 50, kStep = 19;
  std::vector<uint64_t> single;
  for (uint64_t i = 0; i < kBatch; ++i) single.push_back(sampler.At(kStep * kBatch + i).dense);
  for (const int world : {2, 3, 4, 8}) {
    std::vector<uint64_t> together;
    for (int rank = 0; rank < world; ++rank) {
      const RowRange rows = RankRows(kBatch, rank, world);
      for (int row = rows.first; row < rows.last; ++row)
        together.push_back(sampler.At(kStep * kBatch + static_cast<uint64_t>(row)).dense);
    }
    EXPECT_EQ(together, single) << world;
  }
}

}  // namespace
}  // namespace plateau
