// The ring over real ranks: right sums, the same bits on every rank and in every run, many in flight.
#include "worker/collective/mpi.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "common/checksum.h"
#include "common/random.h"
#include "tests/support/mpirun.h"
#include "worker/collective/single.h"

namespace plateau {
namespace {

// What rank `rank` adds: values over many magnitudes, so that the order of a sum shows in its bits.
std::vector<float> Values(int rank, size_t count, uint64_t salt) {
  std::vector<float> values(count);
  RandomStream random(99 + salt, RandomPurpose::kInit, 0, static_cast<uint64_t>(rank));
  for (float& value : values) value = static_cast<float>(random.NextNormal() * std::pow(10.0, random.NextBelow(8)));
  return values;
}

#define RANK_CHECK(condition)                                                       \
  if (!(condition)) {                                                               \
    std::fprintf(stderr, "rank %d: %s does not hold\n", world->rank(), #condition); \
    world->Abort(7);                                                                \
  }

// Sums several buckets at once and checks them against double; every rank compares its bits with rank 0's and with a second run's.
int SumsAgree() {
  auto world = std::move(*StartMpiCollective());
  for (const size_t count : {size_t{1}, size_t{5}, size_t{1000}, size_t{300'001}}) {
    constexpr int kBuckets = 5;
    std::vector<std::vector<float>> first(kBuckets), second(kBuckets);
    for (auto* run : {&first, &second}) {
      std::vector<std::unique_ptr<PendingReduce>> pending;
      for (int b = 0; b < kBuckets; ++b) {
        (*run)[b] = Values(world->rank(), count, b);
        pending.push_back(world->StartAllReduceSum((*run)[b]));
        if (b == 2) pending[0]->Test();
      }
      for (auto& reduce : pending) reduce->Wait();
    }
    for (int b = 0; b < kBuckets; ++b) {
      RANK_CHECK(std::memcmp(first[b].data(), second[b].data(), count * sizeof(float)) == 0);
      std::vector<double> expected(count), magnitude(count);
      for (int rank = 0; rank < world->world_size(); ++rank) {
        const auto part = Values(rank, count, b);
        for (size_t i = 0; i < count; ++i) expected[i] += part[i], magnitude[i] += std::fabs(part[i]);
      }
      for (size_t i = 0; i < count; ++i) RANK_CHECK(std::fabs(first[b][i] - expected[i]) <= 1e-6 * magnitude[i]);
      const std::string_view bytes(reinterpret_cast<const char*>(first[b].data()), count * sizeof(float));
      RANK_CHECK(world->BroadcastText(ChecksumText(Checksum(bytes)), 0) == ChecksumText(Checksum(bytes)));
    }
  }
  world->Finish();
  return 0;
}
const test::RankFunction kSums("sums", SumsAgree);

int SmallValuesAreExact() {
  auto world = std::move(*StartMpiCollective());
  const int rank = world->rank(), size = world->world_size();
  std::vector<int64_t> counts{rank + 1, (int64_t{1} << 53) + rank};
  world->AllReduceSum(counts);
  RANK_CHECK(counts[0] == int64_t{size} * (size + 1) / 2);
  RANK_CHECK(counts[1] == size * (int64_t{1} << 53) + int64_t{size} * (size - 1) / 2);
  std::vector<double> sums{0.5 * rank};
  world->AllReduceSum(sums);
  RANK_CHECK(sums[0] == 0.25 * size * (size - 1));
  for (int root = 0; root < size; ++root)
    RANK_CHECK(world->BroadcastText(rank == root ? std::string(100, 'a' + root) : "ignored", root) == std::string(100, 'a' + root));
  RANK_CHECK(world->BroadcastText("", 0).empty());
  world->Barrier();
  world->Finish();
  return 0;
}
const test::RankFunction kSmall("small", SmallValuesAreExact);

int OneRankAborts() {
  auto world = std::move(*StartMpiCollective());
  if (world->rank() == 1) world->Abort(3);
  world->Barrier();  // never completes: the abort ends this rank too
  world->Barrier();
  return 0;
}
const test::RankFunction kAbort("abort", OneRankAborts);
const test::RunRankFunctionIfAsked kRun;

class Ranks : public ::testing::TestWithParam<int> {};
TEST_P(Ranks, SumsAreRightAndEveryRankHoldsTheSameBits) { EXPECT_EQ(test::RunRanks(GetParam(), "sums"), 0); }
TEST_P(Ranks, SmallSumsAreExactAndTextArrives) { EXPECT_EQ(test::RunRanks(GetParam(), "small"), 0); }
INSTANTIATE_TEST_SUITE_P(MpiCollective, Ranks, ::testing::Values(1, 2, 3, 4));

TEST(MpiCollective, AbortEndsEveryRankWithItsCode) { EXPECT_EQ(test::RunRanks(2, "abort"), 3); }

TEST(SingleCollective, SumsAreTheValuesThemselves) {
  SingleCollective world;
  std::vector<float> values{1, 2};
  auto pending = world.StartAllReduceSum(values);
  EXPECT_TRUE(pending->Test());
  EXPECT_EQ(values, (std::vector<float>{1, 2}));
  EXPECT_EQ(world.BroadcastText("x", 0), "x");
  EXPECT_EQ(world.world_size(), 1);
}

}  // namespace
}  // namespace plateau
