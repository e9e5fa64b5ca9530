// The programs with a machine that seems to have two GPUs: the coordinator hears of them, gives them away, and its ranks train on
// what they were given. The devices are stand-ins on the host: this is about who gets which, never about a device.
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/house.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class DeviceSchedule : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string library = PLATEAU_BIN_DIR "/../tests/libplateau_cuda_pretended.so";
    ASSERT_TRUE(std::filesystem::exists(library)) << library;
    ::setenv("PLATEAU_CUDA_LIBRARY", library.c_str(), 1);
    ::setenv("PLATEAU_PRETENDED_DEVICES", "2", 1);
    ::setenv("XDG_CACHE_HOME", cache_.path().c_str(), 1);
    ::unsetenv("CUDA_VISIBLE_DEVICES");
  }
  void TearDown() override {
    for (const char* name : {"PLATEAU_CUDA_LIBRARY", "PLATEAU_PRETENDED_DEVICES", "XDG_CACHE_HOME"}) ::unsetenv(name);
  }
  static Json Spec(const House& house, const std::string& name, const std::string& device, int workers) {
    Json spec = house.Spec(name);
    spec["model"] = {{"network", "lenet"}};
    spec["data"]["crop"] = 28;
    spec["training"]["max_steps"] = 4;
    spec["resources"] = {{"workers", workers},
                         {"device", device},
                         {"collective", device == "cpu" ? "auto" : "mpi"}};  // the stand-in for NCCL joins threads only
    return spec;
  }
  static std::string Log(const House& house, const std::string& id, int rank) {
    PosixFileSystem files;
    return files.Read(fmt::format("{}/jobs/{}/attempt-1/logs/rank-{}.log", house.state(), id, rank)).value_or("");
  }

  TempFolder cache_;
};

TEST_F(DeviceSchedule, RanksTrainOnTheGpusThatTheyWereGiven) {
  House house;
  const Ran nodes = RunPlateau("node list --state " + house.state());
  EXPECT_THAT(nodes.out, HasSubstr("GPUs 0 of 2 in use: 0 Emulated device")) << nodes.out;
  const std::string both = house.Submit(Spec(house, "both", "auto", 2)), next = house.Submit(Spec(house, "next", "cuda", 1)),
                    cpu = house.Submit(Spec(house, "cpu", "cpu", 1));
  const Json trained = house.AwaitEnd(both);
  EXPECT_EQ(trained["state"], "COMPLETED") << trained.dump(1) << Log(house, both, 0);
  EXPECT_EQ(trained["device"], "cuda");
  EXPECT_EQ(trained["attempts"][0]["nodes"][0]["gpus"], Json::parse(R"(["0","1"])"));
  EXPECT_EQ(trained["spec"]["resources"]["device"], "auto");
  for (int rank = 0; rank < 2; ++rank)
    EXPECT_THAT(Log(house, both, rank), HasSubstr(fmt::format("GPU {} of this host is this rank's", rank)));
  EXPECT_THAT(Log(house, both, 0), HasSubstr("resources.device: cuda takes Emulated device"));
  const Json after = house.AwaitEnd(next);
  EXPECT_EQ(after["state"], "COMPLETED") << after.dump(1) << Log(house, next, 0);
  EXPECT_GE(after["started"].get<std::string>(), trained["ended"].get<std::string>()) << "both GPUs were taken until then";
  EXPECT_EQ(house.AwaitEnd(cpu)["device"], "cpu");
  EXPECT_THAT(Log(house, cpu, 0), Not(HasSubstr("Emulated device")));
}

// `plateau up --gpus 1` on a machine that has none.
TEST_F(DeviceSchedule, AClaimedGpuThatIsNotThereHoldsTheJobAndUsesUpNoRestart) {
  ::setenv("PLATEAU_PRETENDED_DEVICES", "0", 1);
  House house("--link 127.0.0.1:0 --gpus 1");
  const std::string id = house.Submit(Spec(house, "phantom", "cuda", 1));
  const Json held = house.Await(id, [](const Json& job) { return House::Ended(job) || job["state"] == "HELD"; });
  EXPECT_EQ(held["state"], "HELD") << held.dump(1) << Log(house, id, 0);
  EXPECT_EQ(held["reason"], "NO_GPU");
  EXPECT_THAT(held.value("message", ""), HasSubstr("GPU 0 of localhost does not (the CUDA driver reports no device"));
  EXPECT_EQ(held["restarts"], 0);
  EXPECT_EQ(held["attempts"].size(), 1u);
  EXPECT_THAT(RunPlateau("node list --state " + house.state()).out, HasSubstr("GPUs none: GPU 0 does not answer"));
  const Json any = house.AwaitEnd(house.Submit(Spec(house, "any", "auto", 1)));
  EXPECT_EQ(any["state"], "COMPLETED") << any.dump(1);
  EXPECT_EQ(any["device"], "cpu");
}

}  // namespace
}  // namespace plateau::test
