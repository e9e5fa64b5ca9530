// The machine that runs the tests is described, and devices that are not there are no fault where there is no card.
#include "worker/doctor/machine.h"

#include <sys/resource.h>

#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/doctor/checks.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;

const Finding& Named(const std::vector<Finding>& findings, const std::string& name) {
  const auto found = std::find_if(findings.begin(), findings.end(), [&](const Finding& f) { return f.name == name; });
  if (found == findings.end()) throw std::runtime_error("no finding " + name);
  return *found;
}

TEST(Machine, LimitsThatHurtAreNotedWithTheRemedy) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit few = before;
  few.rlim_cur = 256;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto findings = DescribeMachine();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  const Finding& files = Named(findings, "open files");
  EXPECT_EQ(files.health, Health::kNote);
  EXPECT_THAT(files.text, HasSubstr("256; a large store needs more: ulimit -n"));
  EXPECT_FALSE(Named(findings, "processor").text.empty());
  EXPECT_THAT(Named(DescribeMpi(), "library").text, HasSubstr("Open MPI 4."));
}

TEST(Machine, DevicesAndLibrariesAreListedWithTheirPlaces) {
  CudaAnswer answer{.compiled_in = true, .library = "/opt/libplateau_cuda.so", .versions = "driver 13.0"};
  answer.devices = {{"GPU", uint64_t{80} << 30, 90}};
  answer.libraries = {{"libcudnn.so.9", "/opt/cudnn/libcudnn.so.9"}};
  answer.missing = {"libnvrtc.so.13"};
  const auto findings = DescribeCuda(answer);
  EXPECT_EQ(Named(findings, "libcudnn.so.9").text, "/opt/cudnn/libcudnn.so.9");
  EXPECT_EQ(Named(findings, "device 0").text, "GPU, 80.0 GiB, sm_90");
  EXPECT_EQ(Named(findings, "libnvrtc.so.13").health, Health::kNote);
}

TEST(Machine, AMachineWithoutACardIsWell) {
  const auto findings = DescribeCuda({.compiled_in = false, .reason = "this build has no CUDA"});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].health, Health::kNote);
  EXPECT_EQ(findings[0].text, "none: this build has no CUDA");
}

TEST(Checks, TheCpusConvolutionIsRight) {
  const auto findings = CheckCpu(1);
  EXPECT_EQ(Named(findings, "convolution, CPU").health, Health::kGood) << Named(findings, "convolution, CPU").text;
  EXPECT_THAT(Named(findings, "engine").text, HasSubstr("oneDNN"));
}

TEST(Checks, ADeviceThatFailsItsTestIsNamedWithTheReason) {
  const cuda::PluginTable table{.self_test = [](int device) -> Result<std::vector<std::string>> {
    if (device == 0) return std::vector<std::string>{"convolution: right"};
    return Fail(ErrorCode::kInternal, "device 1: a convolution is wrong");
  }};
  CudaAnswer answer{.compiled_in = true, .table = &table};
  answer.devices = {{"A", 1, 80}, {"B", 1, 80}};
  const auto findings = CheckCuda(answer);
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].health, Health::kGood);
  EXPECT_EQ(findings[1].health, Health::kBad);
  EXPECT_EQ(findings[1].name, "CUDA device 1");
  EXPECT_EQ(findings[1].text, "device 1: a convolution is wrong");
}

}  // namespace
}  // namespace plateau
