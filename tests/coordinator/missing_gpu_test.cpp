// A granted GPU that does not answer, in the state machine: who is told, what it costs, and when it counts as a restart.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Two ranks on n1, one on n2.
class MissingGpuTest : public ::testing::Test {
 protected:
  void Start(const std::string& last = "3") {
    t_.Tell(StartGranted{"secret", {{"n1", 2, {0, 1}, {"0", "1"}}, {"n2", 1, {0}, {last}}}, "", "cuda", ""});
  }
  Outcome Misses(int rank) { return t_.Say(rank, Failed{.reason = "NO_GPU", .message = "no CUDA driver", .retry = false}); }

  JobUnderTest t_{SmallSpec(3)};
};

TEST_F(MissingGpuTest, TheRanksOwnIsWithdrawnAndNamed) {
  Start();
  const Outcome outcome = Misses(2);
  const auto* withdrawn = FindAction<WithdrawGpu>(outcome);
  ASSERT_NE(withdrawn, nullptr);
  EXPECT_EQ(withdrawn->node, "n2");
  EXPECT_EQ(withdrawn->gpu, (MissingGpu{"3", "no CUDA driver"}));
  EXPECT_EQ(t_.job.state, JobState::kStopping);
  EXPECT_EQ(t_.job.message, "GPU 3 of n2, granted to rank 2, does not answer: no CUDA driver");
  EXPECT_EQ(FindAction<WithdrawGpu>(Misses(1))->gpu.id, "1") << "each rank speaks for itself";
  EXPECT_THAT(t_.job.attempts[0].missing_gpus, ElementsAre("n2:3", "n1:1"));
}

TEST_F(MissingGpuTest, NoRestartIsUsedWhateverTheOthersSayAboutTheSame) {
  Start();
  t_.Say(0, Failed{.reason = "INTERNAL", .message = "cuda cannot be had", .retry = true});
  Misses(2);
  t_.Say(0, Failed{.reason = "INTERNAL", .message = "cuda cannot be had", .retry = true});
  t_.Exit(1);
  EXPECT_EQ(t_.job.state, JobState::kQueued);
  EXPECT_EQ(t_.job.reason, "NO_GPU");
  EXPECT_EQ(t_.job.restarts, 0);
  EXPECT_EQ(t_.job.not_before_ms, 0) << "it may start at once";
  EXPECT_EQ(t_.job.attempts[0].reason, "NO_GPU");
  EXPECT_THAT(t_.history, Contains("waiting"));
}

TEST_F(MissingGpuTest, AnotherThatIsMissingIsNoRestartEither) {
  for (const char* id : {"3", "4", "5", "6"}) {
    Start(id);
    Misses(2);
    t_.Exit(1);
    EXPECT_EQ(t_.job.reason, "NO_GPU");
  }
  EXPECT_EQ(t_.job.restarts, 0);
}

TEST_F(MissingGpuTest, OneThatWasOfferedAgainAndIsMissingAgainCounts) {
  for (int attempt = 1; attempt <= 3; ++attempt) {
    Start();
    Misses(2);
    t_.Exit(1);
    EXPECT_EQ(t_.job.restarts, attempt - 1);
  }
  Start();
  Misses(2);
  t_.Exit(1);
  EXPECT_EQ(t_.job.state, JobState::kFailed) << "or a host whose report comes and goes would start it for ever";
  EXPECT_EQ(t_.job.reason, "NO_GPU");
  EXPECT_THAT(t_.job.message, HasSubstr("GPU 3 of n2"));
}

TEST_F(MissingGpuTest, ACancelMeanwhileStands) {
  Start();
  Misses(2);
  t_.Tell(StopRequested{StopTarget::kCancel});
  t_.Exit(1);
  EXPECT_EQ(t_.job.state, JobState::kCancelled);
}

TEST_F(MissingGpuTest, ARankThatWasGrantedNoneIsAnOrdinaryFailure) {
  t_.Tell(StartGranted{"secret", {{"n1", 3, {0, 1, 2}}}, "", "cpu", ""});
  EXPECT_EQ(FindAction<WithdrawGpu>(Misses(0)), nullptr);
  t_.Exit(1);
  EXPECT_EQ(t_.job.restarts, 1);
}

}  // namespace
}  // namespace plateau::test
