// The machine that runs the tests is described, and devices that are not there are no fault where there is no card.
#include "worker/doctor/machine.h"

#include <sys/resource.h>

#include <algorithm>
#include <future>
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
  const auto findings = DescribeCuda(answer, {});
  EXPECT_EQ(Named(findings, "libcudnn.so.9").text, "/opt/cudnn/libcudnn.so.9");
  EXPECT_EQ(Named(findings, "device 0").text, "GPU, 80.0 GiB, sm_90");
  EXPECT_EQ(Named(findings, "libnvrtc.so.13").health, Health::kNote);
}

TEST(Machine, AMachineWithoutACardIsWell) {
  const auto findings = DescribeCuda({.compiled_in = false, .reason = "this build has no CUDA"}, {});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].health, Health::kNote);
  EXPECT_EQ(findings[0].text, "none: this build has no CUDA");
}

TEST(Machine, ASharedObjectThatIsNoneIsAFaultAlsoWithoutACard) {
  const auto findings = DescribeCuda({.reason = "PLATEAU_CUDA_LIBRARY=/tmp: is a folder; unset it", .unusable = true}, {});
  EXPECT_EQ(Named(findings, "devices").health, Health::kBad);
  EXPECT_EQ(Named(findings, "devices").text, "none: PLATEAU_CUDA_LIBRARY=/tmp: is a folder; unset it");
}

TEST(Machine, WithoutADriverLibrariesAreListedAllTheSame) {
  const auto findings = DescribeCuda({.reason = "no CUDA driver on this machine"},
                                     {{.name = "libcudnn.so.9", .file = "/opt/libcudnn.so.9"},
                                      {.name = "libnccl.so.2", .fault = "not found; install it"},
                                      {.name = "libnvrtc.so.13", .fault = "not found; install it", .needed = false}});
  EXPECT_EQ(Named(findings, "libcudnn.so.9").text, "/opt/libcudnn.so.9");
  EXPECT_EQ(Named(findings, "libnccl.so.2").health, Health::kNote);
  EXPECT_EQ(Named(findings, "libnccl.so.2").text, "not found; install it");
  EXPECT_THAT(Named(findings, "libnvrtc.so.13").text, HasSubstr("cuDNN has fewer algorithms"));
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
  Watchdog watchdog(std::chrono::hours(1), [](const std::string& step) { ADD_FAILURE() << step; });
  const auto findings = CheckCuda(answer, watchdog);
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].health, Health::kGood);
  EXPECT_EQ(findings[1].health, Health::kBad);
  EXPECT_EQ(findings[1].name, "CUDA device 1");
  EXPECT_EQ(findings[1].text, "device 1: a convolution is wrong");
}

// It comes back only when it is said to hang.
TEST(Checks, ADeviceThatHangsIsNamedWithWhatRan) {
  static std::promise<void>* given_up;
  std::promise<void> own;
  given_up = &own;
  const cuda::PluginTable table{.self_test = [](int device) -> Result<std::vector<std::string>> {
    if (device == 0) given_up->get_future().wait();
    return std::vector<std::string>{"convolution: right"};
  }};
  CudaAnswer answer{.compiled_in = true, .table = &table};
  answer.devices = {{"A", 1, 80}, {"B", 1, 80}};
  std::vector<std::string> hung;
  Watchdog watchdog(std::chrono::milliseconds(1), [&](const std::string& step) {
    hung.push_back(step);
    own.set_value();
  });
  EXPECT_EQ(CheckCuda(answer, watchdog).size(), 2u);
  EXPECT_THAT(hung, ::testing::ElementsAre("the self-test (convolutions, sums) of CUDA device 0, A,"));
}

// The one rank of a group of two whose other rank has a device or has none.
class OneOfTwo final : public Collective {
 public:
  explicit OneOfTwo(int64_t other) : other_(other) {}
  int rank() const override { return 0; }
  int world_size() const override { return 2; }
  std::unique_ptr<PendingReduce> StartAllReduceSum(std::span<float>) override { return nullptr; }
  void AllReduceSum(std::span<float>) override {}
  void AllReduceSum(std::span<double>) override {}
  void AllReduceSum(std::span<int64_t> values) override { values[0] += other_; }
  void Broadcast(std::span<char>, int) override {}
  std::string BroadcastText(const std::string& text, int) override { return text; }
  void Barrier() override {}
  [[noreturn]] void Abort(int exit_code) override { std::_Exit(exit_code); }

 private:
  int64_t other_;
};

TEST(Checks, TheRanksDevicesSumAsTrainingDoesWhereAllHaveOne) {
  const cuda::PluginTable right{.rank_self_test = [](Collective& collective, int device) -> Result<std::string> {
    return fmt::format("{} ranks, device {}: right", collective.world_size(), device);
  }};
  const cuda::PluginTable wrong{
      .rank_self_test = [](Collective&, int) -> Result<std::string> { return Fail(ErrorCode::kUnavailable, "NCCL says no"); }};
  CudaAnswer answer{.compiled_in = true};
  answer.devices = {{"A", 1, 80}, {"B", 1, 80}};
  OneOfTwo with(1), without(0);
  answer.table = &right;
  const auto good = CheckDeviceSum(with, answer, 1);
  ASSERT_EQ(good.size(), 1u);
  EXPECT_EQ(good[0].health, Health::kGood);
  EXPECT_EQ(good[0].text, "2 ranks, device 1: right");
  answer.table = &wrong;
  EXPECT_EQ(CheckDeviceSum(with, answer, 1)[0].health, Health::kBad);
  EXPECT_EQ(CheckDeviceSum(without, answer, 1)[0].health, Health::kNote) << "the other rank cannot take part";
  EXPECT_TRUE(CheckDeviceSum(without, {}, 0).empty());
}

}  // namespace
}  // namespace plateau
