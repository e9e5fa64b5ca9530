// Jobs that wait for others: what releases them, what holds them, and whose checkpoints they take.
#include "coordinator/job/dependencies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Other jobs by id.
class Others {
 public:
  Job& Add(const std::string& id, JobState state, const std::string& reason = "") {
    Job& job = jobs_[id];
    job.id = id;
    job.spec = std::make_shared<const JobSpec>(SmallSpec());
    job.state = state;
    job.reason = reason;
    return job;
  }
  JobLookup Find() const {
    return [this](const std::string& id) -> const Job* {
      const auto found = jobs_.find(id);
      return found == jobs_.end() ? nullptr : &found->second;
    };
  }

 private:
  std::map<std::string, Job> jobs_;
};

JobSpec WaitsFor(std::vector<Dependency> dependencies) {
  JobSpec spec = SmallSpec();
  spec.depends_on = std::move(dependencies);
  return spec;
}

TEST(Dependencies, EachConditionAgainstEachState) {
  const auto judge = [](DependencyCondition condition, JobState state) {
    Others others;
    others.Add("a-1", state, "NAN_LOSS");
    return JudgeDependencies(WaitsFor({{"a-1", condition}}), others.Find()).readiness;
  };
  using enum DependencyCondition;
  for (const JobState state : {JobState::kQueued, JobState::kHeld, JobState::kStarting, JobState::kRunning, JobState::kStopping, JobState::kPaused})
    for (const auto condition : {kCompleted, kEnded, kFailed}) EXPECT_EQ(judge(condition, state), Readiness::kWaits) << JobStateName(state);
  EXPECT_EQ(judge(kCompleted, JobState::kCompleted), Readiness::kReady);
  EXPECT_EQ(judge(kCompleted, JobState::kFailed), Readiness::kBlocked);
  EXPECT_EQ(judge(kCompleted, JobState::kCancelled), Readiness::kBlocked);
  for (const JobState end : {JobState::kCompleted, JobState::kFailed, JobState::kCancelled}) EXPECT_EQ(judge(kEnded, end), Readiness::kReady);
  EXPECT_EQ(judge(kFailed, JobState::kFailed), Readiness::kReady);
  EXPECT_EQ(judge(kFailed, JobState::kCompleted), Readiness::kNever);
  EXPECT_EQ(judge(kFailed, JobState::kCancelled), Readiness::kBlocked) << "it can be resumed, and fail";
}

TEST(Dependencies, TheVerdictNamesTheJobAndTheWayOut) {
  Others others;
  others.Add("a-1", JobState::kFailed, "NAN_LOSS");
  others.Add("b-1", JobState::kRunning);
  others.Add("c-1", JobState::kHeld, "DEPENDENCY_FAILED").message = "it depends on job a-1";
  const auto failed = JudgeDependencies(WaitsFor({{"b-1"}, {"c-1"}, {"a-1"}}), others.Find());
  EXPECT_EQ(failed.reason, "DEPENDENCY_FAILED") << "says more than a job that is held by it";
  EXPECT_THAT(failed.message, HasSubstr("job a-1, which is FAILED (NAN_LOSS); `plateau resume a-1`"));
  EXPECT_EQ(JudgeDependencies(WaitsFor({{"b-1"}, {"c-1"}}), others.Find()).reason, "DEPENDENCY_HELD");
  const auto waits = JudgeDependencies(WaitsFor({{"b-1"}}), others.Find());
  EXPECT_EQ(waits.reason, "WAITING_FOR_JOBS");
  EXPECT_EQ(waits.message, "waiting for b-1");
  EXPECT_THAT(JudgeDependencies(WaitsFor({{"gone-1"}}), others.Find()).message, HasSubstr("gone-1, which does not exist"));
}

TEST(Dependencies, AHeldJobIsReleasedAndSaysSo) {
  JobUnderTest t;
  t.Tell(DependenciesJudged{{Readiness::kWaits, "WAITING_FOR_JOBS", "waiting for a-1"}});
  EXPECT_EQ(t.job.state, JobState::kQueued);
  EXPECT_TRUE(t.Tell(DependenciesJudged{{Readiness::kWaits, "WAITING_FOR_JOBS", "waiting for a-1"}}).events.empty()) << "recorded once";
  t.Tell(DependenciesJudged{{Readiness::kBlocked, "DEPENDENCY_FAILED", "it depends on job a-1, which is FAILED"}});
  EXPECT_EQ(t.job.state, JobState::kHeld);
  EXPECT_EQ(t.job.reason, "DEPENDENCY_FAILED");
  t.Tell(DependenciesJudged{{Readiness::kWaits, "WAITING_FOR_JOBS", "waiting for a-1"}});
  EXPECT_EQ(t.job.state, JobState::kQueued) << "a-1 was resumed";
  t.Tell(DependenciesJudged{});
  EXPECT_EQ(t.job.reason, "RELEASED");
  EXPECT_TRUE(t.Tell(DependenciesJudged{}).events.empty());
  t.Run();
  EXPECT_TRUE(t.Tell(DependenciesJudged{{Readiness::kBlocked, "DEPENDENCY_FAILED", "late"}}).events.empty()) << "it runs already";
  EXPECT_THAT(t.history, ElementsAre("submitted", "waiting", "held", "waiting", "released", "starting", "launched", "running"));
}

