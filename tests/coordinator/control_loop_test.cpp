// The control loop by hand: a clock that the test turns, a launcher that only notes, a store on a real disk that can be reopened.
#include "coordinator/control_loop.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sys/resource.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "coordinator/pipeline/expand.h"
#include "tests/support/jobs.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NotingLauncher final : public Launcher {
 public:
  Result<int64_t> Start(const LaunchRequest& request) override {
    if (fail) return Fail(ErrorCode::kIo, "no room");
    started.push_back(fmt::format("{}/{}", request.job, request.attempt));
    last = request;
    return int64_t{42};
  }
  void Adopt(const std::string& job, int attempt, const std::string& folder) override {
    adopted.push_back(fmt::format("{}/{} {}", job, attempt, folder));
  }
  void Kill(const std::string& job, int attempt, bool) override { killed.push_back(fmt::format("{}/{}", job, attempt)); }

  bool fail = false;
  std::vector<std::string> started, adopted, killed;
  LaunchRequest last;
};

class ControlLoopTest : public ::testing::Test {
 protected:
  ControlLoopTest() {
    options_.state_folder = folder_.path() + "/state";
    options_.worker = "/bin/true";
    options_.cluster.nodes[0].cores = 4;
    options_.machine_cores = 4;
    Open();
  }

  void Open() {
    store_ = std::move(*Store::Open(folder_.path() + "/db"));
    loop_ = std::make_unique<ControlLoop>(options_, *store_, files_, clock_);
    ASSERT_TRUE(loop_->Recover({.launcher = &launcher_}, "tcp://127.0.0.1:1").has_value());
  }
  // As after kill -9: nothing but the disk is left.
  void Reopen() {
    loop_.reset();
    store_.reset();
    launcher_ = {};
    Open();
  }
  std::shared_ptr<const JobSpec> Spec(int workers = 2, int priority = 50) {
    JobSpec spec = SmallSpec(workers);
    spec.output = folder_.path() + "/runs";
    spec.resources.priority = priority;
    return std::make_shared<const JobSpec>(spec);
  }
  Result<SubmissionAnswer> Submit(Submission submission) {
    Result<SubmissionAnswer> answer = Fail(ErrorCode::kInternal, "not answered");
    loop_->Submit(std::move(submission), [&](Result<SubmissionAnswer> one) { answer = std::move(one); });
    loop_->Turn();
    return answer;
  }
  Result<std::shared_ptr<const Job>> Command(const std::string& id, JobCommand command) {
    Result<std::shared_ptr<const Job>> answer = Fail(ErrorCode::kInternal, "not answered");
    loop_->Command(id, command, [&](auto one) { answer = std::move(one); });
    loop_->Turn();
    return answer;
  }
  void Say(const std::string& id, int rank, const WorkerMessage& message) {
    Post(id, rank, message);
    loop_->Turn();
  }
  void Post(const std::string& id, int rank, const WorkerMessage& message) {
    const auto job = loop_->Find(id);
    LinkMessage heard;
    heard.identity = "peer";
    heard.message = message;
    heard.heard_ms = clock_.MonotonicMs();
    heard.sender.job = id;
    heard.sender.attempt = job->Current()->number;
    heard.sender.token = job->Current()->token;
    heard.sender.rank = rank;
    loop_->Post(std::move(heard));
  }
  void Exit(const std::string& id, int code) {
    loop_->Post(
        ExitNotice{.job = id, .attempt = loop_->Find(id)->Current()->number, .exit_code = code, .message = "mpirun exited"});
    loop_->Turn();
  }
  void Wait(int64_t ms) {
    clock_.AdvanceMs(ms);
    loop_->Turn();
  }
  JobState State(const std::string& id) { return loop_->Find(id)->state; }

  TempFolder folder_;
  PosixFileSystem files_;
  ManualClock clock_{1'000'000};
  ControlLoopOptions options_;
  NotingLauncher launcher_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<ControlLoop> loop_;
};

