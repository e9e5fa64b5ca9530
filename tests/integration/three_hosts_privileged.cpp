// Training over three hosts, each a network namespace: mpirun over the coordinator's hostfile; one host's link is cut in the middle
// of an epoch, the verdict names it, and after it is healed the job finishes with the bits of an undisturbed run. Needs root; skipped
// with a message without it.
#include <gmock/gmock.h>

#include "tests/support/house.h"
#include "tests/support/namespace_hosts.h"
#include "tests/support/polling.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

constexpr double kHangTimeoutS = 3;
constexpr int kSteps = 320;

class ThreeHosts : public ::testing::Test {
 protected:
  ThreeHosts() : hosts_(3) {}
  std::string UpOptions() const {
    return fmt::format("--link {}:0 --hostfile {} --rsh-agent {}", NamespaceHosts::kOwnAddress, hosts_.Hostfile(1), hosts_.agent());
  }
  static Json Spec(const House& house, const std::string& name) {
    Json spec = house.Spec(name);
    spec["training"]["max_steps"] = kSteps;
    spec["resources"]["workers"] = 3;
    spec["fault"]["hang_timeout"] = fmt::format("{}s", kHangTimeoutS);
    return spec;
  }
  static Json FindEvent(const House& house, const std::string& id, const std::string& type) {
    const Json events = *house.Api().Get(JobPath(id, "/events"));
    for (const auto& event : events["events"])
      if (event["type"] == type) return event;
    return Json();
  }
  static bool NodeIs(const House& house, const std::string& node, const std::string& state) {
    return house.Api().Get("/v1/nodes/" + node)->value("state", "") == state;
  }
  // Ranks of this attempt that live anywhere on this machine, in whatever namespace.
  static std::vector<std::string> RanksOf(const std::string& id, int attempt) {
    PosixFileSystem files;
    std::vector<std::string> ranks;
    const std::string wanted = std::string("\0--job\0", 7) + id + std::string("\0--attempt\0", 11) + std::to_string(attempt) + '\0';
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const auto arguments = files.Read(entry.path().string() + "/cmdline");
      if (arguments && arguments->find(wanted) != std::string::npos && arguments->find("mpirun") == std::string::npos)
        ranks.push_back(entry.path().filename());
    }
    return ranks;
  }
  bool NobodyIsLeft() const {
    return Eventually(
        [&] {
          for (int host = 1; host <= 3; ++host)
            if (!hosts_.Pids(host).empty()) return false;
          return true;
        },
        60'000);
  }

  NamespaceHosts hosts_;
};

TEST_F(ThreeHosts, ACutLinkIsNamedAndTheHealedJobEndsWithTheSameBits) {
  if (!hosts_.trouble().empty()) GTEST_SKIP() << hosts_.trouble();
  House house(UpOptions());
  for (const char* node : {"n1", "n2", "n3"}) ASSERT_TRUE(Eventually([&] { return NodeIs(house, node, "READY"); })) << node;
  const Json calm = house.AwaitEnd(house.Submit(Spec(house, "calm")));
  ASSERT_EQ(calm["state"], "COMPLETED") << calm.dump(1);
  const std::string bits = house.FinalModel(calm);
  ASSERT_GT(bits.size(), 1000u);
  EXPECT_EQ(calm["attempts"][0]["nodes"].size(), 3u);

  const std::string id = house.Submit(Spec(house, "cut"));
  const Json running = house.Await(id, [](const Json& job) {
    return House::Ended(job) || (job["state"] == "RUNNING" && job["checkpoint"].is_object());
  });
  ASSERT_FALSE(House::Ended(running)) << running.dump(1);
  ASSERT_NE(running["checkpoint"]["step"].get<int>() % 8, 0) << "the checkpoint should lie within an epoch";
  ASSERT_EQ(RanksOf(id, 1).size(), 3u);
  hosts_.Cut(3);
  const auto waits_for_host = [](const Json& job) { return House::Ended(job) || job["reason"] == "WAITING_FOR_HOST"; };
  const Json waiting = house.Await(id, waits_for_host);
  EXPECT_EQ(waiting["state"], "QUEUED") << waiting.dump(1);
  EXPECT_THAT(waiting["message"].get<std::string>(), HasSubstr("n3"));
  EXPECT_TRUE(NodeIs(house, "n3", "LOST"));
  const Json verdict = FindEvent(house, id, "lost_host");
  ASSERT_TRUE(verdict.is_object()) << RunPlateau("watch --until-step 0 --events 100 --state " + house.state() + " " + id).out;
  EXPECT_EQ(verdict["host"], "n3");
  EXPECT_EQ(verdict["ranks"], "2");
  EXPECT_GE(verdict["silent_s"].get<double>(), kHangTimeoutS);
  EXPECT_LT(verdict["silent_s"].get<double>(), 3 * kHangTimeoutS) << "a verdict is due when the timeout is over";
  EXPECT_EQ(waiting["attempts"][0]["reason"], "LOST_HOST");

  hosts_.Heal(3);
  const Json job = house.AwaitEnd(id);
  EXPECT_EQ(job["state"], "COMPLETED") << job.dump(1);
  EXPECT_EQ(job["attempts"].size(), 2u);
  EXPECT_TRUE(house.FinalModel(job) == bits) << "other bits than the undisturbed run's";
  EXPECT_TRUE(Eventually([&] { return RanksOf(id, 1).empty(); })) << "ranks of the cut attempt live on";
  EXPECT_TRUE(NobodyIsLeft()) << "processes are left on a host";
}

}  // namespace
}  // namespace plateau::test
