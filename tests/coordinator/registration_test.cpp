// Runs of a user's own mpirun through a whole coordinator: registered once, heard like any other, never started by it.
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/coordinator_daemon.h"
#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

class Registration : public ::testing::Test {
 protected:
  Registration() : daemon_(home_.Start()) {}

  std::string JoinToken() const {
    std::string token;
    std::ifstream(home_.path("state/join-token")) >> token;
    return token;
  }
  Register Run(const std::string& key = "k1", const std::string& hang_timeout = "60s") const {
    auto spec = home_.Spec(2);
    spec["fault"]["hang_timeout"] = hang_timeout;
    return {key, spec.dump(), {"node-a", "node-b"}};
  }
  CoordinatorReply Ask(const Register& run, const std::string& job = "", std::string token = "") {
    if (token.empty()) token = JoinToken();
    FakeRank rank(*daemon_, {.job = job, .token = token, .host = "node-a", .pid = 7});
    return rank.Ask(run);
  }
  Registered Join(const Register& run, const std::string& job = "") {
    const auto reply = Ask(run, job);
    const auto* registered = std::get_if<Registered>(&reply);
    EXPECT_NE(registered, nullptr) << (registered == nullptr ? std::get<Refused>(reply).reason : "");
    return registered == nullptr ? Registered{} : *registered;
  }
  std::string WhyRefused(const Register& run, const std::string& job = "", const std::string& token = "") {
    const auto reply = Ask(run, job, token);
    const auto* refused = std::get_if<Refused>(&reply);
    return refused == nullptr ? "it was not refused" : refused->reason;
  }
  std::unique_ptr<FakeRank> Rank(const Registered& as, int rank) {
    return std::make_unique<FakeRank>(
        *daemon_, Sender{.job = as.job, .attempt = as.attempt, .token = as.token, .rank = rank, .host = "node", .pid = 7});
  }
  static bool Hears(FakeRank& rank) { return std::holds_alternative<HeartbeatReply>(rank.Ask(Heartbeat{1, "data"})); }
  nlohmann::json Job(const std::string& id) { return GetJson(*daemon_, "/v1/jobs/" + id); }