TEST(Dependencies, AJobForAFailureThatDidNotComeIsNotNeeded) {
  Others others;
  others.Add("a-1", JobState::kCompleted);
  others.Add("b-1", JobState::kRunning);
  const auto verdict = JudgeDependencies(WaitsFor({{"b-1"}, {"a-1", DependencyCondition::kFailed}}), others.Find());
  EXPECT_EQ(verdict.reason, "NOT_NEEDED");
  EXPECT_THAT(verdict.message, HasSubstr("only if job a-1 failed, and that one is COMPLETED"));
  JobUnderTest t;
  t.Tell(DependenciesJudged{verdict});
  EXPECT_EQ(t.job.state, JobState::kCancelled);
  EXPECT_TRUE(IsNotNeeded(t.job));
  EXPECT_THAT(t.Tell(ResumeRequested{}).refusal, HasSubstr("submit it as a job of its own"));
  others.Add("c-1", JobState::kCancelled, "NOT_NEEDED");
  EXPECT_EQ(JudgeDependencies(WaitsFor({{"c-1"}}), others.Find()).readiness, Readiness::kNever);
  EXPECT_EQ(JudgeDependencies(WaitsFor({{"c-1", DependencyCondition::kFailed}}), others.Find()).readiness, Readiness::kNever);
  EXPECT_EQ(JudgeDependencies(WaitsFor({{"c-1", DependencyCondition::kEnded}}), others.Find()).readiness, Readiness::kReady);
}

TEST(Dependencies, TheWorkersSeeAFolderInThePlaceOfAJob) {
  Others others;
  Job& a = others.Add("a-1", JobState::kCompleted);
  a.checkpoints = {{.step = 10, .validation = 1, .metric = 0.4, .path = "attempt-1/step-000000010"},
                   {.step = 20, .validation = 2, .metric = 0.3, .path = "attempt-1/step-000000020"},
                   {.step = 30, .validation = 3, .metric = 0.5, .path = "attempt-2/step-000000030"}};
  JobSpec spec = SmallSpec();
  spec.model.init_from = JobSpec::InitFrom{.job = "a-1", .layers = {"vgg-first4-fc3"}};
  const auto final = ResolveSources(spec, others.Find());
  ASSERT_TRUE(final.has_value()) << final.error().message;
  EXPECT_EQ(final->model.init_from->checkpoint, "/runs/a-1/attempt-2/step-000000030");
  EXPECT_EQ(final->model.init_from->job, "");
  spec.model.init_from->pick = CheckpointPick::kBest;
  EXPECT_EQ(ResolveSources(spec, others.Find())->model.init_from->checkpoint, "/runs/a-1/attempt-1/step-000000020");
  JobSpec test;
  test.kind = "evaluate";
  test.evaluate.job = "a-1";
  EXPECT_EQ(ResolveSources(test, others.Find())->evaluate.checkpoint, "/runs/a-1/attempt-2/step-000000030");
  others.Add("b-1", JobState::kCompleted);
  test.evaluate.job = "b-1";
  EXPECT_THAT(ResolveSources(test, others.Find()).error().message, HasSubstr("job b-1 has no checkpoint to start from; resume job b-1"));
  test.evaluate.pick = CheckpointPick::kBest;
  EXPECT_THAT(ResolveSources(test, others.Find()).error().message, HasSubstr("no validated checkpoint to start from; use pick: final"));
  test.evaluate.job = "c-1";
  EXPECT_THAT(ResolveSources(test, others.Find()).error().message, HasSubstr("job c-1, whose checkpoint is wanted, does not exist"));
}

TEST(Dependencies, AnEvaluationEndsWithItsResult) {
  JobSpec spec = SmallSpec();
  spec.kind = "evaluate";
  JobUnderTest t(spec);
  t.Run();
  EXPECT_THAT(t.job.message, HasSubstr("testing"));
  EXPECT_THAT(t.Tell(CheckpointRequested{}).refusal, HasSubstr("is an evaluation"));
  t.Say(0, Finished{0, "EVALUATED", R"({"images":50,"correct1":20,"correct5":45,"top1_error":0.6,"top5_error":0.1})"});
  t.Exit(0);
  EXPECT_EQ(t.job.state, JobState::kCompleted);
  EXPECT_EQ(t.job.reason, "EVALUATED");
  EXPECT_THAT(t.job.message, HasSubstr("top-1 error 0.6000, top-5 error 0.1000 over 50 images"));
  EXPECT_THAT(t.job.result, HasSubstr("\"correct1\":20"));
}

}  // namespace
}  // namespace plateau::test
