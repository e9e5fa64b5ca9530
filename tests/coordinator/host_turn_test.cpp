// Ranks grouped by host: which host fell silent, what an end of mpirun says of hosts, fewer workers, waiting for a host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/job/hosts.h"
#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<NodeShare> kThreeHosts{{"n1", 2, {0, 1}}, {"n2", 2, {0, 1}}, {"n3", 2, {0, 1}}};

// A job of six ranks on three hosts, all heard.
class HostTurn : public ::testing::Test {
 protected:
  HostTurn() { Run(kThreeHosts); }
  void Run(const std::vector<NodeShare>& shares) {
    t.Tell(StartGranted{"secret", shares});
    t.Tell(Launched{static_cast<int>(t.job.attempts.size()), 42});
    Beat({0, 1, 2, 3, 4, 5}, 0);
  }
  void Beat(const std::vector<int>& ranks, int64_t step) {
    for (const int rank : ranks)
      if (rank < WorldSize(t.job)) t.Say(rank, Heartbeat{step, "reduce"});
  }
  // A second passes, in which the ranks that live are heard.
  Outcome Second(const std::vector<int>& ranks) {
    t.Wait(1'000);
    Beat(ranks, 12);
    return t.Tell(TimerFired{});
  }

  JobUnderTest t{SmallSpec(6)};
};

TEST_F(HostTurn, RanksThatFallSilentTogetherAreTheirHostsAndNamedByIt) {
  Beat({0, 1, 2, 3, 4, 5}, 12);
  t.Wait(600);
  Beat({5}, 12);  // the last that is heard of n3, not quite at the same time
  Outcome verdict;
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(FindAction<KillAttempt>(verdict), nullptr) << i;
    verdict = Second({0, 1, 2, 3});
  }
  ASSERT_NE(FindAction<KillAttempt>(verdict), nullptr);
  const auto* doubt = FindAction<DoubtHosts>(verdict);
  ASSERT_NE(doubt, nullptr);
  EXPECT_TRUE(doubt->lost);
  EXPECT_THAT(doubt->nodes, ElementsAre("n3"));
  EXPECT_EQ(t.job.reason, "LOST_HOST");
  EXPECT_EQ(t.job.message, "host n3: ranks 4,5 silent for 10.6 s at step 12 in phase reduce");
  EXPECT_THAT(t.history, Contains("lost_host"));
  EXPECT_THAT(t.history, Not(Contains("hang")));
  t.Exit(137);
  EXPECT_EQ(t.job.state, JobState::kQueued);
  EXPECT_EQ(t.job.attempts.back().reason, "LOST_HOST");
}

TEST_F(HostTurn, OneSilentRankOfAHostIsAHangAndNoLostHost) {
  Outcome verdict;
  for (int i = 0; i < 10; ++i) verdict = Second({0, 1, 2, 3, 5});
  ASSERT_NE(FindAction<KillAttempt>(verdict), nullptr);
  EXPECT_EQ(FindAction<DoubtHosts>(verdict), nullptr);
  EXPECT_EQ(t.job.reason, "HANG");
  EXPECT_THAT(t.job.message, HasSubstr("rank 4"));
}

TEST_F(HostTurn, AMachineOfTheCoordinatorsOwnIsNeverLost) {
  t.Exit(1);
  Run({{kLocalNode, 2, {0, 1}}, {"n2", 4, {0, 1, 2, 3}}});
  for (int i = 0; i < 10; ++i) Second({2, 3, 4, 5});
  EXPECT_EQ(t.job.reason, "HANG");
}

TEST_F(HostTurn, AHostWhoseRanksNeverSpokeIsNamedAfterTheStartAllowance) {
  t.Exit(1);
  t.Tell(StartGranted{"secret", kThreeHosts});
  for (int i = 0; i < 60; ++i) Second({0, 1, 2, 3});
  EXPECT_EQ(t.job.reason, "LOST_HOST");
  EXPECT_EQ(t.job.message, "host n3: ranks 4,5 not heard within 60.0 s of the start");
}

TEST_F(HostTurn, AnEndOfMpirunNamesTheHostThatTheOthersLeftBehind) {
  for (int i = 0; i < 8; ++i) Second({0, 1, 2, 3});  // mpirun notices by its keepalive, before the hang timeout of 10 s
  const auto ended = t.Exit(205);
  EXPECT_EQ(t.job.attempts.back().reason, "LOST_HOST");
  EXPECT_THAT(t.job.attempts.back().message, HasSubstr("host n3: ranks 4,5 silent for 8.0 s"));
  ASSERT_NE(FindAction<DoubtHosts>(ended), nullptr);
  EXPECT_THAT(FindAction<DoubtHosts>(ended)->nodes, ElementsAre("n3"));
  EXPECT_EQ(t.job.state, JobState::kQueued);
}

