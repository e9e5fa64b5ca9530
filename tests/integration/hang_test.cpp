// A hang through the real programs: named within fault.hang_timeout, its traces kept, its gang relaunched to the same bits.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/gang_watch.h"
#include "tests/support/house.h"
#include "tests/support/outcome.h"
#include "tests/support/polling.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

constexpr double kHangTimeoutS = 3;
// mpirun continues a stopped rank and gives the gang up to two more seconds before it kills it: too little for these steps.
constexpr int kSteps = 1600;

class Hang : public ::testing::Test {
 protected:
  Json Spec(const std::string& name) const {
    Json spec = house_.Spec(name);
    spec["training"]["max_steps"] = kSteps;
    spec["fault"] = {{"hang_timeout", fmt::format("{}s", kHangTimeoutS)}, {"max_restarts", 10}};
    return spec;
  }
  // The outcome of a calm run, whose ranks may be slow.
  Outcome Calm() const {
    Json spec = Spec("calm");
    spec["fault"]["hang_timeout"] = "120s";
    return Undisturbed(house_, spec);
  }
  // The number of the attempt that trains, once all of its ranks are heard.
  int AwaitTraining(const std::string& id) const {
    house_.AwaitCheckpoint(id);
    const Json job = house_.Await(id, [](const Json& one) { return House::Ended(one) || one["state"] == "RUNNING"; });
    EXPECT_EQ(job["state"], "RUNNING");
    return job["attempt"];
  }
  // The hang event of an attempt; null without one.
  Json HangOf(const std::string& id, int attempt) const {
    for (const auto& event : house_.Events(id))
      if (event["type"] == "hang" && event["attempt"] == attempt) return event;
    return nullptr;
  }
  Json AwaitHang(const std::string& id, int attempt) const {
    house_.Await(id, [&](const Json& job) { return House::Ended(job) || !HangOf(id, attempt).is_null(); });
    return HangOf(id, attempt);
  }
  std::string Log(const std::string& id, int attempt, const std::string& file) const {
    const auto log = house_.Api().GetRaw(JobPath(id, fmt::format("/logs?attempt={}&file={}", attempt, file)));
    EXPECT_TRUE(log.has_value() && log->status == 200) << file;
    return log ? log->body : "";
  }
  House house_;
};

TEST_F(Hang, AStoppedRankIsNamedTracedAndItsGangRelaunchedToTheSameBits) {
  const Outcome calm = Calm();
  const std::string id = house_.Submit(Spec("stopped"));
  const GangWatch watch(house_.state(), id);
  const int attempt = AwaitTraining(id);
  const pid_t victim = house_.PidOfRank(id, 1);
  ASSERT_GT(victim, 0);
  const auto stopped = std::chrono::steady_clock::now();
  ASSERT_EQ(::kill(victim, SIGSTOP), 0);
  const Json hang = AwaitHang(id, attempt);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - stopped;
  ASSERT_FALSE(hang.is_null()) << house_.Job(id).dump(1);
  std::cout << hang["message"] << " after " << took.count() << " s" << std::endl;
  EXPECT_EQ(hang["rank"], 1);
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  EXPECT_EQ(hang["host"], host);
  EXPECT_LT(hang["step"], kSteps);
  EXPECT_NE(hang["phase"], "");
  EXPECT_GE(hang["silent_s"], kHangTimeoutS);
  EXPECT_LT(took.count(), kHangTimeoutS + 10) << "the bound is loose for a loaded machine: quiet, it is below the timeout";

  const Json job = house_.AwaitEnd(id);
  EXPECT_GT(job["attempts"].size(), attempt) << "it is relaunched by itself";
  EXPECT_EQ(job["attempts"][attempt - 1]["reason"], "HANG");
  EXPECT_TRUE(OutcomeOf(house_, job) == calm);
  ExpectNothingLeft(house_, id, watch);

  const std::string report = Log(id, attempt, "hang.txt");
  const size_t at = report.find(fmt::format("process {}\n", victim));
  ASSERT_NE(at, std::string::npos) << report;
  EXPECT_THAT(report.substr(at, 200), HasSubstr("State:\tT (stopped)"));
  EXPECT_THAT(report, HasSubstr("Name:\tmpirun"));
  const std::string traces = Log(id, attempt, "rank-0.log");
  EXPECT_THAT(traces, HasSubstr("=== stack traces of process"));
  EXPECT_THAT(traces, HasSubstr("TrainLoop")) << "functions have names";
  EXPECT_THAT(RunPlateau("logs --list --state " + house_.state() + " " + id).out, HasSubstr("hang.txt"));
}

// Rank 0 writes metrics.jsonl into a pipe that is full and that nobody reads: its heartbeats go on, its training does not.
TEST_F(Hang, ARankThatBlocksOnStorageIsNamedAlthoughAllSendHeartbeats) {
  const Outcome calm = Calm();
  const std::string id = house_.Submit(Spec("blocked"));
  const int blocked_attempt = AwaitTraining(id) + 1;
  const std::string folder = fmt::format("{}/{}/attempt-{}", house_.runs(), id, blocked_attempt), pipe = folder + "/metrics.jsonl";
  std::filesystem::create_directories(folder);
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0644), 0);
  const int end = ::open(pipe.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(end, 0);
  while (::write(end, "full", 4) > 0) {
  }
  ASSERT_EQ(::kill(house_.PidOfRank(id, 1), SIGKILL), 0);  // the next attempt finds the pipe
  const Json hang = AwaitHang(id, blocked_attempt);
  ASSERT_FALSE(hang.is_null()) << house_.Job(id).dump(1);
  std::cout << hang["message"] << std::endl;
  EXPECT_EQ(hang["rank"], 0);
  EXPECT_EQ(hang["phase"], "report");
  EXPECT_GE(hang["stalled_s"], kHangTimeoutS);
  EXPECT_THAT(hang["message"].get<std::string>(), HasSubstr("keeps the other rank waiting in a collective call"));

  const Json job = house_.AwaitEnd(id);
  EXPECT_GT(job["attempts"].size(), blocked_attempt);
  ::close(end);  // before that it would let the blocked rank go on while its stack is taken
  EXPECT_TRUE(OutcomeOf(house_, job) == calm);
  const std::string blocked = Log(id, blocked_attempt, "rank-0.log"), waiting = Log(id, blocked_attempt, "rank-1.log");
  EXPECT_THAT(blocked, HasSubstr("Reporter")) << "the trace shows where it blocks";
  EXPECT_THAT(waiting, HasSubstr("=== end of stack traces"));
}

}  // namespace
}  // namespace plateau::test
