// The self-test passes on a device that is right, and the measured rates are those of something that ran.
#include "worker/backend/cuda/self_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/cuda_device.h"
#include "worker/backend/cuda/device_rates.h"

namespace plateau::cuda {
namespace {

using ::testing::HasSubstr;

class SelfTestOnDevice : public DeviceTest {};

TEST_F(SelfTestOnDevice, ConvolutionsAndTheSumAreRight) {
  const auto lines = SelfTest(0);
  ASSERT_TRUE(lines) << lines.error().message;
  ASSERT_EQ(lines->size(), 4u);
  for (size_t i = 0; i < 3; ++i) EXPECT_THAT((*lines)[i], HasSubstr("convolution in "));
  EXPECT_THAT(lines->back(), HasSubstr("all-reduce by NCCL"));
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
