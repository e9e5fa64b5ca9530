// Philox against the published known answers, and the permutation's promises.
#include "common/random.h"

#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace plateau {
namespace {

// Known answers of Random123 (kat_vectors, philox4x32 10 rounds).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, DifferentPurposesTimesAndIndicesDiffer) {
  std::set<uint32_t> words;
  for (const auto purpose : {RandomPurpose::kCrop, RandomPurpose::kFlip})
    for (uint64_t time = 0; time < 4; ++time)
      for (uint64_t index = 0; index < 4; ++index) words.insert(RandomStream(7, purpose, time, index).NextWord());
  EXPECT_EQ(words.size(), 32u);
}

TEST(RandomStream, NormalHasUnitVariance) {
  RandomStream stream(1, RandomPurpose::kInit, 0, 0);
  double sum = 0, squares = 0;
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.NextNormal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.015);
  EXPECT_NEAR(squares / kDraws, 1.0, 0.02);
}

TEST(Permutation, IsABijectionAndItsInverseUndoesIt) {
  for (const uint64_t size : {1ULL, 2ULL, 3ULL, 17ULL, 64ULL, 1000ULL, 4097ULL}) {
    const Permutation permutation(5, RandomPurpose::kShuffle, 3, size);
    std::vector<bool> seen(size, false);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t image = permutation(i);
      ASSERT_LT(image, size);
      EXPECT_FALSE(seen[image]);
      seen[image] = true;
      EXPECT_EQ(permutation.Inverse(image), i);
    }
  }
}

TEST(Permutation, EpochsAndSeedsDiffer) {
  const Permutation a(5, RandomPurpose::kShuffle, 0, 1000), b(5, RandomPurpose::kShuffle, 1, 1000), c(6, RandomPurpose::kShuffle, 0, 1000);
  int same_ab = 0, same_ac = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    same_ab += a(i) == b(i);
    same_ac += a(i) == c(i);
  }
  EXPECT_LT(same_ab, 10);
  EXPECT_LT(same_ac, 10);
}

}  // namespace
}  // namespace plateau
