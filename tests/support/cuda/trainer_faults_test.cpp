// Faults of ranks and of the device inside a step, as the emulation can make them: who is named, and that nobody hangs.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>

#include <gmock/gmock.h>
#include <nccl.h>

#include "tests/support/cuda/emulation.h"
#include "tests/support/thread_collective.h"
#include "tests/support/watch_double.h"
#include "tests/worker/backend/cuda/trainer_fixture.h"
#include "worker/backend/cuda/feeder.h"
#include "worker/backend/cuda/nccl_group.h"
#include "worker/nn/device_plan.h"
#include "worker/nn/scorer.h"

namespace plateau::cuda {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
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

// Two ranks train together for three steps; then the communicator of rank 1 fails, and each does `then`.
void AfterRankOneFailed(const Recipe& r, const std::function<void(DeviceRank&, Collective&)>& then) {
  const SharedChoices choices;
  test::RunThreadRanks(2, [&](Collective& collective) {
    SharedChoices recorded = choices;
    DeviceRank device(r, kPart, collective, recorded, {.device = collective.rank(), .collective = CollectiveKind::kNccl});
    EXPECT_EQ(TrainPart(device, r, collective.rank(), 0, 3).size(), 3u);
    EXPECT_EQ(emulated::Communicators(), 2);
    collective.Barrier();
    if (collective.rank() == 0) emulated::FailRank(1, ncclRemoteError);
    collective.Barrier();
    then(device, collective);
    collective.Barrier();
  });
}

TEST_F(TrainerFaults, AnAsynchronousErrorEndsEveryRanksStepAndNamesRankAndHost) {
  const Recipe r;
  std::vector<std::string> messages(2);
  AfterRankOneFailed(r, [&](DeviceRank& device, Collective& collective) {
    const int rank = collective.rank();
    try {
      TrainPart(device, r, rank, 3, 6);
      ADD_FAILURE() << "rank " << rank << " did not notice";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code(), ErrorCode::kUnavailable);
      messages[static_cast<size_t>(rank)] = failure.what();
    }
  });
  for (int rank = 0; rank < 2; ++rank)
    EXPECT_THAT(messages[static_cast<size_t>(rank)], AllOf(HasSubstr(fmt::format("rank {} (host ", rank)), HasSubstr("NCCL")));
}

// NCCL ends a communicator only when no graph holds its sums any more: whoever waits for that with the graphs at hand waits in vain.
TEST_F(TrainerFaults, AfterAFaultTheTrainerLeavesNoCommunicatorBehind) {
  const Recipe r;
  testing::internal::CaptureStderr();
  AfterRankOneFailed(r, [&](DeviceRank& device, Collective& collective) {
    EXPECT_THROW(TrainPart(device, r, collective.rank(), 3, 6), Failure);
    device.trainer.reset();
    collective.Barrier();
    EXPECT_EQ(emulated::Communicators(), 0);
  });
  EXPECT_THAT(testing::internal::GetCapturedStderr(), Not(HasSubstr("left behind"))) << "it was waited for with a graph at hand";
}

// As the stack unwinds, the validation's scorer goes before the trainer, which alone can end the step.
TEST_F(TrainerFaults, AScorerGoesWhileAStepWaitsForARankThatDied) {
  const Recipe r;
  const SharedChoices choices;
  test::RunThreadRanks(2, [&](Collective& collective) {
    const int rank = collective.rank();
    SharedChoices recorded = choices;
    DeviceRank device(r, kPart, collective, recorded, {.device = rank, .collective = CollectiveKind::kNccl});
    CudaPlan* evaluation = device.Compile({.batch = 3, .height = r.crop, .width = r.crop, .training = false});
    auto scorer = std::move(*device.engine->CreateScorer(*evaluation, false));
    const Samples samples = RowsOf(BatchOf(r, 9), 3 * rank, 3 * rank + 3, kPart);
    EXPECT_EQ(TrainPart(device, r, rank, 0, 3).size(), 3u);
    scorer->Enqueue(samples.lane());
    EXPECT_EQ(scorer->Settle().images, 3);
    collective.Barrier();
    if (rank == 0) emulated::FailRank(1, ncclRemoteError);
    collective.Barrier();
    device.trainer->Enqueue({.rows = samples.lane(), .step = 3, .lr = 0.01});
    scorer.reset();
    EXPECT_EQ(cudaStreamQuery(device.plan->libraries().stream().get()), cudaErrorNotReady);
    device.trainer.reset();
    EXPECT_TRUE(device.engine->CreateScorer(*evaluation, false).has_value()) << "and what the other one left is free again";
    collective.Barrier();
  });
}

