// The self-test passes on a device that is right, and the measured rates are those of something that ran.
#include "worker/backend/cuda/self_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/cuda_device.h"
#include "tests/support/thread_collective.h"
#include "worker/backend/cuda/device_rates.h"

namespace plateau::cuda {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class SelfTestOnDevice : public DeviceTest {};

TEST_F(SelfTestOnDevice, ConvolutionsAndTheSumAreRight) {
  const auto lines = SelfTest(0);
  ASSERT_TRUE(lines) << lines.error().message;
  ASSERT_EQ(lines->size(), 4u);
  for (size_t i = 0; i < 3; ++i) EXPECT_THAT((*lines)[i], HasSubstr("convolution in "));
  EXPECT_THAT(lines->back(), HasSubstr("all-reduce by NCCL"));
}

// Two threads as ranks: with a device each they join NCCL, on one device they sum through the host.
TEST_F(SelfTestOnDevice, RanksSumOverTheirDevicesAsTrainingDoes) {
  int devices = 0;
  ASSERT_EQ(cudaGetDeviceCount(&devices), cudaSuccess);
  for (const bool apart : {false, true}) {
    if (apart && devices < 2) continue;
    test::RunThreadRanks(2, [&](Collective& collective) {
      const auto line = SelfTestRanks(collective, apart ? collective.rank() : 0);
      ASSERT_TRUE(line) << line.error().message;
      EXPECT_THAT(*line, HasSubstr(apart ? "all-reduce NCCL 2." : "all-reduce MPI through host memory"));
      EXPECT_THAT(*line, EndsWith(" over 2 ranks: right"));
    });
  }
}

TEST_F(SelfTestOnDevice, ARankWithoutItsDeviceFailsAllAndNobodyWaits) {
  test::RunThreadRanks(2, [](Collective& collective) {
    const auto line = SelfTestRanks(collective, collective.rank() == 0 ? 0 : 4711);
    ASSERT_FALSE(line);
    EXPECT_THAT(line.error().message, HasSubstr(collective.rank() == 0 ? "rank 0, device 0: 1 of 2 ranks cannot use their devices"
                                                                       : "rank 1, device 4711: "));
  });
}

TEST_F(SelfTestOnDevice, ADeviceThatIsNotThereIsNamed) {
  const auto lines = SelfTest(4711);
  ASSERT_FALSE(lines);
  EXPECT_THAT(lines.error().message, HasSubstr("device 4711: "));
}

TEST_F(SelfTestOnDevice, RatesAreAboveZeroInEveryPrecision) {
  for (const Precision precision : {Precision::kFp32, Precision::kTf32, Precision::kBf16}) {
    const auto rates = MeasureDeviceRates(0, precision);
    ASSERT_TRUE(rates) << rates.error().message;
    EXPECT_GT(rates->copy_bytes_per_s, 1e6);
    EXPECT_GT(rates->gemm_flops_per_s, 1e6);
  }
  EXPECT_FALSE(MeasureDeviceRates(4711, Precision::kFp32));
}

}  // namespace
}  // namespace plateau::cuda
