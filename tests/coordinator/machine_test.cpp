// The life of a job in the pure state machine: starts, ends, restarts, stops, hangs, a coordinator that comes back.
#include "coordinator/job/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Machine, AnUndisturbedJobGoesThroughItsStates) {
  JobUnderTest t;
  EXPECT_EQ(t.job.state, JobState::kQueued);
  const auto started = t.Tell(StartGranted{"secret", Here(2)});
  EXPECT_EQ(t.job.state, JobState::kStarting);
  ASSERT_NE(FindAction<LaunchAttempt>(started), nullptr);
  EXPECT_EQ(FindAction<LaunchAttempt>(started)->attempt, 1);
  EXPECT_TRUE(started.durable);
  t.Say(0, Heartbeat{0, "start"});
  EXPECT_EQ(t.job.state, JobState::kStarting) << "rank 1 has not been heard";
  t.Say(1, Heartbeat{0, "start"});
  EXPECT_EQ(t.job.state, JobState::kRunning);
  const auto finished = t.Say(0, Finished{470, "MAX_EPOCHS"});
  EXPECT_NE(FindReply<Published>(finished), nullptr);
  EXPECT_EQ(t.job.state, JobState::kRunning) << "its processes are still there";
  t.Exit(0);
  EXPECT_EQ(t.job.state, JobState::kCompleted);
  EXPECT_EQ(t.job.reason, "MAX_EPOCHS");
  EXPECT_THAT(t.history, ElementsAre("submitted", "starting", "running", "finished", "attempt_ended", "completed"));
}

TEST(Machine, EventsAreNumberedWithoutGaps) {
  JobUnderTest t;
  int64_t last = t.job.last_event;
  EXPECT_EQ(last, 1);
  for (const auto& row : t.Tell(StartGranted{"secret", Here(2)}).events) EXPECT_EQ(row.seq, ++last);
  for (const auto& row : t.Exit(1).events) EXPECT_EQ(row.seq, ++last);
  EXPECT_EQ(t.job.last_event, last);
}

TEST(Machine, AnAttemptWithoutFinishedIsRestartedWithGrowingDelayAndThenFails) {
  JobUnderTest t;
  std::vector<int64_t> delays;
  for (int i = 0; i < 2; ++i) {
    t.Run();
    t.Exit(137);
    ASSERT_EQ(t.job.state, JobState::kQueued);
    EXPECT_EQ(t.job.reason, "RESTARTING");
    delays.push_back(t.job.not_before_ms - t.now.monotonic_ms);
    t.Wait(delays.back());
    t.Tell(TimerFired{});
    EXPECT_EQ(t.job.not_before_ms, 0);
  }
  EXPECT_THAT(delays, ElementsAre(1'000, 2'000));
  t.Run();
  t.Exit(137);
  EXPECT_EQ(t.job.state, JobState::kFailed);
  EXPECT_EQ(t.job.reason, "EXIT_137");
  EXPECT_THAT(t.job.message, HasSubstr("all 2 restarts"));
  EXPECT_EQ(t.job.attempts.size(), 3u);
}

TEST(Machine, TheRestartDelayIsBounded) {
  JobSpec spec = SmallSpec();
  spec.fault.max_restarts = 100;
  JobUnderTest t(spec);
  for (int i = 0; i < 70; ++i) {
    t.Run();
    t.Exit(1);
    EXPECT_LE(t.job.not_before_ms - t.now.monotonic_ms, t.limits.longest_restart_delay_ms);
    EXPECT_GT(t.job.not_before_ms, t.now.monotonic_ms);
  }
}

TEST(Machine, ExitCodeZeroWithoutFinishedIsNoCompletion) {
  JobUnderTest t;
  t.Run();
  t.Exit(0);
  EXPECT_EQ(t.job.state, JobState::kQueued);
  EXPECT_THAT(t.job.message, HasSubstr("rank 0 had not said that training was finished"));
}

