// The device is chosen by the rule of resources.device, and what a device throws arrives as it was thrown.
#include "worker/backend/device/device.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/mpirun.h"
#include "worker/collective/mpi.h"

namespace plateau {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Device : public ::testing::Test {
 protected:
  void SetUp() override { ::setenv("PLATEAU_CUDA_LIBRARY", PLATEAU_STUB_PLUGIN, 1); }
  static void HideDevices() { ::setenv("PLATEAU_CUDA_LIBRARY", "/nowhere/lib.so", 1); }
  static Network Lenet() { return *MakeNetwork("lenet", {.classes = 10, .channels = 1}); }
};

TEST_F(Device, AutoTakesCudaWhereADeviceAnswersAndSpreadsRanks) {
  for (const DeviceKind wanted : {DeviceKind::kAuto, DeviceKind::kCuda}) {
    const auto first = ChooseDevice(wanted, 0, "--device"), fourth = ChooseDevice(wanted, 3, "--device");
    ASSERT_TRUE(first && fourth);
    EXPECT_TRUE(first->cuda);
    EXPECT_EQ(first->reason, "Stub A (device 0 of 2)");
    EXPECT_EQ(fourth->reason, "Stub B (device 1 of 2)");
    EXPECT_EQ(fourth->device, 1);
  }
}

TEST_F(Device, CpuIsTakenWhenAskedFor) {
  const auto choice = ChooseDevice(DeviceKind::kCpu, 0, "--device");
  ASSERT_TRUE(choice);
  EXPECT_FALSE(choice->cuda);
}

TEST_F(Device, WithoutADeviceAutoTakesTheCpuAndSaysWhyAndCudaIsRefused) {
  HideDevices();
  const auto choice = ChooseDevice(DeviceKind::kAuto, 0, "--device");
  ASSERT_TRUE(choice);
  EXPECT_FALSE(choice->cuda);
  EXPECT_THAT(choice->reason, HasSubstr("the CPU: "));
  const auto refused = ChooseDevice(DeviceKind::kCuda, 0, "--device");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(refused.error().message,
              StartsWith("--device: cuda cannot be had: PLATEAU_CUDA_LIBRARY=/nowhere/lib.so: there is no such file"));
  EXPECT_THAT(refused.error().message, EndsWith("; use auto or cpu"));
  EXPECT_TRUE(AskCuda().unusable) << "the user named it";
}

TEST_F(Device, AGpuThatWasGivenAndIsGoneIsNoMistakeOfTheSpecifications) {
  HideDevices();
  ::setenv("PLATEAU_GPUS", "0", 1);
  const auto gone = ChooseDevice(DeviceKind::kCuda, 0, "resources.device");
  ::setenv("PLATEAU_GPUS", "none", 1);
  const auto refused = ChooseDevice(DeviceKind::kCuda, 0, "resources.device");
  ::unsetenv("PLATEAU_GPUS");
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kUnavailable) << "tried again, elsewhere where that is possible";
  EXPECT_THAT(gone.error().message, HasSubstr("though the coordinator gave this rank a GPU"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
}

TEST_F(Device, PrecisionFollowsTheDeviceUnlessGiven) {
  const DeviceChoice cpu{.reason = "the CPU: no driver"}, cuda{.cuda = true, .reason = "Stub A"};
  EXPECT_EQ(*ChoosePrecision(cpu, {}, "f"), Precision::kFp32);
  EXPECT_EQ(*ChoosePrecision(cuda, {}, "f"), Precision::kBf16);
  EXPECT_EQ(*ChoosePrecision(cuda, Precision::kTf32, "f"), Precision::kTf32);
  EXPECT_EQ(*ChoosePrecision(cpu, Precision::kFp32, "f"), Precision::kFp32);
  const auto refused = ChoosePrecision(cpu, Precision::kBf16, "training.precision");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("training.precision: bf16 needs a CUDA device, and this runs on the CPU: no driver"));
  EXPECT_TRUE(CheckCollective(cuda, CollectiveKind::kNccl, "f"));
  EXPECT_TRUE(CheckCollective(cpu, CollectiveKind::kMpi, "f"));
  EXPECT_FALSE(CheckCollective(cpu, CollectiveKind::kNccl, "f"));
}

TEST_F(Device, TheEngineIsMadeOnTheChosenDevice) {
  const auto engine =
      CreateEngine(*ChooseDevice(DeviceKind::kCuda, 1, "--device"), Lenet(), {.crop = 28, .precision = Precision::kBf16});
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_EQ((*engine)->description(), "stub 1");
  const auto cpu = CreateEngine(*ChooseDevice(DeviceKind::kCpu, 0, "--device"), Lenet(), {.crop = 28});
  ASSERT_TRUE(cpu) << cpu.error().message;
  EXPECT_THAT((*cpu)->description(), HasSubstr("oneDNN"));
  EXPECT_FALSE(CreateEngine(*ChooseDevice(DeviceKind::kCpu, 0, "--device"), Lenet(), {.crop = 28, .precision = Precision::kBf16}));
}

// The type of an exception must be the same on both sides of dlopen.
TEST_F(Device, AFailureThrownInTheSharedObjectIsCaughtAsOne) {
  const auto choice = ChooseDevice(DeviceKind::kCuda, 0, "--device");
  const auto full = CreateEngine(*choice, Network{}, {});
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(full.error().message, "the stub's memory is full");
  const auto engine = CreateEngine(*choice, Lenet(), {.crop = 28});
  ASSERT_TRUE(engine);
  try {
    (void)(*engine)->Compile({});
    FAIL() << "it should have thrown";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code(), ErrorCode::kUnavailable);
    EXPECT_STREQ(failure.what(), "the stub's device fell over");
  }
}

