// Packing of buffers by lifetime.
#include "worker/nn/memory_plan.h"

#include <gtest/gtest.h>

#include "common/random.h"

namespace plateau {
namespace {

TEST(MemoryPlan, BuffersThatNeverMeetShareBytes) {
  const std::vector<BufferUse> uses = {{kArenaAlignment * 2, 0, 1}, {kArenaAlignment * 2, 2, 3}};
  const auto plan = PackBuffers(uses);
  EXPECT_EQ(plan.total_bytes, kArenaAlignment * 2);
  EXPECT_EQ(plan.offsets[0], plan.offsets[1]);
}

TEST(MemoryPlan, AGapBetweenLivingBuffersIsFilled) {
  // Large, small and large live together; the small one dies, and another of its size takes its place.
  const std::vector<BufferUse> uses = {{kArenaAlignment * 4, 0, 9}, {kArenaAlignment, 0, 2}, {kArenaAlignment, 3, 9}};
  EXPECT_EQ(PackBuffers(uses).total_bytes, kArenaAlignment * 5);
}

TEST(MemoryPlan, LivingBuffersNeverOverlapAndThePlanIsBetweenThePeakAndTheSum) {
  RandomStream stream(1, RandomPurpose::kSynthetic, 0, 0);
  for (int round = 0; round < 200; ++round) {
    std::vector<BufferUse> uses(1 + stream.NextBelow(30));
    size_t sum = 0;
    for (BufferUse& use : uses) {
      use.first = static_cast<int>(stream.NextBelow(20));
      use.last = use.first + static_cast<int>(stream.NextBelow(10));
      use.bytes = 1 + stream.NextBelow(100000);
      sum += (use.bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    }
    const auto plan = PackBuffers(uses);
    EXPECT_LE(plan.total_bytes, sum);
    for (int moment = 0; moment < 30; ++moment) {
      size_t living = 0;
      for (const BufferUse& use : uses) living += use.first <= moment && moment <= use.last ? use.bytes : 0;
      EXPECT_GE(plan.total_bytes, living);
    }
    for (size_t a = 0; a < uses.size(); ++a) {
      EXPECT_EQ(plan.offsets[a] % kArenaAlignment, 0u);
      EXPECT_LE(plan.offsets[a] + uses[a].bytes, plan.total_bytes);
      for (size_t b = 0; b < a; ++b) {
        const bool together = uses[a].first <= uses[b].last && uses[b].first <= uses[a].last;
        const bool overlap = plan.offsets[a] < plan.offsets[b] + uses[b].bytes && plan.offsets[b] < plan.offsets[a] + uses[a].bytes;
        EXPECT_FALSE(together && overlap) << round << " " << a << " " << b;
      }
    }
  }
}

}  // namespace
}  // namespace plateau