TEST(Machine, NanLossFailsAtOnceWithStepAndLayer) {
  JobUnderTest t;
  t.Run();
  t.Say(0, Failed{"NAN_LOSS", "the loss is not finite", 17, "conv3_1", false});
  EXPECT_EQ(t.job.state, JobState::kStopping);
  t.Exit(3);
  EXPECT_EQ(t.job.state, JobState::kFailed);
  EXPECT_EQ(t.job.reason, "NAN_LOSS");
  EXPECT_THAT(t.job.message, HasSubstr("step 17"));
  EXPECT_THAT(t.job.message, HasSubstr("conv3_1"));
  EXPECT_EQ(t.job.restarts, 0);
}

TEST(Machine, ExitCodesSpeakWhenNoMessageCame) {
  for (const auto& [code, reason] : {std::pair{3, "NAN_LOSS"}, std::pair{2, "BAD_INPUT"}}) {
    JobUnderTest t;
    t.Run();
    t.Exit(code);
    EXPECT_EQ(t.job.state, JobState::kFailed);
    EXPECT_EQ(t.job.reason, reason);
  }
}

TEST(Machine, ARetriedFailureIsOverruledByOneThatWouldComeAgain) {
  JobUnderTest t;
  t.Run();
  t.Say(1, Failed{"INTERNAL", "a peer left", 5, "", true});
  t.Say(0, Failed{"NAN_LOSS", "not finite", 5, "fc8", false});
  t.Exit(1);
  EXPECT_EQ(t.job.state, JobState::kFailed);
  EXPECT_EQ(t.job.reason, "NAN_LOSS");
}

