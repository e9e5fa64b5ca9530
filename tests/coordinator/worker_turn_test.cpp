// What workers say, in the pure state machine: fencing, decisions made once, checkpoints published and retired.
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/job/retention.h"
#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

CheckpointReport Checkpoint(int64_t step, int attempt = 1, int validation = 0, double metric = 0) {
  return {.step = step,
          .validation = validation,
          .metric = metric,
          .path = fmt::format("attempt-{}/step-{:09}", attempt, step),
          .bytes = 100};
}

TEST(Fencing, OnlyTheCurrentAttemptWithItsTokenIsHeard) {
  JobUnderTest t;
  t.Run();
  const auto refused = [&](Sender sender, const WorkerMessage& message) {
    const auto before = t.job.last_event;
    const auto outcome = t.Tell(WorkerSaid{std::move(sender), message});
    EXPECT_EQ(t.job.last_event, before);
    EXPECT_FALSE(outcome.durable);
    return FindReply<Refused>(outcome) != nullptr;
  };
  Sender wrong_token = t.From(0);
  wrong_token.token = "guess";
  EXPECT_TRUE(refused(wrong_token, Heartbeat{1, "data"}));
  wrong_token.token.clear();
  EXPECT_TRUE(refused(wrong_token, Finished{1, "MAX_STEPS"}));
  Sender later = t.From(0);
  later.attempt = 2;
  EXPECT_TRUE(refused(later, Validation(1, 500)));
  EXPECT_TRUE(refused(t.From(2), Heartbeat{1, "data"})) << "there are two ranks";
  EXPECT_TRUE(refused(t.From(1), Validation(1, 500))) << "rank 0 reports";
  EXPECT_TRUE(refused(t.From(-1), Heartbeat{1, "data"}));
  EXPECT_TRUE(t.job.validations.empty());
}

