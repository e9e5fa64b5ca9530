// kill -9 at random moments of an epoch: a rank, mpirun, the supervisor, the coordinator, the whole tree. Each time the job
// finishes after what is dead is started again, and what is compared is bits. PLATEAU_TEST_SEED repeats a run's moments.
#include <cerrno>
#include <csignal>
#include <cstring>
#include <cstdlib>
#include <functional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/gang_watch.h"
#include "tests/support/house.h"
#include "tests/support/outcome.h"
#include "tests/support/polling.h"

namespace plateau::test {
namespace {

constexpr int kStepsPerEpoch = 8;

uint64_t Seed() {
  const char* given = std::getenv("PLATEAU_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "PLATEAU_TEST_SEED=" << seed << std::endl;
  return seed;
}

bool IsGone(pid_t pid) {
  const auto info = ReadProcess(pid);
  return !info || info->state == 'Z';
}

class KillMatrix : public ::testing::Test {
 protected:
  Json Spec(const std::string& name) const {
    Json spec = house_.Spec(name);
    spec["training"]["max_steps"] = 280;
    spec["fault"]["max_restarts"] = 20;
    return spec;
  }
  int Random(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  // Somewhere inside an epoch, with epochs before and behind it. No event marks such a moment, so the last part is a sleep.
  void AwaitRandomMoment(const std::string& id) {
    const int epoch = Random(3, 20), delay_ms = Random(0, 60);
    const Json job = house_.Await(id, [&](const Json& one) { return House::Ended(one) || one["step"] >= epoch * kStepsPerEpoch; });
    ASSERT_FALSE(House::Ended(job)) << job.dump(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    std::cout << "killed after epoch " << epoch << " and " << delay_ms << " ms" << std::endl;
  }
  Json SupervisorOf(const std::string& id, int attempt) const {
    PosixFileSystem files;
    const auto text = files.Read(fmt::format("{}/jobs/{}/attempt-{}/supervisor.json", house_.state(), id, attempt));
    return text ? Json::parse(*text) : Json::object();
  }
  pid_t Supervisor(const std::string& id, int attempt = 1) const { return SupervisorOf(id, attempt).value("pid", 0); }
  pid_t Mpirun(const std::string& id, int attempt = 1) const { return SupervisorOf(id, attempt).value("mpirun_pid", 0); }

  // Submits a job, lets `kill` do its work at a random moment, and compares the end with a calm run's. Returns the job.
  Json Disturb(const std::function<void(const std::string& id)>& kill) {
    const Outcome calm = Undisturbed(house_, Spec("calm"));
    const std::string id = house_.Submit(Spec("disturbed"));
    const GangWatch watch(house_.state(), id);
    AwaitRandomMoment(id);
    if (HasFatalFailure()) return Json::object();
    kill(id);
    const Json job = house_.AwaitEnd(id);
    EXPECT_TRUE(OutcomeOf(house_, job) == calm) << "other bits or decisions than the undisturbed run";
    ExpectNothingLeft(house_, id, watch);
    EXPECT_LE(watch.AttemptsSeen().size(), job["attempts"].size()) << "an attempt may die before its first process is seen";
    return job;
  }
  void Kill9(pid_t pid) {
    ASSERT_GT(pid, 0) << "what should be killed is not there";
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
  }

  House house_;
  std::mt19937_64 random_{Seed()};
};

TEST_F(KillMatrix, Rank) {
  const Json job = Disturb([&](const std::string& id) { Kill9(house_.PidOfRank(id, Random(0, 1))); });
  EXPECT_EQ(job["attempts"].size(), 2u);
  EXPECT_EQ(job["restarts"], 1);
}

TEST_F(KillMatrix, Mpirun) {
  const Json job = Disturb([&](const std::string& id) { Kill9(Mpirun(id)); });
  EXPECT_EQ(job["attempts"].size(), 2u);
}

TEST_F(KillMatrix, Supervisor) {
  const Json job = Disturb([&](const std::string& id) { Kill9(Supervisor(id)); });
  EXPECT_EQ(job["attempts"].size(), 2u);
}

TEST_F(KillMatrix, Coordinator) {
  const Json job = Disturb([&](const std::string&) {
    house_.KillCoordinator();
    house_.Up();
  });
  EXPECT_EQ(job["attempts"].size(), 1u) << "the workers should have lived on";
  EXPECT_FALSE(house_.HadEvent(job["id"], "killing")) << "rank 0 was left waiting for an answer";
}

TEST_F(KillMatrix, WholeTree) {
  const Json job = Disturb([&](const std::string& id) {
    std::vector<pid_t> tree{house_.CoordinatorPid(), Supervisor(id), Mpirun(id), house_.PidOfRank(id, 0), house_.PidOfRank(id, 1)};
    std::shuffle(tree.begin(), tree.end(), random_);
    for (const pid_t pid : tree) {  // one that follows a killed parent may be gone before its turn
      ASSERT_GT(pid, 0) << "what should be killed is not there";
      ASSERT_TRUE(::kill(pid, SIGKILL) == 0 || errno == ESRCH) << std::strerror(errno);
    }
    for (const pid_t pid : tree) ASSERT_TRUE(Eventually([&] { return IsGone(pid); })) << pid;
    house_.Up();
  });
  EXPECT_EQ(job["attempts"].size(), 2u);
}

TEST_F(KillMatrix, CoordinatorAndARankWhileItIsAway) {
  const Json job = Disturb([&](const std::string& id) {
    house_.KillCoordinator();
    Kill9(house_.PidOfRank(id, 1));
    const std::string exit = fmt::format("{}/jobs/{}/attempt-1/exit.json", house_.state(), id);
    ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(exit); })) << "the supervisor ends the attempt alone";
    house_.Up();
  });
  EXPECT_EQ(job["attempts"].size(), 2u);
}

// Anything, at any time: in a start, between two attempts, while the coordinator is away.
TEST_F(KillMatrix, AnythingAgainAndAgain) {
  const Json job = Disturb([&](const std::string& id) {
    for (int round = 0; round < 6; ++round) {
      const int attempt = static_cast<int>(house_.Job(id)["attempts"].size());
      const int victim = Random(0, 4);
      const char* const names[] = {"coordinator", "supervisor", "mpirun", "rank 0", "rank 1"};
      pid_t pid = house_.CoordinatorPid();
      if (victim == 1) pid = Supervisor(id, attempt);
      if (victim == 2) pid = Mpirun(id, attempt);
      if (victim >= 3) pid = house_.PidOfRank(id, victim - 3);
      const int delay_ms = Random(0, 1'500);
      std::cout << "attempt " << attempt << ": " << names[victim] << " (" << pid << "), then " << delay_ms << " ms" << std::endl;
      if (pid > 0) ::kill(pid, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
      if (victim == 0) {
        ASSERT_TRUE(Eventually([&] { return IsGone(pid); }));
        house_.Up();
      }
    }
  });
  EXPECT_GE(job["attempts"].size(), 1u);
}

TEST_F(KillMatrix, StepsRunOnAndAValidationWaitsWhileTheCoordinatorIsAway) {
  Json spec = Spec("away");
  spec["validation"]["every"] = "20ep";  // due at step 160; checkpoints at 21, 42, ... 147
  const Outcome calm = Undisturbed(house_, spec);
  const std::string id = house_.Submit(spec);
  const GangWatch watch(house_.state(), id);
  house_.AwaitCheckpoint(id);
  house_.KillCoordinator();
  const std::string attempt = fmt::format("{}/{}/attempt-1", house_.runs(), id);
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(attempt + "/step-000000147"); }, 60'000)) << "steps run on";
  PosixFileSystem files;
  const std::string log = fmt::format("{}/jobs/{}/attempt-1/logs/rank-0.log", house_.state(), id);
  const auto waits = [&] { return files.Read(log).value_or("").find("no decision on validation 1 yet") != std::string::npos; };
  ASSERT_TRUE(Eventually(waits, 60'000)) << "the validation waits, and says so: " << files.Read(log).value_or("");
  EXPECT_FALSE(std::filesystem::exists(attempt + "/step-000000168")) << "nothing is decided without the coordinator";
  house_.Up();
  const Json job = house_.AwaitEnd(id);
  EXPECT_EQ(job["attempts"].size(), 1u);
  EXPECT_TRUE(OutcomeOf(house_, job) == calm);
  EXPECT_FALSE(house_.HadEvent(id, "hang")) << "waiting for the coordinator is no hang";
  ExpectNothingLeft(house_, id, watch);
}

}  // namespace
}  // namespace plateau::test
