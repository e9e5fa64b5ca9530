// A rank sees the GPU that the launch granted it, and no other.
#include "worker/backend/device/granted_gpu.h"

#include <cstdlib>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/gpus.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;

class GrantedGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", kGpusVariable}) ::unsetenv(name);
    ::setenv("CUDA_VISIBLE_DEVICES", "6,7", 1);
  }
  static std::string Visible() { return std::getenv("CUDA_VISIBLE_DEVICES"); }
};

TEST_F(GrantedGpu, EachRankSeesItsOwn) {
  ::setenv(kGpusVariable, "0,3,GPU-8f", 1);
  const char* seen[] = {"0", "3", "GPU-8f"};
  for (int rank = 0; rank < 3; ++rank) {
    ::setenv("OMPI_COMM_WORLD_RANK", std::to_string(rank).c_str(), 1);
    EXPECT_EQ(TakeGrantedGpu().value(), seen[rank]);
    EXPECT_EQ(Visible(), seen[rank]);
  }
}

TEST_F(GrantedGpu, MpirunsRankCountsBeforeSlurms) {
  ::setenv(kGpusVariable, "0,1", 1);
  ::setenv("SLURM_PROCID", "0", 1);
  ::setenv("OMPI_COMM_WORLD_RANK", "1", 1);
  EXPECT_EQ(TakeGrantedGpu().value(), "1");
  ::unsetenv("OMPI_COMM_WORLD_RANK");
  EXPECT_EQ(TakeGrantedGpu().value(), "0");
}

TEST_F(GrantedGpu, ALaunchForTheCpuHidesAllOfThem) {
  ::setenv(kGpusVariable, kNoGpus, 1);
  EXPECT_EQ(TakeGrantedGpu().value(), "");
  EXPECT_EQ(Visible(), "");
}

TEST_F(GrantedGpu, WithoutALaunchNothingIsTouched) {
  EXPECT_FALSE(TakeGrantedGpu().value().has_value());
  EXPECT_EQ(Visible(), "6,7");
}

TEST_F(GrantedGpu, ARankWithoutAnEntryIsRefusedAndSeesNoOtherRanksGpu) {
  ::setenv(kGpusVariable, "0,1", 1);
  ::setenv("OMPI_COMM_WORLD_RANK", "2", 1);
  const auto refused = TakeGrantedGpu();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidInput);
  EXPECT_THAT(refused.error().message, HasSubstr("rank 2"));
}

TEST_F(GrantedGpu, OneThatIsNotThereIsMissingWithTheReason) {
  EXPECT_FALSE(GotAGpu());
  EXPECT_EQ(WhyGrantedGpuIsMissing(), "") << "none was granted";
  ::setenv(kGpusVariable, kNoGpus, 1);
  EXPECT_FALSE(GotAGpu());
  EXPECT_EQ(WhyGrantedGpuIsMissing(), "") << "none was wanted";
  ::setenv(kGpusVariable, "9999", 1);
  EXPECT_EQ(TakeGrantedGpu().value(), "9999");
  EXPECT_TRUE(GotAGpu());
  EXPECT_NE(WhyGrantedGpuIsMissing(), "") << "no machine has so many";
}

}  // namespace
}  // namespace plateau
