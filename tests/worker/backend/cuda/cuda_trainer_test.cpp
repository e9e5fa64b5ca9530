// Whole training steps on a device: held against the CPU's trainer, run to run, over lanes, ranks and resumes. The emulated build
// checks the order of the work, the arithmetic of our kernels and what a graph reads; bits and libraries of a device only the gpu build.
#include <cstring>

#include <gmock/gmock.h>

#include "tests/support/thread_collective.h"
#include "tests/worker/backend/cuda/trainer_fixture.h"
#include "worker/train/host_trainer.h"

namespace plateau::cuda {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

constexpr LaneShape kTwoLanes{.lanes = 2, .lane_rows = 4};  // 6 samples and 2 rows of padding

// The same on the CPU.
struct HostRank {
  HostRank(const Recipe& r, const LaneShape& shape, Collective& collective)
      : engine(MakeEngine(NetworkOf(r), {.seed = 5, .crop = r.crop})),
        plan(*engine->Compile({.batch = shape.lane_rows, .height = r.crop, .width = r.crop})),
        trainer(*engine, *plan, OptionsOf(r, shape), 1, collective, pulse) {}
  Tensors tensors() { return TensorsOf(engine->parameters()); }

  Pulse pulse;
  std::unique_ptr<Engine> engine;
  Plan* plan;
  HostTrainer trainer;
};

Batches Whole(const Recipe& r, const LaneShape& shape) {
  return [=](uint64_t step) { return RowsOf(BatchOf(r, step), 0, r.global_batch, shape); };
}

std::vector<double> Losses(const std::vector<StepResult>& results) {
  std::vector<double> losses;
  for (const StepResult& result : results) losses.push_back(result.totals.loss);
  return losses;
}

class CudaTrainer : public DeviceTest {
 protected:
  SingleCollective alone_;
  SharedChoices choices_;
};

class CudaTrainerOf : public testing::TestWithParam<Recipe> {
 protected:
  void SetUp() override { SkipWithoutDevice(); }
  SharedChoices choices_;
};

// Each operator is within 1e-5 of the CPU's (relative, fp32). A step's gradient passes every layer twice, and an error once made takes
// part in all later steps: n steps of `layers` layers may differ by n * 2 * layers * 1e-5 of the way that the weights went, were all
// errors of one sign. Batch norm over a few values multiplies errors from step to step, so its network runs fewer. A rate, mask, lane or momentum gone wrong makes an error of the order of the way itself.
TEST_P(CudaTrainerOf, StepsInFp32AreTheHosts) {
  SingleCollective alone;
  const Recipe r = GetParam();
  const auto steps = static_cast<uint64_t>(r.steps);
  HostRank host(r, kTwoLanes, alone);
  DeviceRank device(r, kTwoLanes, alone, choices_);
  const Tensors begin = host.tensors();
  const auto expected = Train(host.trainer, Whole(r, kTwoLanes), 0, steps),
             actual = Train(*device.trainer, Whole(r, kTwoLanes), 0, steps);
  const double bound = static_cast<double>(steps) * 2 * 1e-5 * static_cast<double>(device.engine->network().layers.size());
  EXPECT_LT(WeightError(device.tensors(), host.tensors(), begin), bound);
  for (size_t step = 0; step < steps; ++step) {
    const StepTotals &a = actual[step].totals, &e = expected[step].totals;
    EXPECT_NEAR(a.loss, e.loss, bound * e.loss) << "step " << step;
    EXPECT_EQ(a.images, 6);
    EXPECT_EQ(a.stop, e.stop) << "votes are this step's";
    EXPECT_EQ(a.nonfinite, 0);
    EXPECT_EQ(actual[step].nonfinite_parameter, -1);
  }
}
INSTANTIATE_TEST_SUITE_P(Networks, CudaTrainerOf,
                         testing::Values(Recipe{}, Recipe{.network = "vgg-a", .width = 0.02, .crop = 32},
                                         Recipe{.network = "lenet", .width = 0.5, .channels = 1, .crop = 28, .dropout = 0},
                                         Recipe{.network = "resnet-18", .width = 0.07, .crop = 64, .steps = 6}),
                         [](const auto& info) { return testing::PrintToString(info.index); });

TEST_F(CudaTrainer, OneLaneAndFourAreTheSameStepButForRounding) {
  const Recipe r{.global_batch = 8};
  DeviceRank one(r, {.lanes = 1, .lane_rows = 8}, alone_, choices_), four(r, {.lanes = 4, .lane_rows = 2}, alone_, choices_);
  const Tensors begin = one.tensors();
  const auto of_one = Train(*one.trainer, Whole(r, {1, 8}), 0, 6), of_four = Train(*four.trainer, Whole(r, {4, 2}), 0, 6);
  EXPECT_LT(WeightError(four.tensors(), one.tensors(), begin), 1e-4);
  for (size_t step = 0; step < 6; ++step) EXPECT_NEAR(of_four[step].totals.loss, of_one[step].totals.loss, 1e-4);
}

// The first step runs uncaptured, later ones replay a graph of their set of buffers: each must read its own rate.
TEST_F(CudaTrainer, AReplayedGraphReadsTheStepsOwnRateAndNothingMovesAtRateZero) {
  const Recipe r;
  DeviceRank device(r, kTwoLanes, alone_, choices_);
  TrainerOptions options = OptionsOf(r, kTwoLanes);
  options.momentum = options.weight_decay = 0;
  auto trainer = std::move(*CreateCudaTrainer(*device.plan, options, alone_));
  for (uint64_t step = 0; step < 8; ++step) {
    const Tensors before = device.tensors();
    const double rate = step % 3 == 0 ? 0.05 : 0;
    Train(*trainer, Whole(r, kTwoLanes), step, step + 1, [=](uint64_t) { return rate; });
    EXPECT_EQ(SameWeights(device.tensors(), before), rate == 0) << "step " << step;
  }
}

TEST_F(CudaTrainer, PaddingThatChangesIsCapturedAnew) {
  const Recipe r{.network = "resnet-18", .width = 0.07, .crop = 64};  // batch norm: the number of samples is the host's
  HostRank host(r, kTwoLanes, alone_);
  DeviceRank device(r, kTwoLanes, alone_, choices_);
  const Tensors begin = host.tensors();
  const auto batches = [&](uint64_t step) { return RowsOf(BatchOf(r, step), 0, step < 3 ? 6 : 5, kTwoLanes); };
  Train(host.trainer, batches, 0, 6);
  const auto results = Train(*device.trainer, batches, 0, 6);
  EXPECT_EQ(results[2].totals.images, 6);
  EXPECT_EQ(results[3].totals.images, 5);
  EXPECT_LT(WeightError(device.tensors(), host.tensors(), begin), 6 * 2 * 1e-5 * 60);
}

TEST_F(CudaTrainer, TwoRunsHoldTheSameBits) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const Recipe r;
    DeviceRank one(r, kTwoLanes, alone_, choices_, {.precision = precision}), two(r, kTwoLanes, alone_, choices_, {.precision = precision});
    const auto first = Train(*one.trainer, Whole(r, kTwoLanes), 0, 7), second = Train(*two.trainer, Whole(r, kTwoLanes), 0, 7);
    EXPECT_EQ(Losses(first), Losses(second));
    EXPECT_TRUE(one.tensors() == two.tensors());
  }
}

