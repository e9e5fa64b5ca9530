// Faults of ranks and of the device inside a step, as the emulation can make them: who is named, and that nobody hangs.
#include <gmock/gmock.h>
#include <nccl.h>

#include "tests/support/cuda/emulation.h"
#include "tests/support/thread_collective.h"
#include "tests/worker/backend/cuda/trainer_fixture.h"
#include "worker/backend/cuda/nccl_group.h"

namespace plateau::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class TrainerFaults : public testing::Test {
 protected:
  void SetUp() override { emulated::Reset(); }
  void TearDown() override { emulated::Reset(); }
};

constexpr LaneShape kPart{.lanes = 1, .lane_rows = 3};

std::vector<StepResult> TrainPart(DeviceRank& device, const Recipe& r, int rank, uint64_t first, uint64_t last) {
  return Train(*device.trainer, [&](uint64_t step) { return RowsOf(BatchOf(r, step), 3 * rank, 3 * rank + 3, kPart); }, first, last);
}

TEST_F(TrainerFaults, AnAsynchronousErrorEndsEveryRanksStepAndNamesRankAndHost) {
  const Recipe r;
  std::vector<std::string> messages(2);
  const SharedChoices choices;
  test::RunThreadRanks(2, [&](Collective& collective) {
    const int rank = collective.rank();
    SharedChoices recorded = choices;
    DeviceRank device(r, kPart, collective, recorded, {.device = rank, .collective = CollectiveKind::kNccl});
    EXPECT_EQ(TrainPart(device, r, rank, 0, 3).size(), 3u);
    collective.Barrier();
    if (rank == 0) emulated::FailRank(1, ncclRemoteError);
    collective.Barrier();
    try {
      TrainPart(device, r, rank, 3, 6);
      ADD_FAILURE() << "rank " << rank << " did not notice";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code(), ErrorCode::kUnavailable);
      messages[static_cast<size_t>(rank)] = failure.what();
    }
    collective.Barrier();
  });
  for (int rank = 0; rank < 2; ++rank)
    EXPECT_THAT(messages[static_cast<size_t>(rank)], AllOf(HasSubstr(fmt::format("rank {} (host ", rank)), HasSubstr("NCCL")));
}

TEST_F(TrainerFaults, ARankThatCannotJoinIsAnErrorOnEveryRank) {
  emulated::FailCall("ncclCommInitRankConfig", ncclSystemError);
  test::RunThreadRanks(2, [&](Collective& collective) {
    const auto group = NcclGroup::Join(collective, {.device = collective.rank(), .join_bound_ms = 500});
    ASSERT_FALSE(group);
    EXPECT_EQ(group.error().code, ErrorCode::kUnavailable);
    EXPECT_THAT(group.error().message, AllOf(HasSubstr(fmt::format("rank {} (host ", collective.rank())), HasSubstr("collective: mpi")));
  });
}

TEST_F(TrainerFaults, AFaultOfTheDeviceIsAFailureOfTheStep) {
  const Recipe r;
  SingleCollective alone;
  SharedChoices choices;
  DeviceRank device(r, {.lanes = 1, .lane_rows = 6}, alone, choices);
  const auto batches = [&](uint64_t step) { return BatchOf(r, step); };
  Train(*device.trainer, batches, 0, 3);
  emulated::FailDevice(0, cudaErrorIllegalAddress);
  EXPECT_THROW(Train(*device.trainer, batches, 3, 6), Failure);
}

// The host waits once a step, for the step before: nothing inside a step makes it wait.
TEST_F(TrainerFaults, TheHostWaitsOnceAStep) {
  const Recipe r;
  SingleCollective alone;
  SharedChoices choices;
  DeviceRank device(r, {.lanes = 2, .lane_rows = 3}, alone, choices);
  const auto batches = [&](uint64_t step) { return BatchOf(r, step); };
  Train(*device.trainer, batches, 0, 4);  // captures
  const int64_t before = emulated::HostWaits();
  Train(*device.trainer, batches, 4, 10);
  EXPECT_EQ(emulated::HostWaits() - before, 6);
}

}  // namespace
}  // namespace plateau::cuda