TEST(Machine, AFailedGangIsKilledWhenItDoesNotLeave) {
  JobUnderTest t;
  t.Run();
  t.Say(1, Failed{"IO", "disk", 5, "", true});
  ASSERT_EQ(NextDeadline(t.job, t.limits), t.now.monotonic_ms + t.limits.failure_grace_ms);
  t.Wait(t.limits.failure_grace_ms);
  EXPECT_NE(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
  EXPECT_EQ(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr) << "once";
}

TEST(Machine, ASilentRankIsNamedAndItsGangKilledAndRestarted) {
  JobUnderTest t;
  t.Run();
  t.Wait(9'000);
  t.Say(0, Heartbeat{12, "reduce"});
  t.Say(1, Heartbeat{12, "reduce"});
  t.Wait(6'000);
  t.Say(0, Heartbeat{13, "reduce"});
  EXPECT_EQ(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr) << "rank 1 was silent for 6 s of 10";
  EXPECT_EQ(NextDeadline(t.job, t.limits), t.now.monotonic_ms + 4'000);
  t.Wait(4'000);
  const auto verdict = t.Tell(TimerFired{});
  EXPECT_NE(FindAction<KillAttempt>(verdict), nullptr);
  EXPECT_EQ(t.job.reason, "HANG");
  EXPECT_THAT(t.job.message, HasSubstr("rank 1 on node was silent for 10s at step 12 in phase reduce"));
  t.Exit(137);
  EXPECT_EQ(t.job.state, JobState::kQueued);
  EXPECT_EQ(t.job.attempts.back().reason, "HANG");
}

TEST(Machine, ARankThatNeverSpokeGetsTheStartAllowance) {
  JobUnderTest t;
  t.Start();
  t.Wait(59'999);
  EXPECT_EQ(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
  t.Wait(1);
  EXPECT_NE(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
  EXPECT_THAT(t.job.message, HasSubstr("was not heard"));
}

TEST(Machine, AfterFinishedSilenceIsNoHangButTheExitHasADeadline) {
  JobUnderTest t;
  t.Run();
  t.Say(0, Finished{10, "MAX_STEPS"});
  t.Wait(20'000);
  EXPECT_EQ(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
  t.Wait(40'000);
  EXPECT_NE(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
  t.Exit(137);
  EXPECT_EQ(t.job.state, JobState::kCompleted) << "rank 0 had finished";
}

TEST(Machine, CancelAsksTheWorkersAndEndsCancelled) {
  JobUnderTest t;
  t.Run();
  t.Tell(StopRequested{StopTarget::kCancel});
  EXPECT_EQ(t.job.state, JobState::kStopping);
  const auto beat = t.Say(1, Heartbeat{5, "forward"});
  ASSERT_NE(FindReply<HeartbeatReply>(beat), nullptr);
  EXPECT_EQ(FindReply<HeartbeatReply>(beat)->command, WorkerCommand::kStop);
  t.Say(0, Finished{6, "STOPPED"});
  t.Exit(0);
  EXPECT_EQ(t.job.state, JobState::kCancelled);
}

// A stop in front of the first step leaves no checkpoint, and that is said; an older attempt's is not this one's.
TEST(Machine, AStopSaysWhetherACheckpointWasWritten) {
  JobUnderTest t;
  t.Run();
  t.Tell(CheckpointVerified{1, CheckpointReport{.step = 5, .path = "attempt-1/step-000000005"}, "00"});
  t.Tell(StopRequested{StopTarget::kPause});
  t.Say(0, Finished{5, "STOPPED"});
  t.Exit(0);
  EXPECT_EQ(t.job.message, "paused on request; a checkpoint was written");
  t.Tell(ResumeRequested{});
  t.Run();
  t.Tell(StopRequested{StopTarget::kPause});
  t.Say(0, Finished{0, "STOPPED"});
  t.Exit(0);
  EXPECT_EQ(t.job.message, "paused on request; the attempt had not begun its first step");
  EXPECT_EQ(t.job.curve.step, 5) << "nothing is lost";
}

TEST(Machine, AStopThatIsNotObeyedKills) {
  JobUnderTest t;
  t.Run();
  t.Tell(StopRequested{StopTarget::kCancel});
  for (int i = 0; i < 12; ++i) {
    t.Wait(5'000);
    t.Beat(1, "forward");
    if (i < 11) {
      ASSERT_EQ(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
    }
  }
  EXPECT_NE(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
  t.Exit(137);
  EXPECT_EQ(t.job.state, JobState::kCancelled) << "a killed stop is not restarted";
}

TEST(Machine, ASecondCancelKillsAtOnce) {
  JobUnderTest t;
  t.Run();
  t.Tell(StopRequested{StopTarget::kCancel});
  EXPECT_NE(FindAction<KillAttempt>(t.Tell(StopRequested{StopTarget::kCancel})), nullptr);
}

TEST(Machine, PauseEndsPausedAndResumeQueuesAgainWithItsRestartsBack) {
  JobUnderTest t;
  t.Run();
  t.Exit(1);
  t.Run();
  t.Tell(StopRequested{StopTarget::kPause});
  t.Say(0, Finished{6, "STOPPED"});
  t.Exit(0);
  EXPECT_EQ(t.job.state, JobState::kPaused);
  EXPECT_EQ(t.job.restarts, 1);
  EXPECT_TRUE(t.Tell(ResumeRequested{}).refusal.empty());
  EXPECT_EQ(t.job.state, JobState::kQueued);
  EXPECT_EQ(t.job.restarts, 0);
  t.Start();
  EXPECT_EQ(t.job.Current()->number, 3);
}

TEST(Machine, AtItsTimeLimitAJobWritesACheckpointAndPauses) {
  JobSpec spec = SmallSpec();
  spec.resources.time_limit_s = 100;
  spec.fault.hang_timeout_s = 1'000;
  JobUnderTest t(spec);
  t.Run();
  ASSERT_EQ(NextDeadline(t.job, t.limits), t.now.monotonic_ms + 100'000);
  t.Wait(40'000);
  t.Exit(1);  // 40 s of running; the restart delay does not count
  t.Wait(3'000);
  t.Tell(TimerFired{});
  t.Run();
  EXPECT_EQ(t.job.limit_deadline_ms, t.now.monotonic_ms + 60'000);
  t.Wait(59'999);
  t.Tell(TimerFired{});
  EXPECT_EQ(t.job.state, JobState::kRunning);
  t.Wait(1);
  t.Tell(TimerFired{});
  EXPECT_EQ(t.job.state, JobState::kStopping);
  EXPECT_EQ(FindReply<HeartbeatReply>(t.Say(0, Heartbeat{5, "forward"}))->command, WorkerCommand::kStop);
  EXPECT_EQ(NextDeadline(t.job, t.limits), t.now.monotonic_ms + t.limits.stop_grace_ms) << "the limit is over and done with";
  t.Say(0, Finished{6, "STOPPED"});
  t.Exit(0);
  EXPECT_EQ(t.job.state, JobState::kPaused);
  EXPECT_EQ(t.job.reason, "TIME_LIMIT");
  EXPECT_THAT(t.job.message, HasSubstr("1m 40s"));
  EXPECT_THAT(t.history, Contains("time_limit"));
  t.Tell(ResumeRequested{});
  t.Run();
  EXPECT_EQ(t.job.limit_deadline_ms, t.now.monotonic_ms + 100'000) << "as long again";
}

TEST(Machine, ACrashAtTheTimeLimitIsNotRestarted) {
  JobSpec spec = SmallSpec();
  spec.resources.time_limit_s = 100;
  JobUnderTest t(spec);
  t.Run();
  t.Wait(100'000);
  t.Exit(137);
  EXPECT_EQ(t.job.state, JobState::kPaused);
  EXPECT_EQ(t.job.reason, "TIME_LIMIT");
}

TEST(Machine, TheTimeLimitCountsOnWhileTheCoordinatorIsAway) {
  JobSpec spec = SmallSpec();
  spec.resources.time_limit_s = 100;
  JobUnderTest t(spec);
  t.Run();
  t.now = {t.now.unix_ms + 70'000, 10};  // another boot
  t.Tell(Recovered{});
  EXPECT_EQ(t.job.limit_deadline_ms, 10 + 30'000);
  t.now = {t.now.unix_ms + 500'000, 20};
  t.Tell(Recovered{});
  t.Wait(1);
  t.Tell(TimerFired{});
  EXPECT_EQ(t.job.reason, "TIME_LIMIT");
}

TEST(Machine, ACancelDuringTheStopAtTheTimeLimitCancels) {
  JobSpec spec = SmallSpec();
  spec.resources.time_limit_s = 5;
  JobUnderTest t(spec);
  t.Run();
  t.Wait(5'000);
  t.Tell(TimerFired{});
  t.Tell(StopRequested{StopTarget::kCancel});
  EXPECT_EQ(t.job.stop_deadline_ms, t.now.monotonic_ms + t.limits.stop_grace_ms);
  t.Say(0, Finished{6, "STOPPED"});
  t.Exit(0);
  EXPECT_EQ(t.job.state, JobState::kCancelled);
}

TEST(Machine, ACheckpointIsOrderedByNumberUntilItIsPublished) {
  JobUnderTest t;
  EXPECT_THAT(t.Tell(CheckpointRequested{}).refusal, HasSubstr("is QUEUED"));
  t.Run();
  EXPECT_EQ(FindReply<HeartbeatReply>(t.Say(0, Heartbeat{5, "data"}))->command, WorkerCommand::kContinue);
  EXPECT_TRUE(t.Tell(CheckpointRequested{}).durable);
  for (int i = 0; i < 2; ++i) {
    const auto beat = t.Say(0, Heartbeat{5, "data"});
    EXPECT_EQ(FindReply<HeartbeatReply>(beat)->command, WorkerCommand::kCheckpoint);
    EXPECT_EQ(FindReply<HeartbeatReply>(beat)->order, 1);
  }
  t.Exit(137);  // before it was obeyed: the next attempt is told
  t.Wait(1'000);
  t.Tell(TimerFired{});
  t.Run();
  EXPECT_EQ(FindReply<HeartbeatReply>(t.Say(0, Heartbeat{5, "data"}))->order, 1);
  const auto publish = [&](int64_t step, int64_t order) {
    const CheckpointReport report{.step = step, .path = fmt::format("attempt-2/step-{:09}", step), .order = order};
    t.Tell(CheckpointVerified{2, report, "00"});
    return t.Tell(CheckpointPublished{report.path, {}, {}});
  };
  publish(6, 0);
  EXPECT_TRUE(t.job.checkpoint_ordered) << "that one was begun before the order was heard";
  t.Tell(CheckpointRequested{});
  publish(7, 1);
  EXPECT_TRUE(t.job.checkpoint_ordered) << "order 2 came meanwhile";
  const auto published = publish(8, 2);
  EXPECT_EQ(published.events.front().fields.back(), (std::pair<std::string, EventValue>{"order", int64_t{2}}));
  EXPECT_FALSE(t.job.checkpoint_ordered);
  EXPECT_EQ(FindReply<HeartbeatReply>(t.Say(0, Heartbeat{8, "data"}))->command, WorkerCommand::kContinue);
}

TEST(Machine, AnOrderForACheckpointEndsWithTheJob) {
  JobUnderTest t;
  t.Run();
  t.Tell(CheckpointRequested{});
  t.Tell(StopRequested{StopTarget::kPause});
  EXPECT_EQ(FindReply<HeartbeatReply>(t.Say(0, Heartbeat{5, "data"}))->command, WorkerCommand::kStop);
  EXPECT_THAT(t.Tell(CheckpointRequested{}).refusal, HasSubstr("STOPPING"));
  t.Say(0, Finished{6, "STOPPED"});
  t.Exit(0);
  t.Tell(ResumeRequested{});
  t.Run();
  EXPECT_EQ(FindReply<HeartbeatReply>(t.Say(0, Heartbeat{6, "data"}))->command, WorkerCommand::kContinue);
  t.Say(0, Finished{9, "MAX_STEPS"});
  EXPECT_THAT(t.Tell(CheckpointRequested{}).refusal, HasSubstr("has finished training"));
}

TEST(Machine, WhatOldAttemptsLeftIsSweptAndNeverTheCurrentAttempt) {
  JobUnderTest t;
  const auto first = t.Tell(StartGranted{"secret", Here(2)});
  ASSERT_NE(FindAction<SweepAttempts>(first), nullptr);
  EXPECT_EQ(FindAction<SweepAttempts>(first)->below, 1);
  t.Beat();
  t.Tell(CheckpointVerified{1, CheckpointReport{.step = 5, .path = "attempt-1/step-000000005"}, "00"});
  const auto published = t.Tell(CheckpointPublished{"attempt-1/step-000000005", {}, {}});
  ASSERT_NE(FindAction<SweepAttempts>(published), nullptr);
  EXPECT_EQ(FindAction<SweepAttempts>(published)->below, 1);
  EXPECT_THAT(FindAction<SweepAttempts>(published)->keep, ElementsAre("attempt-1/step-000000005"));
  const auto ended = t.Exit(137);
  ASSERT_NE(FindAction<SweepAttempts>(ended), nullptr);
  EXPECT_EQ(FindAction<SweepAttempts>(ended)->below, 2) << "no process of attempt 1 is left";
}

// current.json may still name a checkpoint that the newest one has retired.
TEST(Machine, AnUnpublishedCheckpointIsPublishedAtTheEndAndNothingItReplacesIsSweptBefore) {
  JobUnderTest t;
  t.Run();
  t.job.publish_pending = true;
  t.job.checkpoints = {{.step = 9, .path = "attempt-1/step-000000009"}};
  t.job.removals_pending = {"attempt-1/step-000000005"};
  const auto ended = t.Exit(137);
  ASSERT_NE(FindAction<PublishCheckpoint>(ended), nullptr);
  EXPECT_EQ(FindAction<PublishCheckpoint>(ended)->checkpoint.path, "attempt-1/step-000000009");
  ASSERT_NE(FindAction<SweepAttempts>(ended), nullptr);
  EXPECT_THAT(FindAction<SweepAttempts>(ended)->keep, ElementsAre("attempt-1/step-000000009", "attempt-1/step-000000005"));
}

TEST(Machine, AStopRacingWithTheNaturalEndCompletes) {
  JobUnderTest t;
  t.Run();
  t.Tell(StopRequested{StopTarget::kCancel});
  t.Say(0, Finished{470, "MAX_EPOCHS"});
  t.Exit(0);
  EXPECT_EQ(t.job.state, JobState::kCompleted);
}

TEST(Machine, WaitingJobsAreCancelledWithoutProcesses) {
  JobUnderTest t;
  EXPECT_EQ(t.Tell(StopRequested{StopTarget::kCancel}).actions.size(), 0u);
  EXPECT_EQ(t.job.state, JobState::kCancelled);
}

TEST(Machine, CommandsThatTheStateDoesNotAllowChangeNothing) {
  JobUnderTest t;
  EXPECT_THAT(t.Tell(ResumeRequested{}).refusal, HasSubstr("is QUEUED"));
  t.Run();
  EXPECT_THAT(t.Tell(ResumeRequested{}).refusal, HasSubstr("is RUNNING"));
  t.Say(0, Finished{1, "MAX_STEPS"});
  t.Exit(0);
  const auto refused = t.Tell(StopRequested{StopTarget::kCancel});
  EXPECT_THAT(refused.refusal, HasSubstr("already COMPLETED"));
  EXPECT_FALSE(refused.durable);
  EXPECT_THAT(t.Tell(ResumeRequested{}).refusal, HasSubstr("COMPLETED"));
}

TEST(Machine, AFailedLaunchUsesARestart) {
  JobUnderTest t;
  t.Tell(StartGranted{"secret", Here(2)});
  t.Tell(LaunchFailed{1, "mpirun is not installed"});
  EXPECT_EQ(t.job.state, JobState::kQueued);
  EXPECT_EQ(t.job.restarts, 1);
  EXPECT_THAT(t.job.message, HasSubstr("mpirun is not installed"));
}

TEST(Machine, ALaunchThatWouldFailAlikeIsNotTriedAgain) {
  JobUnderTest t;
  t.Tell(StartGranted{"secret", Here(2)});
  t.Tell(LaunchFailed{1, "job a-1 has no validated checkpoint", false});
  EXPECT_EQ(t.job.state, JobState::kFailed);
  EXPECT_EQ(t.job.restarts, 0);
  EXPECT_EQ(t.job.message, "job a-1 has no validated checkpoint");
}

TEST(Machine, AHeldJobStartsWhenTheSchedulerCanPlaceIt) {
  JobUnderTest t;
  t.Tell(HoldPlaced{"TOO_LARGE", "needs 64 cores"});
  EXPECT_EQ(t.job.state, JobState::kHeld);
  t.Start();
  EXPECT_EQ(t.job.state, JobState::kStarting);
}

TEST(Machine, EventsOfAnEndedAttemptAreIgnored) {
  JobUnderTest t;
  t.Run();
  t.Exit(1);
  t.Wait(1'000);
  t.Tell(TimerFired{});
  t.Run();
  const auto before = t.job.last_event;
  t.Tell(AttemptExited{1, 0, 0, "late"});
  t.Tell(LaunchFailed{1, "late"});
  EXPECT_EQ(t.job.last_event, before);
  EXPECT_EQ(t.job.state, JobState::kRunning);
}

TEST(Machine, AfterARestartOfTheCoordinatorEveryRankGetsItsFullTime) {
  JobUnderTest t;
  t.Run();
  t.now = {t.now.unix_ms + 3'600'000, 10};  // another boot: the monotonic clock begins anew
  t.Tell(Recovered{});
  EXPECT_EQ(t.job.state, JobState::kRunning);
  EXPECT_EQ(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
  EXPECT_EQ(NextDeadline(t.job, t.limits), 10 + t.limits.reconnect_allowance_ms) << "its ranks were all up before";
  t.Beat(7, "forward");
  EXPECT_EQ(t.job.workers[1].step, 7);
  EXPECT_THAT(t.history, Contains("recovered"));
}

TEST(Machine, AKillUnderWayIsRepeatedAfterARestartOfTheCoordinator) {
  JobUnderTest t;
  t.Run();
  t.Wait(10'000);
  ASSERT_NE(FindAction<KillAttempt>(t.Tell(TimerFired{})), nullptr);
  t.job.kill_sent = false;  // lives in memory only
  EXPECT_NE(FindAction<KillAttempt>(t.Tell(Recovered{})), nullptr);
}

}  // namespace
}  // namespace plateau::test