TEST_F(ControlLoopTest, ASlowDiskOfTheCoordinatorDoesNotMakeItsRanksSilent) {
  ASSERT_TRUE(Submit({.spec = Spec()}).has_value());
  for (const int rank : {0, 1}) Say("small-1", rank, Heartbeat{1, "data"});
  clock_.AdvanceMs(9'000);  // of a hang timeout of 10 s
  loop_->OnEvent([&](const std::string& id) {  // while a validation is being stored five seconds pass, and both ranks are heard
    clock_.AdvanceMs(5'000);
    for (const int rank : {0, 1}) Post(id, rank, Heartbeat{2, "data"});
  });
  Say("small-1", 0, Validation(1, 500));
  loop_->OnEvent({});
  loop_->Turn();
  EXPECT_THAT(launcher_.killed, IsEmpty());
  EXPECT_EQ(State("small-1"), JobState::kRunning);
  Wait(10'000);
  EXPECT_THAT(launcher_.killed, ElementsAre("small-1/1")) << "silence is still seen";
}

TEST_F(ControlLoopTest, ASubmittedJobIsLaunchedWithASecretTokenAndItsSpec) {
  const auto answer = Submit({.spec = Spec()});
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->job->id, "small-1");
  EXPECT_THAT(launcher_.started, ElementsAre("small-1/1"));
  EXPECT_EQ(State("small-1"), JobState::kStarting);
  EXPECT_EQ(loop_->Find("small-1")->Current()->token.size(), 32u);
  const auto stored = LoadJobSpec(options_.state_folder + "/jobs/small-1/attempt-1/spec.json", true);
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ(stored->lr.max_decays, 2);
  EXPECT_TRUE(files_.Exists(folder_.path() + "/runs/small-1"));
}

TEST_F(ControlLoopTest, IdsGoPastOldOutputFoldersSoThatNoCheckpointIsTakenOver) {
  std::filesystem::create_directories(folder_.path() + "/runs/small-1");
  EXPECT_EQ(Submit({.spec = Spec()})->job->id, "small-2");
  EXPECT_EQ(Submit({.spec = Spec()})->job->id, "small-3");
}

TEST_F(ControlLoopTest, AnOutputThatCannotBeMadeIsRefusedAndNothingIsKept) {
  JobSpec spec = *Spec();
  spec.output = "/proc/nowhere";
  const auto answer = Submit({.spec = std::make_shared<const JobSpec>(spec)});
  ASSERT_FALSE(answer.has_value());
  EXPECT_THAT(answer.error().message, HasSubstr("/proc/nowhere"));
  EXPECT_THAT(loop_->All(), IsEmpty());
}

TEST_F(ControlLoopTest, AnIdempotencyKeyIsRememberedAcrossARestart) {
  ASSERT_FALSE(Submit({.spec = Spec(), .idempotency_key = "k", .body_digest = "d"})->repeated);
  Reopen();
  const auto again = Submit({.spec = Spec(), .idempotency_key = "k", .body_digest = "d"});
  EXPECT_TRUE(again->repeated);
  EXPECT_EQ(again->job->id, "small-1");
  const auto other = Submit({.spec = Spec(), .idempotency_key = "k", .body_digest = "e"});
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().code, ErrorCode::kConflict);
  EXPECT_EQ(loop_->All().size(), 1u);
}

TEST_F(ControlLoopTest, JobsShareTheNodeAndTheNextStartsWhenOneEnds) {
  Submit({.spec = Spec(2)}).value();
  Submit({.spec = Spec(2)}).value();
  Submit({.spec = Spec(1, 10)}).value();
  Submit({.spec = Spec(1, 90)}).value();
  EXPECT_THAT(launcher_.started, ElementsAre("small-1/1", "small-2/1"));
  EXPECT_THAT(loop_->Find("small-2")->Current()->shares[0].cores, ElementsAre(2, 3));
  Say("small-1", 0, Finished{5, "MAX_EPOCHS"});
  Exit("small-1", 0);
  EXPECT_THAT(launcher_.started, ElementsAre("small-1/1", "small-2/1", "small-4/1", "small-3/1")) << "the higher priority first";
}

TEST_F(ControlLoopTest, ACrashedAttemptComesBackAfterItsDelay) {
  Submit({.spec = Spec()}).value();
  Exit("small-1", 137);
  EXPECT_EQ(State("small-1"), JobState::kQueued);
  EXPECT_THAT(launcher_.started, ElementsAre("small-1/1"));
  Wait(999);
  EXPECT_EQ(launcher_.started.size(), 1u);
  Wait(1);
  EXPECT_THAT(launcher_.started, ElementsAre("small-1/1", "small-1/2"));
}

TEST_F(ControlLoopTest, AFailedLaunchIsTriedAgainUpToTheLimit) {
  launcher_.fail = true;
  Submit({.spec = Spec()}).value();
  for (int i = 0; i < 10; ++i) Wait(40'000);
  EXPECT_EQ(State("small-1"), JobState::kFailed);
  EXPECT_THAT(loop_->Find("small-1")->message, HasSubstr("no room"));
  EXPECT_EQ(loop_->Find("small-1")->attempts.size(), 3u);
}

TEST_F(ControlLoopTest, ASilentGangIsKilled) {
  Submit({.spec = Spec()}).value();
  Say("small-1", 0, Heartbeat{1, "data"});
  Say("small-1", 1, Heartbeat{1, "data"});
  Wait(9'999);
  EXPECT_THAT(launcher_.killed, IsEmpty());
  Wait(1);
  EXPECT_THAT(launcher_.killed, ElementsAre("small-1/1"));
}

TEST_F(ControlLoopTest, ARestartedCoordinatorGoesOnWithARunningJobAndItsDecisions) {
  Submit({.spec = Spec()}).value();
  for (const int rank : {0, 1}) Say("small-1", rank, Heartbeat{1, "data"});
  Say("small-1", 0, Metrics{.step = 50, .epoch = 0.5, .loss = 2.5, .lr = 0.01});
  Say("small-1", 0, Validation(1, 500));
  Say("small-1", 0, Validation(2, 400));
  const auto before = loop_->Find("small-1");
  Reopen();
  const auto after = loop_->Find("small-1");
  EXPECT_EQ(after->state, JobState::kRunning);
  EXPECT_EQ(after->Current()->token, before->Current()->token) << "the same workers are believed";
  EXPECT_EQ(after->lr, before->lr);
  EXPECT_DOUBLE_EQ(after->curve.loss, 2.5);
  ASSERT_EQ(after->validations.size(), 2u);
  EXPECT_EQ(after->validations[1]->decision, before->validations[1]->decision);
  EXPECT_THAT(launcher_.started, IsEmpty());
  EXPECT_THAT(launcher_.adopted, ElementsAre("small-1/1 " + options_.state_folder + "/jobs/small-1/attempt-1"));
  Say("small-1", 0, Validation(2, 999));
  EXPECT_EQ(loop_->Find("small-1")->validations[1]->decision, before->validations[1]->decision);
  EXPECT_EQ(loop_->Find("small-1")->last_event, after->last_event + 1) << "an observation";
  Say("small-1", 0, Finished{5, "MAX_EPOCHS"});
  Exit("small-1", 0);
  EXPECT_EQ(State("small-1"), JobState::kCompleted);
}

TEST_F(ControlLoopTest, QueuedAndEndedJobsSurviveARestart) {
  Submit({.spec = Spec(4)}).value();
  Submit({.spec = Spec(4)}).value();
  Submit({.spec = Spec(4)}).value();
  ASSERT_TRUE(Command("small-3", JobCommand::kCancel).has_value());
  Reopen();
  EXPECT_EQ(State("small-2"), JobState::kQueued);
  EXPECT_EQ(State("small-3"), JobState::kCancelled);
  ASSERT_EQ(loop_->All().size(), 3u);
  EXPECT_EQ(loop_->All()[0]->id, "small-3") << "newest first";
  Exit("small-1", 2);
  EXPECT_THAT(launcher_.started, ElementsAre("small-2/1"));
}

TEST_F(ControlLoopTest, EveryEventIsOnTheDiskBeforeItsActionRuns) {
  class ReadingLauncher final : public Launcher {
   public:
    explicit ReadingLauncher(Store& store) : store_(store) {}
    Result<int64_t> Start(const LaunchRequest& request) override {
      stored_at_start = store_.Events(request.job, 0, 10)->size();
      return int64_t{1};
    }
    void Adopt(const std::string&, int, const std::string&) override {}
    void Kill(const std::string&, int, bool) override {}
    size_t stored_at_start = 0;

   private:
    Store& store_;
  };
  ReadingLauncher launcher(*store_);
  loop_ = std::make_unique<ControlLoop>(options_, *store_, files_, clock_);
  ASSERT_TRUE(loop_->Recover({.launcher = &launcher}, "tcp://127.0.0.1:1").has_value());
  Submit({.spec = Spec()}).value();
  EXPECT_EQ(launcher.stored_at_start, 2u) << "submitted, starting";
}

TEST_F(ControlLoopTest, CommandsAnswer) {
  EXPECT_EQ(Command("nothing-1", JobCommand::kCancel).error().code, ErrorCode::kNotFound);
  Submit({.spec = Spec()}).value();
  EXPECT_EQ(Command("small-1", JobCommand::kResume).error().code, ErrorCode::kConflict);
  EXPECT_EQ((*Command("small-1", JobCommand::kCancel))->state, JobState::kStopping);
  Exit("small-1", 0);
  EXPECT_EQ(State("small-1"), JobState::kCancelled);
  EXPECT_EQ((*Command("small-1", JobCommand::kResume))->state, JobState::kQueued);
  EXPECT_THAT(launcher_.started, ElementsAre("small-1/1", "small-1/2"));
}

// In a process of its own: RocksDB aborts when it closes a log that could not grow.
TEST_F(ControlLoopTest, ATimerThatCannotBeStoredIsTriedAgainOnceASecond) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto on_a_full_disk = [this] {
    Submit({.spec = Spec()}).value();
    for (const int rank : {0, 1}) Say("small-1", rank, Heartbeat{1, "data"});
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_FSIZE, &none);
    Wait(10'000);                                               // the hang verdict is due
    if (State("small-1") != JobState::kRunning) std::_Exit(1);  // something happened that is not stored
    if (loop_->NextWakeMs() != clock_.MonotonicMs() + ControlLoop::kStoreRetryMs) std::_Exit(2);
    Wait(999);
    if (loop_->NextWakeMs() != clock_.MonotonicMs() + 1) std::_Exit(3);  // it was tried before its time
    Wait(1);
    if (loop_->NextWakeMs() != clock_.MonotonicMs() + ControlLoop::kStoreRetryMs) std::_Exit(4);
    std::_Exit(launcher_.killed.empty() ? 0 : 5);
  };
  EXPECT_EXIT(on_a_full_disk(), ::testing::ExitedWithCode(0), "");
}

// z <- m <- a: each waits for the one before.
class PipelineLoopTest : public ControlLoopTest {
 protected:
  Result<PipelineView> SubmitPipeline(const std::string& key = "k") {
    const nlohmann::json model{{"network", "vgg-a"}};
    const nlohmann::json document{{"version", 1}, {"kind", "pipeline"}, {"name", "p"}, {"output", folder_.path() + "/runs"}, {"model", model},
                                  {"data", {{"store", "/store"}}}, {"fault", {{"max_restarts", 0}}},
                                  {"jobs", {{"z", nlohmann::json::object()}, {"m", {{"depends_on", {"z"}}}}, {"a", {{"depends_on", {"m"}}}}}}};
    auto plan = ExpandPipeline(document, "body", false);
    EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
    Result<PipelineView> answer = Fail(ErrorCode::kInternal, "not answered");
    loop_->SubmitPipeline({std::make_shared<const PipelinePlan>(std::move(*plan)), key, "digest"}, [&](auto one) { answer = std::move(one); });
    loop_->Turn();
    return answer;
  }
  std::vector<std::string> Reasons() const {
    std::vector<std::string> reasons;
    const auto view = loop_->FindPipeline("p-1");
    for (const auto& job : view->jobs) reasons.push_back(job->id + " " + job->reason);
    return reasons;
  }
};

TEST_F(PipelineLoopTest, AFullDiskTakesNoneOfItsJobs) {
  const auto on_a_full_disk = [this] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_FSIZE, &none);
    if (SubmitPipeline().has_value()) std::_Exit(1);
    if (!loop_->All().empty() || !loop_->AllPipelines().empty()) std::_Exit(2);
    std::_Exit(launcher_.started.empty() ? 0 : 3);
  };
  EXPECT_EXIT(on_a_full_disk(), ::testing::ExitedWithCode(0), "");
}