TEST_F(CudaTrainer, AResumeOnTheDeviceIsExactAndOneByWayOfTheHostIsClose) {
  const Recipe r;
  DeviceRank straight(r, kTwoLanes, alone_, choices_), begun(r, kTwoLanes, alone_, choices_), resumed(r, kTwoLanes, alone_, choices_), back(r, kTwoLanes, alone_, choices_);
  HostRank host(r, kTwoLanes, alone_);
  const Tensors begin = straight.tensors();
  Train(*straight.trainer, Whole(r, kTwoLanes), 0, 9);
  Train(*begun.trainer, Whole(r, kTwoLanes), 0, 3);
  PutTensors(begun.tensors(), resumed.engine->parameters());
  Train(*resumed.trainer, Whole(r, kTwoLanes), 3, 9);
  EXPECT_TRUE(resumed.tensors() == straight.tensors()) << "canonical form loses no bit";
  PutTensors(begun.tensors(), host.engine->parameters());
  EXPECT_TRUE(host.tensors() == begun.tensors());
  Train(host.trainer, Whole(r, kTwoLanes), 3, 6);
  PutTensors(host.tensors(), back.engine->parameters());
  EXPECT_TRUE(back.tensors() == host.tensors());
  Train(*back.trainer, Whole(r, kTwoLanes), 6, 9);
  EXPECT_LT(WeightError(back.tensors(), straight.tensors(), begin), 9 * 2 * 1e-5 * 20);
}