  CoordinatorHome home_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(Registration, OnceAndOnlyWithTheJoinToken) {
  EXPECT_EQ(std::filesystem::status(home_.path("state/join-token")).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_THAT(WhyRefused(Run(), "", "0123456789abcdef0123456789abcdef"), HasSubstr("wrong join token"));
  EXPECT_TRUE(GetJson(*daemon_, "/v1/jobs").at("jobs").empty());
  const Registered first = Join(Run());
  EXPECT_EQ(first.job, "small-1");
  EXPECT_EQ(first.attempt, 1);
  EXPECT_NE(first.token, JoinToken());
  const Registered repeated = Join(Run());  // its answer was lost
  EXPECT_EQ(repeated.job, "small-1");
  EXPECT_EQ(repeated.token, first.token);
  EXPECT_EQ(Join(Run("k2")).job, "small-2");
  EXPECT_TRUE(std::filesystem::is_directory(home_.path("runs/small-1")));
  EXPECT_FALSE(std::filesystem::exists(home_.path("state/jobs/small-1"))) << "nothing is launched";
  EXPECT_EQ(Job("small-1").at("attempts").at(0).at("external"), true);
}

TEST_F(Registration, ASpecificationThatIsNoneIsRefused) {
  Register run = Run();
  run.spec = R"({"version": 1, "kind": "train", "nam": "small"})";
  EXPECT_THAT(WhyRefused(run), HasSubstr("name"));
  run = Run();
  run.hosts.pop_back();
  EXPECT_THAT(WhyRefused(run), HasSubstr("1 hosts for 2 workers"));
  EXPECT_THAT(WhyRefused(Run(), "small-7"), HasSubstr("small-7 is not known"));
  EXPECT_TRUE(GetJson(*daemon_, "/v1/jobs").at("jobs").empty());
}

TEST_F(Registration, ItsRanksAreHeardDecidedForAndPublishedAndItsEndIsTheEnd) {
  const Registered own = Join(Run());
  const auto zero = Rank(own, 0), one = Rank(own, 1);
  EXPECT_TRUE(Hears(*zero));
  EXPECT_EQ(Job("small-1").at("state"), "STARTING");
  EXPECT_TRUE(Hears(*one));
  EXPECT_EQ(Job("small-1").at("state"), "RUNNING");
  EXPECT_TRUE(std::holds_alternative<DecisionReply>(zero->Ask(Validation(1, 500))));
  home_.Write("runs/small-1/attempt-1/step-000000100/manifest.json", "{}");
  EXPECT_TRUE(std::holds_alternative<Published>(
      zero->Ask(CheckpointReport{.step = 100, .path = "attempt-1/step-000000100", .lineage = 1})));
  EXPECT_EQ(home_.WaitForJson("runs/small-1/current.json").at("path"), "attempt-1/step-000000100");
  EXPECT_TRUE(std::holds_alternative<Published>(zero->Ask(Finished{100, "MAX_EPOCHS"})));
  const auto job = Job("small-1");
  EXPECT_EQ(job.at("state"), "COMPLETED");
  EXPECT_EQ(job.at("reason"), "MAX_EPOCHS");
  EXPECT_TRUE(Hears(*one)) << "it is still leaving MPI";
  EXPECT_TRUE(std::holds_alternative<Published>(zero->Ask(Finished{100, "MAX_EPOCHS"}))) << "the answer may have been lost";
  EXPECT_TRUE(std::holds_alternative<Refused>(zero->Ask(Validation(2, 500))));
  EXPECT_THAT(WhyRefused(Run("k2"), "small-1"), HasSubstr("COMPLETED"));
}

TEST_F(Registration, ItLivesThroughARestartOfTheCoordinatorAndTakesNoCores) {
  const Registered own = Join(Run());
  for (const int rank : {0, 1}) EXPECT_TRUE(Hears(*Rank(own, rank)));
  daemon_.reset();
  daemon_ = home_.Start();
  for (const int rank : {0, 1}) EXPECT_TRUE(Hears(*Rank(own, rank)));
  EXPECT_EQ(Job("small-1").at("state"), "RUNNING");
  EXPECT_EQ(Join(Run()).token, own.token) << "the key is remembered";
  EXPECT_THAT(WhyRefused(Run("k2"), "small-1"), HasSubstr("attempt 1 of job small-1 is RUNNING"));
  ASSERT_EQ(PostJson(*daemon_, "/v1/jobs", home_.Spec(4).dump()).status, 201);  // as many as there are cores
  EXPECT_TRUE(ReachesState(*daemon_, "small-2", "STARTING"));
}

TEST_F(Registration, SilentRanksAreGivenUpAndOnlyTheirUserCanGoOn) {
  const Registered own = Join(Run("k1", "2s"));
  const auto zombie = Rank(own, 0);
  for (const int rank : {0, 1}) EXPECT_TRUE(Hears(*Rank(own, rank)));
  ASSERT_TRUE(ReachesState(*daemon_, "small-1", "FAILED"));
  EXPECT_THAT(Job("small-1").at("message").get<std::string>(), HasSubstr("--job small-1"));
  const auto resume = PostJson(*daemon_, "/v1/jobs/small-1/resume");
  EXPECT_EQ(resume.status, 409);
  EXPECT_THAT(resume.body, HasSubstr("--job small-1"));
  const Registered again = Join(Run("k2"), "small-1");
  EXPECT_EQ(again.job, "small-1");
  EXPECT_EQ(again.attempt, 2);
  EXPECT_TRUE(std::holds_alternative<Refused>(zombie->Ask(Heartbeat{9, "data"}))) << "it woke up too late";
  EXPECT_TRUE(Hears(*Rank(again, 0)));
}

TEST_F(Registration, ACancelReachesItsRanksAndAPauseLetsThemComeBack) {
  const Registered own = Join(Run());
  const auto zero = Rank(own, 0);
  EXPECT_TRUE(Hears(*zero));
  ASSERT_EQ(PostJson(*daemon_, "/v1/jobs/small-1/pause").status, 202);
  const auto order = zero->Ask(Heartbeat{2, "data"});
  ASSERT_TRUE(std::holds_alternative<HeartbeatReply>(order));
  EXPECT_EQ(std::get<HeartbeatReply>(order).command, WorkerCommand::kStop);
  EXPECT_TRUE(std::holds_alternative<Published>(zero->Ask(Finished{3, "STOPPED"})));
  EXPECT_EQ(Job("small-1").at("state"), "PAUSED");
  const Registered again = Join(Run("k2"), "small-1");
  const auto rank = Rank(again, 0);
  EXPECT_TRUE(Hears(*rank));
  ASSERT_EQ(PostJson(*daemon_, "/v1/jobs/small-1/cancel").status, 202);
  ASSERT_EQ(PostJson(*daemon_, "/v1/jobs/small-1/cancel").status, 202);  // now
  EXPECT_EQ(Job("small-1").at("state"), "CANCELLED");
  EXPECT_TRUE(std::holds_alternative<Refused>(rank->Ask(Heartbeat{4, "data"})));
}

TEST_F(Registration, AStopByItsUserPausesTheJob) {
  const Registered own = Join(Run());
  const auto zero = Rank(own, 0);
  EXPECT_TRUE(Hears(*zero));
  EXPECT_TRUE(std::holds_alternative<Published>(zero->Ask(Finished{3, "STOPPED"})));  // Ctrl-C on mpirun
  EXPECT_EQ(Job("small-1").at("state"), "PAUSED");
  EXPECT_THAT(Job("small-1").at("message").get<std::string>(),
              HasSubstr("stopped by its user; the attempt had not begun its first step; "));
  EXPECT_THAT(Job("small-1").at("message").get<std::string>(), HasSubstr("--job small-1"));
}

TEST_F(Registration, AFailureThatItTellsEndsTheAttemptSoon) {
  home_.options.limits.failure_grace_ms = 100;
  daemon_.reset();
  daemon_ = home_.Start();
  const Registered own = Join(Run());
  const auto one = Rank(own, 1);
  EXPECT_TRUE(Hears(*one));
  one->Tell(Failed{.reason = "IO", .message = "disk full", .step = 5});
  ASSERT_TRUE(ReachesState(*daemon_, "small-1", "FAILED"));
  EXPECT_EQ(Job("small-1").at("reason"), "IO");
  EXPECT_THAT(Job("small-1").at("message").get<std::string>(), HasSubstr("disk full"));
}

}  // namespace
}  // namespace plateau::test