TEST_F(PipelineLoopTest, AFailureRunsDownTheChainAndBackInOneTurnAlsoAfterARestart) {
  ASSERT_TRUE(SubmitPipeline().has_value());
  EXPECT_THAT(Reasons(), ElementsAre("p-1.z STARTING", "p-1.m WAITING_FOR_JOBS", "p-1.a WAITING_FOR_JOBS"));
  Exit("p-1.z", 2);
  EXPECT_THAT(Reasons(), ElementsAre("p-1.z BAD_INPUT", "p-1.m DEPENDENCY_FAILED", "p-1.a DEPENDENCY_HELD"));
  Reopen();
  loop_->Turn();
  EXPECT_THAT(Reasons(), ElementsAre("p-1.z BAD_INPUT", "p-1.m DEPENDENCY_FAILED", "p-1.a DEPENDENCY_HELD"));
  EXPECT_EQ(loop_->All().front()->id, "p-1.a") << "newest first: the order of the pipeline, not of the names";
  EXPECT_TRUE(SubmitPipeline()->repeated);
  ASSERT_TRUE(Command("p-1.z", JobCommand::kResume).has_value());
  EXPECT_THAT(Reasons(), ElementsAre("p-1.z STARTING", "p-1.m WAITING_FOR_JOBS", "p-1.a WAITING_FOR_JOBS"));
  EXPECT_THAT(launcher_.started, ElementsAre("p-1.z/2"));
}