TEST_F(CudaTrainer, ValidationBetweenStepsDisturbsNothing) {
  const Recipe r;
  DeviceRank straight(r, kTwoLanes, alone_, choices_), between(r, kTwoLanes, alone_, choices_);
  Train(*straight.trainer, Whole(r, kTwoLanes), 0, 6);
  const Samples images = BatchOf(r, 50);
  for (uint64_t step = 0; step < 6; step += 2) {
    Train(*between.trainer, Whole(r, kTwoLanes), step, step + 2);
    CudaPlan* validation = between.Compile({.batch = 6, .height = r.crop, .width = r.crop, .training = false});
    validation->Forward(images.lane(), 0);
    validation->Loss(images.lane(), 1);
  }
  EXPECT_TRUE(between.tensors() == straight.tensors()) << "also where a larger plan moved the engine's memory";
}

// Bytes are what the floats were made of: the same bits, captured or not, over lanes and their padding, gray images too.
TEST_F(CudaTrainer, BytesTrainToTheBitsOfTheFloatsThatTheyStandFor) {
  for (const int channels : {1, 3}) {
    Recipe r{.channels = channels, .pixels = true};
    const auto bytes = Whole(r, kTwoLanes);
    const auto floats = [&](uint64_t step) {
      Samples samples = bytes(step);
      samples.pixels.clear();
      return samples;
    };
    DeviceRank of_bytes(r, kTwoLanes, alone_, choices_);
    r.pixels = false;
    DeviceRank of_floats(r, kTwoLanes, alone_, choices_);
    const auto first = Train(*of_bytes.trainer, bytes, 0, 7), second = Train(*of_floats.trainer, floats, 0, 7);
    EXPECT_EQ(Losses(first), Losses(second));
    EXPECT_TRUE(of_bytes.tensors() == of_floats.tensors());
  }
}

TEST_F(CudaTrainer, ALossThatIsNotFiniteHaltsThisAndEveryLaterStep) {
  const Recipe r;
  DeviceRank sound(r, kTwoLanes, alone_, choices_), device(r, kTwoLanes, alone_, choices_);
  Train(*sound.trainer, Whole(r, kTwoLanes), 0, 3);
  const auto results = Train(
      *device.trainer,
      [&](uint64_t step) {
        Samples samples = RowsOf(BatchOf(r, step), 0, 6, kTwoLanes);
        if (step == 3) samples.images[1] = std::nanf("");
        return samples;
      },
      0, 6);
  for (size_t step = 0; step < 3; ++step) EXPECT_EQ(results[step].totals.nonfinite, 0);
  EXPECT_EQ(results[3].totals.nonfinite, 1);
  EXPECT_TRUE(device.tensors() == sound.tensors()) << "weights and momenta behind step 2";
}

TEST_F(CudaTrainer, AnUpdateThatIsNotFiniteNamesItsParameter) {
  const Recipe r;
  DeviceRank device(r, kTwoLanes, alone_, choices_);
  const auto results = Train(*device.trainer, Whole(r, kTwoLanes), 0, 2, [](uint64_t step) { return step == 1 ? HUGE_VAL : 0.01; });
  EXPECT_EQ(results[0].nonfinite_parameter, -1);
  EXPECT_GE(results[1].nonfinite_parameter, 0);
}

TEST_F(CudaTrainer, ALabelThatNoClassHasIsRefused) {
  const Recipe r;
  DeviceRank device(r, kTwoLanes, alone_, choices_);
  Samples samples = RowsOf(BatchOf(r, 0), 0, 6, kTwoLanes);
  samples.labels[2] = r.classes;
  EXPECT_THROW(device.trainer->Enqueue({.rows = samples.lane()}), Failure);
}