// Two ranks: with a device each, then with rank 1's gone. Exit code: number of the first expectation that does not hold.
int ChooseOnTwoRanks() {
  auto world = std::move(*StartMpiCollective());
  const auto require = [&world](bool holds, int number) {
    if (!holds) world->Abort(number);
  };
  ::setenv("PLATEAU_CUDA_LIBRARY", PLATEAU_STUB_PLUGIN, 1);
  const auto both = ChooseTogether(*world, DeviceKind::kAuto, {}, "d", "f");
  require(both && both->device.cuda && both->device.device == world->rank() && both->precision == Precision::kBf16, 11);
  if (world->rank() == 1) ::setenv("PLATEAU_CUDA_LIBRARY", "/nowhere/lib.so", 1);
  const auto one = ChooseTogether(*world, DeviceKind::kAuto, {}, "d", "f");
  require(one && !one->device.cuda && one->precision == Precision::kFp32, 12);
  require(one->device.reason.find("/nowhere/lib.so") != std::string::npos && one->device.reason.ends_with(" (rank 1)"), 13);
  const auto refused = ChooseTogether(*world, DeviceKind::kCuda, {}, "d", "f");
  require(!refused && refused.error().message.find("(rank 1)") != std::string::npos, 14);
  require(!ChooseTogether(*world, DeviceKind::kAuto, Precision::kBf16, "d", "f"), 15);
  const auto cpu = ChooseTogether(*world, DeviceKind::kCpu, {}, "d", "f");
  require(cpu && !cpu->device.cuda, 16);
  world->Finish();
  return 0;
}
const test::RankFunction kChoose("choose", ChooseOnTwoRanks);
const test::RunRankFunctionIfAsked kRun;

TEST(DeviceOfRanks, ARankWithoutADeviceTakesAllToTheCpu) { EXPECT_EQ(test::RunRanks(2, "choose"), 0); }

TEST_F(Device, LocalRankIsWhatTheLauncherSays) {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}) ::unsetenv(name);
  EXPECT_EQ(LocalRank(), 0);
  ::setenv("SLURM_LOCALID", "3", 1);
  EXPECT_EQ(LocalRank(), 3);
  ::setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1", 1);
  EXPECT_EQ(LocalRank(), 1);
}

}  // namespace
}  // namespace plateau