TEST_F(ControlLoopTest, ACheckpointIsOrderedByCommandAndSurvivesARestart) {
  Submit({.spec = Spec()}).value();
  ASSERT_TRUE(Command("small-1", JobCommand::kCheckpoint).has_value());
  Reopen();
  EXPECT_EQ(loop_->Find("small-1")->checkpoint_order, 1);
  EXPECT_TRUE(loop_->Find("small-1")->checkpoint_ordered);
}

TEST_F(ControlLoopTest, AJobPausesAtItsTimeLimitAcrossARestartOfTheCoordinator) {
  JobSpec spec = *Spec();
  spec.resources.time_limit_s = 60;
  spec.fault.hang_timeout_s = 3'600;
  Submit({.spec = std::make_shared<const JobSpec>(spec)}).value();
  Wait(30'000);
  Reopen();
  for (const int rank : {0, 1}) Say("small-1", rank, Heartbeat{1, "data"});
  EXPECT_EQ(loop_->NextWakeMs(), clock_.MonotonicMs() + 30'000);
  Wait(30'000);
  EXPECT_EQ(State("small-1"), JobState::kStopping);
  Reopen();
  Say("small-1", 0, Finished{5, "STOPPED"});
  Exit("small-1", 0);
  EXPECT_EQ(State("small-1"), JobState::kPaused);
  Reopen();
  EXPECT_EQ(loop_->Find("small-1")->reason, "TIME_LIMIT");
  EXPECT_EQ(loop_->Find("small-1")->ran_ms, 60'000);
}

TEST_F(ControlLoopTest, EachEventIsAnnounced) {
  std::vector<std::string> noticed;
  loop_->OnEvent([&](const std::string& id) { noticed.push_back(id); });
  Submit({.spec = Spec()}).value();
  EXPECT_THAT(noticed, ElementsAre("small-1", "small-1", "small-1")) << "submitted, starting, launched";
  Say("small-1", 0, Metrics{.step = 1});
  EXPECT_EQ(noticed.size(), 3u) << "a point of the curve is no event";
}

}  // namespace
}  // namespace plateau::test