// Runs the recipe on ranks that are threads; all hold the same bits, which are those of one rank but for rounding.
void RanksAgree(const Recipe& r, int ranks, CollectiveKind kind, bool own_devices, const char* way) {
  SingleCollective alone;
  const LaneShape whole{.lanes = 1, .lane_rows = r.global_batch}, part{.lanes = 1, .lane_rows = (r.global_batch + ranks - 1) / ranks};
  SharedChoices choices;
  DeviceRank one(r, whole, alone, choices);
  const Tensors begin = one.tensors();
  const auto expected = Train(*one.trainer, Whole(r, whole), 0, 5);
  std::vector<Tensors> tensors(static_cast<size_t>(ranks));
  std::vector<std::vector<StepResult>> results(static_cast<size_t>(ranks));
  std::vector<std::string> ways(static_cast<size_t>(ranks));
  test::RunThreadRanks(ranks, [&](Collective& collective) {
    const int rank = collective.rank();
    const auto at = static_cast<size_t>(rank);
    SharedChoices recorded = choices;  // as rank 0's table reaches every rank
    DeviceRank device(r, part, collective, recorded, {.device = own_devices ? rank : 0, .collective = kind});
    const int begin_row = r.global_batch * rank / ranks, end_row = r.global_batch * (rank + 1) / ranks;
    results[at] = Train(*device.trainer, [&](uint64_t step) { return RowsOf(BatchOf(r, step), begin_row, end_row, part); }, 0, 5);
    tensors[at] = device.tensors();
    ways[at] = device.trainer->algorithms().at(0);
    collective.Barrier();  // nobody leaves a group that others still use
  });
  EXPECT_THAT(ways, Each(HasSubstr(way)));
  for (size_t rank = 0; rank < tensors.size(); ++rank) {
    EXPECT_TRUE(tensors[rank] == tensors[0]) << "rank " << rank;
    EXPECT_EQ(Losses(results[rank]), Losses(results[0]));
    for (size_t step = 0; step < 5; ++step) {
      EXPECT_EQ(results[rank][step].totals.images, r.global_batch);
      EXPECT_EQ(results[rank][step].totals.stop, static_cast<int64_t>(step % 2) * ranks);
      EXPECT_NEAR(results[rank][step].totals.loss, expected[step].totals.loss, 1e-4 * expected[step].totals.loss);
    }
  }
  EXPECT_LT(WeightError(tensors[0], one.tensors(), begin), 1e-4);
}

TEST_F(CudaTrainer, RanksOnOneDeviceSumThroughTheHost) {
  for (const int ranks : {2, 3}) RanksAgree({}, ranks, CollectiveKind::kMpi, false, "MPI");
}

TEST_F(CudaTrainer, AutoTakesMpiWhereRanksShareADevice) { RanksAgree({}, 2, CollectiveKind::kAuto, false, "MPI"); }

TEST_F(CudaTrainer, NcclIsRefusedWhereRanksShareADevice) {
  const Recipe r;
  test::RunThreadRanks(2, [&](Collective& collective) {
    try {
      SharedChoices choices;
      DeviceRank device(r, {.lanes = 1, .lane_rows = 3}, collective, choices, {.collective = CollectiveKind::kNccl});
      ADD_FAILURE() << "was not refused";
    } catch (const std::runtime_error& refused) {
      EXPECT_THAT(refused.what(), HasSubstr("ranks 0 and 1 share a device"));
    }
  });
}

class CudaTrainerOnDevices : public testing::Test {
 protected:
  void SetUp() override { SkipWithoutDevice(2); }
};

TEST_F(CudaTrainerOnDevices, RanksWithDevicesOfTheirOwnSumByNccl) {
  RanksAgree({}, 2, CollectiveKind::kAuto, true, "NCCL");
  RanksAgree({}, 2, CollectiveKind::kNccl, true, "NCCL");
}

}  // namespace
}  // namespace plateau::cuda
