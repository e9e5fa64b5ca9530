// Lanes of a rank on the CPU, chosen by what they are estimated to take.
#include "worker/train/host_lanes.h"

#include <gtest/gtest.h>

#include <bit>

#include "worker/model/accounting.h"

namespace plateau {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

Network VggD() { return *MakeNetwork("vgg-d", {}); }

uint64_t Estimate(const Network& network, int rows, int lanes) {
  const auto costs = *CountCosts(network, 224, 224);
  const auto memory = EstimateTrainingMemory(network, costs, 224, 224, (rows + lanes - 1) / lanes, SummaryPrecision::kFp32);
  const int64_t sums = int64_t{std::bit_width(static_cast<unsigned>(lanes - 1))} * 4 * SumCosts(network, costs).params_with_aux();
  return static_cast<uint64_t>(memory.total() + sums);
}

TEST(HostLanes, ARankThatFitsIsNotCut) {
  EXPECT_EQ(*HostLaneRows(VggD(), 224, 32, 64 * kGiB), 32);
  EXPECT_EQ(*HostLaneRows(VggD(), 224, 1, kGiB), 1);
}

TEST(HostLanes, OtherwiseAsFewLanesAsDo) {
  const Network network = VggD();
  for (const uint64_t gib : {6, 9, 12}) {
    const int lane_rows = *HostLaneRows(network, 224, 256, gib * kGiB);
    ASSERT_LT(lane_rows, 256);
    const int lanes = (256 + lane_rows - 1) / lane_rows;
    EXPECT_LE(Estimate(network, 256, lanes), gib * kGiB) << lanes;
    for (int fewer = 1; fewer < lanes; ++fewer) EXPECT_GT(Estimate(network, 256, fewer), gib * kGiB) << fewer;
  }
}

TEST(HostLanes, WhereNoneDoTheLeastAreTaken) {
  const int lane_rows = *HostLaneRows(VggD(), 224, 64, kGiB);
  const uint64_t taken = Estimate(VggD(), 64, (64 + lane_rows - 1) / lane_rows);
  for (int lanes = 1; lanes <= 64; ++lanes) EXPECT_LE(taken, Estimate(VggD(), 64, lanes)) << lanes;
}

TEST(HostLanes, ARunThatGoesOnIsCutAsItWasWhereThatFits) {
  constexpr int kRows = 25;
  for (const int all : {0, kRows, kRows + 7}) {
    EXPECT_EQ(LargestLane(-1, all, kRows), 0) << "nothing on record, all at once fits";
    EXPECT_EQ(LargestLane(0, all, kRows), 0);
    EXPECT_EQ(LargestLane(kRows, all, kRows), 0);
    EXPECT_EQ(LargestLane(12, all, kRows), 12) << "more would fit by now";
  }
  EXPECT_EQ(LargestLane(-1, 9, kRows), 9);
  EXPECT_EQ(LargestLane(12, 13, kRows), 12);
  EXPECT_EQ(LargestLane(13, 13, kRows), 13);
  EXPECT_EQ(LargestLane(13, 12, kRows), 12) << "it no longer fits";
  EXPECT_EQ(LargestLane(0, 12, kRows), 12);
}

TEST(HostLanes, AMachineHasMemory) {
  EXPECT_GT(MachineMemoryBytes(), uint64_t{64} << 20);
  EXPECT_LT(MachineMemoryBytes(), uint64_t{1} << 50);
}

}  // namespace
}  // namespace plateau