TEST(Fencing, AZombieOfAnEarlierAttemptIsRefusedInEveryState) {
  JobUnderTest t;
  t.Run();
  const Sender zombie = t.From(0);
  t.Exit(1);
  EXPECT_NE(FindReply<Refused>(t.Tell(WorkerSaid{zombie, Heartbeat{5, "data"}})), nullptr);
  t.Wait(1'000);
  t.Tell(TimerFired{});
  t.Tell(StartGranted{"another secret", Here(2)});
  EXPECT_NE(FindReply<Refused>(t.Tell(WorkerSaid{zombie, Checkpoint(5)})), nullptr);
  EXPECT_NE(FindReply<Refused>(t.Tell(WorkerSaid{zombie, Finished{5, "MAX_EPOCHS"}})), nullptr);
  EXPECT_EQ(t.job.state, JobState::kStarting);
}

TEST(Validations, TheFirstReportIsDecidedAndDurable) {
  JobUnderTest t;
  t.Run();
  const auto first = t.Say(0, Validation(1, 500));
  ASSERT_NE(FindReply<DecisionReply>(first), nullptr);
  EXPECT_TRUE(FindReply<DecisionReply>(first)->decision.improved);
  ASSERT_NE(first.validation, nullptr);
  EXPECT_TRUE(first.durable);
  const auto second = t.Say(0, Validation(2, 400));
  EXPECT_EQ(FindReply<DecisionReply>(second)->decision.action, LrAction::kDecay);
  EXPECT_DOUBLE_EQ(FindReply<DecisionReply>(second)->decision.lr, 0.001);
  EXPECT_DOUBLE_EQ(t.job.lr.lr, 0.001);
}

TEST(Validations, ARepeatGetsTheSameAnswerAndOtherFiguresBecomeAnObservation) {
  JobUnderTest t;
  t.Run();
  t.Say(0, Validation(1, 500));
  const auto decided = FindReply<DecisionReply>(t.Say(0, Validation(2, 400)))->decision;
  const auto state = t.job.lr;
  const auto again = t.Say(0, Validation(2, 400));
  EXPECT_EQ(FindReply<DecisionReply>(again)->decision, decided);
  EXPECT_TRUE(again.events.empty());
  const auto other = t.Say(0, Validation(2, 900));
  EXPECT_EQ(FindReply<DecisionReply>(other)->decision, decided) << "the first report stands";
  ASSERT_EQ(other.events.size(), 1u);
  EXPECT_EQ(other.events[0].type, "observation");
  EXPECT_EQ(other.validation, nullptr);
  EXPECT_EQ(t.job.lr, state);
  EXPECT_EQ(t.job.validations.size(), 2u);
}

TEST(Validations, AResumedAttemptIsAnsweredFromTheHistory) {
  JobUnderTest t;
  t.Run();
  t.Say(0, Validation(1, 500));
  const auto decided = FindReply<DecisionReply>(t.Say(0, Validation(2, 400)))->decision;
  t.Exit(137);
  t.Wait(1'000);
  t.Tell(TimerFired{});
  t.Run();
  EXPECT_EQ(FindReply<DecisionReply>(t.Say(0, Validation(2, 400)))->decision, decided);
  EXPECT_EQ(FindReply<DecisionReply>(t.Say(0, Validation(3, 600)))->decision.validation, 3);
}

TEST(Validations, AGapIsRefused) {
  JobUnderTest t;
  t.Run();
  const auto outcome = t.Say(0, Validation(3, 500));
  ASSERT_NE(FindReply<Refused>(outcome), nullptr);
  EXPECT_THAT(FindReply<Refused>(outcome)->reason, HasSubstr("validation 1 was due"));
}

TEST(Validations, TheHistoryReplayedGivesTheSameDecisions) {
  JobUnderTest t;
  t.Run();
  int number = 0;
  for (const int correct : {100, 300, 290, 350, 340, 330, 360, 355}) t.Say(0, Validation(++number, correct));
  std::vector<double> values;
  std::vector<LrDecision> decisions;
  for (const auto& one : t.job.validations) {
    values.push_back(one->value);
    decisions.push_back(one->decision);
  }
  EXPECT_EQ(ReplayLr(t.job.spec->lr, values), decisions);
  EXPECT_EQ(decisions[2].action, LrAction::kDecay);
  EXPECT_EQ(decisions[5].action, LrAction::kStop);
}

TEST(Validations, TheMetricIsTheOneOfTheSpec) {
  JobSpec spec = SmallSpec();
  spec.lr_metric = "val_loss";
  JobUnderTest t(spec);
  t.Run();
  t.Say(0, Validation(1, 500));
  EXPECT_DOUBLE_EQ(t.job.validations[0]->value, 1.5);
}

TEST(Curve, MetricsMoveTheCurveAndAreNotAnswered) {
  JobUnderTest t;
  t.Run();
  const auto outcome = t.Say(0, Metrics{.step = 40, .epoch = 0.5, .loss = 2.1, .lr = 0.01, .images_per_s = 88});
  EXPECT_TRUE(outcome.actions.empty());
  EXPECT_FALSE(outcome.durable);
  ASSERT_TRUE(outcome.point.has_value());
  EXPECT_EQ(outcome.point->step, 40);
  EXPECT_DOUBLE_EQ(t.job.curve.loss, 2.1);
}

TEST(Checkpoints, AreVerifiedThenPublishedThenAnswered) {
  JobUnderTest t;
  t.Run();
  const auto report = Checkpoint(100);
  const auto asked = t.Say(0, report);
  ASSERT_NE(FindAction<VerifyCheckpoint>(asked), nullptr);
  EXPECT_EQ(FindAction<ReplyToWorker>(asked), nullptr) << "not before it is published";
  const auto verified = t.Tell(CheckpointVerified{1, report, "00ff"});
  ASSERT_NE(FindAction<PublishCheckpoint>(verified), nullptr);
  EXPECT_EQ(FindAction<PublishCheckpoint>(verified)->checkpoint.checksum, "00ff");
  EXPECT_TRUE(verified.durable);
  EXPECT_TRUE(t.job.publish_pending);
  const auto published = t.Tell(CheckpointPublished{report.path, {}, {}});
  ASSERT_NE(FindAction<AnswerCheckpoint>(published), nullptr);
  EXPECT_FALSE(t.job.publish_pending);
  EXPECT_NE(FindReply<Published>(t.Say(0, report)), nullptr) << "a repeated report is answered at once";
}

TEST(Checkpoints, OldOnesAreRemovedOnceAndStayPendingUntilTheyAreGone) {
  JobSpec spec = SmallSpec();
  spec.checkpoint.keep_last = 1;
  spec.checkpoint.keep_best = 0;
  JobUnderTest t(spec);
  t.Run();
  for (const int64_t step : {100, 200}) {
    t.Tell(CheckpointVerified{1, Checkpoint(step), "c"});
    if (step == 100) t.Tell(CheckpointPublished{Checkpoint(step).path, {}, {}});
  }
  EXPECT_THAT(t.job.removals_pending, ElementsAre("attempt-1/step-000000100"));
  t.Tell(CheckpointPublished{Checkpoint(200).path, {}, "device busy"});
  EXPECT_THAT(t.job.removals_pending, ElementsAre("attempt-1/step-000000100"));
  EXPECT_THAT(t.history, Contains("trouble"));
  const auto next = t.Tell(CheckpointVerified{1, Checkpoint(300), "c"});
  EXPECT_THAT(FindAction<PublishCheckpoint>(next)->removals, ElementsAre("attempt-1/step-000000100", "attempt-1/step-000000200"));
  t.Tell(CheckpointPublished{Checkpoint(300).path, {"attempt-1/step-000000100", "attempt-1/step-000000200"}, {}});
  EXPECT_TRUE(t.job.removals_pending.empty());
}

TEST(Checkpoints, AnUnfinishedPublicationIsRepeatedAfterARestartOfTheCoordinator) {
  JobUnderTest t;
  t.Run();
  t.Tell(CheckpointVerified{1, Checkpoint(100), "c"});
  const auto back = t.Tell(Recovered{});
  ASSERT_NE(FindAction<PublishCheckpoint>(back), nullptr);
  EXPECT_EQ(FindAction<PublishCheckpoint>(back)->checkpoint.step, 100);
}

TEST(Checkpoints, ARepeatedReportOfOneThatWasRetiredSinceIsAnswered) {
  JobSpec spec = SmallSpec();
  spec.checkpoint.keep_last = 1;
  spec.checkpoint.keep_best = 0;
  JobUnderTest t(spec);
  t.Run();
  for (const int64_t step : {100, 200}) {
    t.Tell(CheckpointVerified{1, Checkpoint(step), "c"});
    t.Tell(CheckpointPublished{Checkpoint(step).path, t.job.removals_pending, {}});
  }
  const auto repeated = t.Say(0, Checkpoint(100));  // its answer was lost with the coordinator
  ASSERT_NE(FindReply<Published>(repeated), nullptr);
  EXPECT_EQ(FindReply<Published>(repeated)->step, 100);
  EXPECT_EQ(t.job.checkpoints.back().step, 200);
}

TEST(Checkpoints, OnlyTheAttemptsOwnFoldersAreTaken) {
  JobUnderTest t;
  t.Run();
  for (const char* path : {"attempt-2/step-000000100", "../other-1/attempt-1/step-1", "attempt-1/step-1/..", "attempt-1/step-",
                           "/etc", "", "attempt-1/step-0001x", "attempt-1/../attempt-1/step-1"}) {
    CheckpointReport report = Checkpoint(100);
    report.path = path;
    EXPECT_NE(FindReply<Refused>(t.Say(0, report)), nullptr) << path;
  }
}

TEST(Checkpoints, OneVerifiedAfterItsAttemptEndedIsNotPublished) {
  JobUnderTest t;
  t.Run();
  t.Exit(1);
  EXPECT_TRUE(t.Tell(CheckpointVerified{1, Checkpoint(100), "c"}).actions.empty());
  EXPECT_TRUE(t.job.checkpoints.empty());
}

TEST(Checkpoints, ARejectedOneIsRecordedOnceAndNotAnswered) {
  JobUnderTest t;
  t.Run();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(t.Tell(CheckpointRejected{1, Checkpoint(100), "no manifest"}).actions.empty());
  EXPECT_EQ(std::count(t.history.begin(), t.history.end(), "checkpoint_rejected"), 1);
}

CheckpointRecord Record(int64_t step, int validation = 0, double metric = 0, int attempt = 1) {
  return {step, validation, metric, fmt::format("attempt-{}/step-{:09}", attempt, step), "c", 1};
}

std::vector<int64_t> Steps(const std::vector<CheckpointRecord>& records) {
  std::vector<int64_t> steps;
  for (const auto& one : records) steps.push_back(one.step);
  return steps;
}

TEST(Retention, KeepsTheNewestAndTheBest) {
  const std::vector<CheckpointRecord> old{Record(1, 1, 0.5), Record(2, 2, 0.2), Record(3, 3, 0.4)};
  const auto result = Retain(old, Record(4, 4, 0.3), 2, 1);
  EXPECT_THAT(Steps(result.kept), ElementsAre(2, 3, 4));
  EXPECT_THAT(result.removed, ElementsAre("attempt-1/step-000000001"));
}

TEST(Retention, TheCurrentOneStaysEvenWhenNothingIsToBeKept) {
  EXPECT_THAT(Steps(Retain({Record(1)}, Record(2), 0, 0).kept), ElementsAre(2));
}

TEST(Retention, OneWithoutAValidationIsNeverTheBestAndNotANumberIsTheWorst) {
  const std::vector<CheckpointRecord> old{Record(1, 0, 0.0), Record(2, 1, std::numeric_limits<double>::quiet_NaN()),
                                          Record(3, 2, 0.9)};
  EXPECT_THAT(Steps(Retain(old, Record(4), 1, 1).kept), ElementsAre(3, 4));
}

TEST(Retention, EqualValuesKeepTheOlderOne) {
  EXPECT_THAT(Steps(Retain({Record(1, 1, 0.5), Record(2, 2, 0.5)}, Record(3, 3, 0.5), 1, 1).kept), ElementsAre(1, 3));
}

TEST(Retention, AResumeFromAnOlderOneGivesUpWhatLayBeyond) {
  const auto result = Retain({Record(100), Record(200)}, Record(150, 0, 0, 2), 3, 0);
  EXPECT_THAT(Steps(result.kept), ElementsAre(100, 150));
  EXPECT_THAT(result.removed, ElementsAre("attempt-1/step-000000200"));
}

}  // namespace
}  // namespace plateau::test
