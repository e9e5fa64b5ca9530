// The hang verdict: who is named when ranks fall silent, and who when all send heartbeats and none makes progress.
#include "coordinator/job/hang.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

// Three ranks in training, one of which said something new just now. hang_timeout is 10 s.
class HangTest : public ::testing::Test {
 protected:
  HangTest() : t_(SmallSpec(3)) {
    t_.Run();
    t_.Beat(7, "forward");
  }
  // Every rank repeats the same heartbeat for `ms`, as ranks of a stuck gang do.
  Outcome Repeat(const std::vector<Heartbeat>& beats, int64_t ms) {
    Outcome last = Round(beats);
    for (int64_t passed = 0; passed < ms; passed += 1'000) {
      t_.Wait(1'000);
      last = Round(beats);
      last = t_.Tell(TimerFired{});
    }
    return last;
  }
  Outcome Round(const std::vector<Heartbeat>& beats) {
    Outcome last;
    for (size_t rank = 0; rank < beats.size(); ++rank) last = t_.Say(static_cast<int>(rank), beats[rank]);
    return last;
  }
  static const EventRow* HangEvent(const Outcome& outcome) {
    for (const auto& row : outcome.events)
      if (row.type == "hang") return &row;
    return nullptr;
  }
  static EventValue Field(const EventRow& row, const std::string& name) {
    for (const auto& [known, value] : row.fields)
      if (known == name) return value;
    ADD_FAILURE() << "no field " << name;
    return {};
  }
  JobUnderTest t_;
};

TEST_F(HangTest, TheRankThatIsNotInTheCollectiveIsNamed) {
  const Outcome verdict = Repeat({{8, "reduce", 90, 31}, {8, "backward", 77, 0}, {8, "reduce", 90, 31}}, 10'000);
  EXPECT_EQ(t_.job.reason, "HANG");
  EXPECT_EQ(t_.job.message, "no progress for 10s: rank 1 on node at step 8 in phase backward keeps 2 other ranks waiting in a "
                            "collective call");
  ASSERT_NE(HangEvent(verdict), nullptr);
  EXPECT_EQ(Field(*HangEvent(verdict), "rank"), EventValue(int64_t{1}));
  EXPECT_EQ(Field(*HangEvent(verdict), "host"), EventValue(std::string("node")));
  EXPECT_EQ(Field(*HangEvent(verdict), "step"), EventValue(int64_t{8}));
  EXPECT_EQ(Field(*HangEvent(verdict), "phase"), EventValue(std::string("backward")));
  EXPECT_EQ(Field(*HangEvent(verdict), "stalled_s"), EventValue(10.0));
  ASSERT_NE(FindAction<KillAttempt>(verdict), nullptr);
  EXPECT_TRUE(FindAction<KillAttempt>(verdict)->save_traces);
  t_.Exit(137);
  EXPECT_EQ(t_.job.state, JobState::kQueued) << "it is relaunched";
}

TEST_F(HangTest, TheVerdictComesWhenTheTimeoutIsOverAndNotBefore) {
  const std::vector<Heartbeat> stuck{{8, "reduce", 90, 31}, {8, "backward", 77, 0}, {8, "reduce", 90, 31}};
  Round(stuck);
  const int64_t moved_ms = t_.now.monotonic_ms;
  EXPECT_EQ(FindAction<KillAttempt>(Repeat(stuck, 9'000)), nullptr);
  EXPECT_EQ(NextDeadline(t_.job, t_.limits), moved_ms + 10'000);
  t_.Wait(1'000);
  EXPECT_NE(FindAction<KillAttempt>(t_.Tell(TimerFired{})), nullptr);
}

TEST_F(HangTest, ARankInAnEarlierCollectiveCallIsNamed) {
  Repeat({{8, "reduce", 90, 31}, {8, "reduce", 90, 31}, {8, "reduce", 89, 30}}, 10'000);
  EXPECT_EQ(t_.job.message, "no progress for 10s: rank 2 on node at step 8 in phase reduce is in an earlier collective call than 2 "
                            "other ranks");
}

TEST_F(HangTest, WhenAllWaitAlikeThatIsSaid) {
  const Outcome verdict = Repeat({{8, "reduce", 90, 31}, {8, "reduce", 93, 31}, {8, "reduce", 90, 31}}, 10'000);
  EXPECT_EQ(t_.job.message, "no progress for 10s: all 3 ranks wait in the same collective call at step 8 in phase reduce: MPI or "
                            "the network is stuck");
  ASSERT_NE(HangEvent(verdict), nullptr);
  EXPECT_EQ(Field(*HangEvent(verdict), "rank"), EventValue(int64_t{-1}));
}

TEST_F(HangTest, WithoutACollectiveTheRankFurthestBehindIsNamed) {
  Repeat({{9, "data", 90, 0}, {9, "data", 90, 0}, {8, "report", 90, 0}}, 10'000);
  EXPECT_THAT(t_.job.message, HasSubstr("rank 2 on node at step 8 in phase report (3 ranks are in no collective call)"));
}

TEST_F(HangTest, BlockedStorageThatStopsAllAlikeIsSaid) {
  Repeat({{9, "data", 90, 0}, {9, "data", 70, 0}, {9, "data", 80, 0}}, 10'000);
  EXPECT_EQ(t_.job.message, "no progress for 10s: all 3 ranks stand at step 9 in phase data");
}

TEST_F(HangTest, ProgressOfOneRankIsEnough) {
  for (int64_t i = 0; i < 60; ++i) {
    ASSERT_EQ(FindAction<KillAttempt>(Repeat({{8, "reduce", 90, 31}, {8, "backward", 77 + i, 0}, {8, "reduce", 90, 31}}, 9'000)),
              nullptr)
        << "a slow step is no hang";
  }
  EXPECT_EQ(t_.job.state, JobState::kRunning);
}

TEST_F(HangTest, WaitingForTheCoordinatorIsNoHang) {
  EXPECT_EQ(FindAction<KillAttempt>(Repeat({{8, "wait-decision", 90, 0}, {8, "wait-decision", 9, 4}, {8, "wait-decision", 9, 4}}, 300'000)),
            nullptr);
  EXPECT_EQ(FindAction<KillAttempt>(Repeat({{9, "done", 90, 0}, {9, "done", 9, 5}, {9, "done", 9, 5}}, 300'000)), nullptr);
  EXPECT_EQ(t_.job.state, JobState::kRunning);
}

TEST_F(HangTest, ADecisionThatDoesNotReachTheOthersIsAHang) {
  Repeat({{8, "wait-decision", 90, 4}, {8, "wait-decision", 9, 4}, {8, "validate", 9, 0}}, 10'000);
  EXPECT_THAT(t_.job.message, HasSubstr("rank 2 on node at step 8 in phase validate"));
}

TEST_F(HangTest, RanksThatLoadAndPrepareHaveALimitOfTheirOwn) {
  const std::vector<Heartbeat> loading{{0, "start", 3, 0}, {0, "start", 1, 2}, {0, "start", 1, 2}};
  EXPECT_EQ(FindAction<KillAttempt>(Repeat(loading, t_.limits.start_stall_ms - 1'000)), nullptr);
  EXPECT_NE(FindAction<KillAttempt>(Repeat(loading, 1'000)), nullptr);
  EXPECT_THAT(t_.job.message, HasSubstr("rank 0 on node at step 0 in phase start keeps 2 other ranks waiting"));
}

TEST_F(HangTest, ChoosingAlgorithmsAndJoiningNcclArePartsOfTheStart) {
  const std::vector<Heartbeat> starting{
      {0, "start: choosing algorithms", 3, 0}, {0, "start: joining NCCL", 1, 2}, {0, "start: joining NCCL", 1, 2}};
  EXPECT_EQ(FindAction<KillAttempt>(Repeat(starting, t_.limits.start_stall_ms - 1'000)), nullptr);
  EXPECT_NE(FindAction<KillAttempt>(Repeat(starting, 1'000)), nullptr);
  EXPECT_THAT(t_.job.message,
              HasSubstr("rank 0 on node at step 0 in phase start: choosing algorithms keeps 2 other ranks waiting"));
}

TEST_F(HangTest, ASilentRankIsBlamedBeforeThoseItKeepsWaiting) {
  const std::vector<Heartbeat> stuck{{8, "reduce", 90, 31}, {8, "backward", 77, 0}, {8, "reduce", 90, 31}};
  Round(stuck);
  for (int i = 0; i < 10; ++i) {
    t_.Wait(1'000);
    t_.Say(0, stuck[0]);
    t_.Say(2, stuck[2]);
    t_.Tell(TimerFired{});
  }
  EXPECT_EQ(t_.job.message, "rank 1 on node was silent for 10s at step 8 in phase backward");
}

TEST_F(HangTest, ARestartOfTheCoordinatorGivesTheFullTimeAgain) {
  const std::vector<Heartbeat> stuck{{8, "reduce", 90, 31}, {8, "backward", 77, 0}, {8, "reduce", 90, 31}};
  Repeat(stuck, 9'000);
  t_.Tell(Recovered{});
  EXPECT_EQ(FindAction<KillAttempt>(Repeat(stuck, 9'000)), nullptr);
  EXPECT_NE(FindAction<KillAttempt>(Repeat(stuck, 1'000)), nullptr);
}

TEST_F(HangTest, AVerdictThatWasInterruptedIsCarriedOutAfterARestartWithItsTraces) {
  Repeat({{8, "reduce", 90, 31}, {8, "backward", 77, 0}, {8, "reduce", 90, 31}}, 10'000);
  const Outcome again = t_.Tell(Recovered{});
  ASSERT_NE(FindAction<KillAttempt>(again), nullptr);
  EXPECT_TRUE(FindAction<KillAttempt>(again)->save_traces);
}

TEST(Hang, ALoneRankIsNamed) {
  JobUnderTest t(SmallSpec(1));
  t.Run();
  for (int i = 0; i <= 10; ++i) {
    t.Say(0, Heartbeat{3, "report", 5, 0});
    t.Tell(TimerFired{});
    t.Wait(1'000);
  }
  EXPECT_EQ(t.job.message, "no progress for 10s: rank 0 on node at step 3 in phase report");
}

}  // namespace
}  // namespace plateau::test
