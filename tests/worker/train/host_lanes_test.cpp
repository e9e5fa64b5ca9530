// Lanes of a rank on the CPU, chosen by what they are estimated to take.
#include "worker/train/host_lanes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <filesystem>
#include <fstream>

#include "tests/support/temp_folder.h"
#include "tests/support/thread_collective.h"
#include "worker/model/accounting.h"

namespace plateau {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr uint64_t kMiB = uint64_t{1} << 20, kGiB = uint64_t{1} << 30;

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

// A machine of 16 MiB, seen from a container whose control group is mounted at `groups`.
HostMemory SeenFrom(const std::string& groups) {
  HostMemory memory = ReadHostMemory(groups);
  memory.machine_bytes = 16 * kMiB;
  return memory;
}

void Limit(const std::string& folder, const std::string& file, const std::string& text) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/" + file) << text << "\n";
}

TEST(HostLanes, TheLimitOfAControlGroupIsReadInBothVersions) {
  const test::TempFolder folder;
  Limit(folder / "two", "memory.max", std::to_string(3 * kMiB));
  Limit(folder / "one/memory", "memory.limit_in_bytes", std::to_string(5 * kMiB));
  Limit(folder / "free", "memory.max", "max");
  Limit(folder / "free/memory", "memory.limit_in_bytes", "9223372036854771712");
  const HostMemory two = ReadHostMemory(folder / "two"), one = ReadHostMemory(folder / "one");
  EXPECT_EQ(two.group_bytes, 3 * kMiB);
  EXPECT_EQ(one.group_bytes, 5 * kMiB);
  EXPECT_NE(two.group, one.group);
  EXPECT_NE(two.group, "");
  for (const char* unlimited : {"free", "none"}) {
    EXPECT_EQ(ReadHostMemory(folder / unlimited).group_bytes, UINT64_MAX) << unlimited;
    EXPECT_EQ(ReadHostMemory(folder / unlimited).group, "") << unlimited;
  }
}

TEST(HostLanes, RanksShareALimitWithTheirOwnControlGroupAlone) {
  const test::TempFolder folder;
  for (int pod = 0; pod < 4; ++pod) Limit(folder / std::to_string(pod), "memory.max", std::to_string(2 * kMiB));
  const auto parts = [&](auto pod_of) {
    std::vector<uint64_t> parts(4);
    test::RunThreadRanks(4, [&](Collective& collective) {
      const int rank = collective.rank();
      parts[static_cast<size_t>(rank)] = PartOfMemory(collective, SeenFrom(folder / pod_of(rank)));
    });
    return parts;
  };
  EXPECT_THAT(parts([](int rank) { return std::to_string(rank); }), Each(2 * kMiB)) << "a pod each";
  EXPECT_THAT(parts([](int rank) { return std::to_string(rank / 2); }), Each(kMiB)) << "two in a pod";
  EXPECT_THAT(parts([](int) { return "nowhere"; }), Each(4 * kMiB)) << "of the machine";
  Limit(folder / "3", "memory.max", std::to_string(12 * kMiB));
  EXPECT_THAT(parts([](int rank) { return std::to_string(rank); }), ElementsAre(2 * kMiB, 2 * kMiB, 2 * kMiB, 4 * kMiB))
      << "a limit gives no more than the machine has";
}

}  // namespace
}  // namespace plateau