// On their way to the device: those of two lanes of a training step, and of a validation.
TEST_F(TrainerFaults, BatchesTakeWhatWasPredicted) {
  const Recipe r{.global_batch = 32, .pixels = true};
  SingleCollective alone;
  SharedChoices choices;
  DeviceRank device(r, {.lanes = 2, .lane_rows = 16}, alone, choices);
  CudaPlan* evaluation = device.Compile({.batch = 16, .height = r.crop, .width = r.crop, .training = false});
  const auto predicted = PredictMemory(NetworkOf(r), r.crop, device.plan->options(), Precision::kFp32, 32);
  ASSERT_TRUE(predicted.has_value());
  const auto used = [] {
    size_t free = 0, total = 0;
    EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
    return total - free;
  };
  const size_t before = used();
  const StepFeeder feeder(32, device.plan->image_values(), true, 1);
  EXPECT_EQ(used() - before, feeder.device_bytes());
  const auto scorer = std::move(*device.engine->CreateScorer(*evaluation, true));
  EXPECT_GE(used() - before, predicted->batches);
  EXPECT_LT(used() - before, predicted->batches + 8192) << "scalars, sums, and the gaps of alignment";
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

// With the default bound of two minutes: a rank's fault ends the wait of the others, who would not hear of it from NCCL.
TEST_F(TrainerFaults, ARankThatCannotJoinEndsTheOthersWaitAtOnce) {
  emulated::HoldJoins(true);
  emulated::FailCall("ncclCommInitRankConfig", ncclSystemError);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::string> messages(2);
  test::RunThreadRanks(2, [&](Collective& collective) {
    const auto group = NcclGroup::Join(collective, {.device = collective.rank()});
    ASSERT_FALSE(group);
    messages[static_cast<size_t>(collective.rank())] = group.error().message;
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
  EXPECT_THAT(messages, testing::UnorderedElementsAre(HasSubstr("was still joining; 1 of 2 ranks could not join NCCL"),
                                                      HasSubstr("ncclCommInitRankConfig: unhandled system error")));
}

TEST_F(TrainerFaults, ARankThatDoesNotComeIsNamedWithTheBound) {
  emulated::HoldJoins(true);
  test::RunThreadRanks(2, [&](Collective& collective) {
    const auto group = NcclGroup::Join(collective, {.device = collective.rank(), .join_bound_ms = 1000});
    ASSERT_FALSE(group);
    EXPECT_EQ(group.error().code, ErrorCode::kUnavailable);
    EXPECT_THAT(group.error().message, HasSubstr(fmt::format("rank {} (host ", collective.rank())));
    EXPECT_THAT(group.error().message, AnyOf(HasSubstr("has not come to an end within 1 s"), HasSubstr("was still joining")));
  });
}

TEST_F(TrainerFaults, AStopOnOneRankEndsTheJoinOfAll) {
  emulated::HoldJoins(true);
  const auto begin = std::chrono::steady_clock::now();
  test::RunThreadRanks(2, [&](Collective& collective) {
    test::WatchDouble watch(collective.rank() == 1 ? 2 : -1);
    const auto group = NcclGroup::Join(collective, {.device = collective.rank(), .watch = &watch});
    ASSERT_FALSE(group);
    EXPECT_EQ(group.error().message, "joining NCCL was given up: this process was asked to stop");
    EXPECT_THAT(watch.begun, testing::ElementsAre("joining NCCL"));
    EXPECT_EQ(watch.ended, 1);
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
  emulated::HoldJoins(false);
  test::RunThreadRanks(2, [](Collective& collective) {
    test::WatchDouble watch;
    EXPECT_TRUE(NcclGroup::Join(collective, {.device = collective.rank(), .watch = &watch}));
    collective.Barrier();
  });
}

// An id that another process made, as ranks of mpirun would have it.
TEST_F(TrainerFaults, TheEmulationRefusesRanksOfAnotherProcessAtOnce) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  const pid_t child = fork();
  if (child == 0) {
    ncclComm_t comm = nullptr;
    const ncclResult_t code = ncclCommInitRank(&comm, 2, id, 1);
    const bool said = std::string(ncclGetLastError(nullptr)).find("joins threads of one process") != std::string::npos;
    _exit(code == ncclInvalidUsage && said && comm == nullptr ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

// What was queued for a step that could not be launched still reads the trainer's memory.
TEST_F(TrainerFaults, ATrainerGoesOnlyWhenTheDeviceIsDoneWithItsMemory) {
  const Recipe r;
  SingleCollective alone;
  SharedChoices choices;
  DeviceRank device(r, {.lanes = 1, .lane_rows = 6}, alone, choices);
  Train(
      *device.trainer, [&](uint64_t step) { return BatchOf(r, step); }, 0, 3);
  emulated::FailCall("cudaGraphLaunch", cudaErrorLaunchFailure);
  const Samples samples = BatchOf(r, 3);
  EXPECT_THROW(device.trainer->Enqueue({.rows = samples.lane(), .step = 3, .lr = 0.01}), Failure);
  const int64_t before = emulated::HostWaits();
  device.trainer.reset();
  EXPECT_EQ(emulated::HostWaits() - before, 1) << "in front of freeing its memory, which waits uncounted";
  EXPECT_EQ(cudaStreamQuery(device.plan->libraries().stream().get()), cudaSuccess);
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
