// What the API shows of a job's time.
#include "coordinator/job/job_view.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

nlohmann::json View(const JobUnderTest& t) { return nlohmann::json::parse(JobViewText(t.job, t.now, true)); }

TEST(JobTime, RunningTimeOfAllAttemptsLeavesOutPausesAndWaiting) {
  JobUnderTest t;
  t.Wait(7'000);
  EXPECT_EQ(View(t).at("ran_in_all_s"), 0);
  t.Run();
  t.Wait(5'000);
  EXPECT_EQ(View(t).at("ran_in_all_s"), 5.0) << "it runs";
  t.Tell(StopRequested{StopTarget::kPause});
  t.Exit(0);
  t.Wait(3'600'000);
  EXPECT_EQ(View(t).at("ran_in_all_s"), 5.0);
  t.Tell(ResumeRequested{});
  t.Wait(60'000);
  t.Run();
  t.Wait(2'000);
  EXPECT_EQ(View(t).at("ran_in_all_s"), 7.0);
  EXPECT_EQ(View(t).at("ran_s"), 2.0) << "what counts towards the time limit begins anew with a resume";
}

}  // namespace
}  // namespace plateau::test