TEST_F(HostTurn, AHostThatWasCutOffBeforeItSpokeIsNamedToo) {
  t.Exit(1);
  t.Tell(StartGranted{"secret", kThreeHosts});
  for (int i = 0; i < 8; ++i) Second({0, 1, 2, 3});
  t.Exit(205);
  EXPECT_EQ(t.job.attempts.back().message, "host n3: ranks 4,5 not heard within 8.0 s of the start");
  t.Tell(StartGranted{"secret", kThreeHosts});
  t.Wait(8'000);
  t.Exit(1);
  EXPECT_EQ(t.job.attempts.back().reason, "EXIT_1") << "nobody spoke, nobody was left behind";
}

TEST_F(HostTurn, EveryRemoteHostOfAnAttemptThatWentWrongIsDoubted) {
  t.Exit(1);
  Run({{kLocalNode, 3, {0, 1, 2}}, {"n2", 3, {0, 1, 2}}});
  const auto ended = t.Exit(137);
  ASSERT_NE(FindAction<DoubtHosts>(ended), nullptr);
  EXPECT_FALSE(FindAction<DoubtHosts>(ended)->lost);
  EXPECT_THAT(FindAction<DoubtHosts>(ended)->nodes, ElementsAre("n2"));
  EXPECT_EQ(t.job.attempts.back().reason, "EXIT_137");
}

TEST_F(HostTurn, AFinishedAttemptDoubtsNobody) {
  t.Say(0, Finished{470, "MAX_EPOCHS"});
  EXPECT_EQ(FindAction<DoubtHosts>(t.Exit(0)), nullptr);
}

TEST_F(HostTurn, FewerWorkersAreAllThatIsWaitedFor) {
  t.Exit(1);
  t.Tell(StartGranted{"secret", {{"n1", 2, {0, 1}}, {"n2", 1, {0}}}});
  Beat({0, 1}, 0);
  EXPECT_EQ(t.job.state, JobState::kStarting);
  Beat({2}, 0);
  EXPECT_EQ(t.job.state, JobState::kRunning);
  EXPECT_NE(FindReply<Refused>(t.Say(3, Heartbeat{0, "start"})), nullptr) << "there is no rank 3 in this attempt";
}

TEST_F(HostTurn, WaitingForAHostIsRecordedOnce) {
  t.Exit(1);
  t.Tell(WaitNoted{"WAITING_FOR_HOST", "waiting for host n3"});
  const int64_t last = t.job.last_event;
  t.Tell(WaitNoted{"WAITING_FOR_HOST", "waiting for host n3"});
  EXPECT_EQ(t.job.last_event, last);
  EXPECT_EQ(t.job.reason, "WAITING_FOR_HOST");
  EXPECT_EQ(t.job.state, JobState::kQueued);
  Run(kThreeHosts);
  t.Tell(WaitNoted{"WAITING_FOR_HOST", "late"});
  EXPECT_EQ(t.job.reason, "RUNNING");
}

TEST_F(HostTurn, AnotherHolderOfTheSameChangesTheMessageWithoutAnEvent) {
  t.Exit(1);
  t.Tell(WaitNoted{"WAITING_FOR_GPU", "waits for 1 GPU: a-1 holds n1:0"});
  const int64_t last = t.job.last_event;
  const Outcome outcome = t.Tell(WaitNoted{"WAITING_FOR_GPU", "waits for 1 GPU: b-1 holds n1:0"});
  EXPECT_EQ(t.job.message, "waits for 1 GPU: b-1 holds n1:0");
  EXPECT_EQ(t.job.last_event, last);
  EXPECT_FALSE(outcome.durable) << "it is said anew after a restart";
}

TEST_F(HostTurn, AHeldJobThatNowOnlyWaitsIsQueued) {
  t.Exit(1);
  t.Tell(HoldPlaced{"TOO_LARGE", "it needs 2 GPUs"});
  t.Tell(WaitNoted{"WAITING_FOR_GPU", "waits for 1 GPU: a-1 holds n1:0"});
  EXPECT_EQ(t.job.state, JobState::kQueued);
  EXPECT_EQ(t.job.reason, "WAITING_FOR_GPU");
  EXPECT_EQ(t.history.back(), "waiting");
}

}  // namespace
}  // namespace plateau::test
