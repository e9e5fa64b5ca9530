// The scheduler's rule: priority, then the line; who may pass; who runs alone; who is held.
#include "coordinator/schedule/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

WaitingJob Waiting(const std::string& id, int cores, int64_t queued_ms = 0, int priority = 50) {
  return {.id = id, .priority = priority, .queued_ms = queued_ms, .order = queued_ms, .cores_needed = cores};
}

std::vector<std::string> Started(const Placement& placement) {
  std::vector<std::string> ids;
  for (const auto& start : placement.starts) ids.push_back(start.id);
  return ids;
}

TEST(Scheduler, PriorityFirstThenTheOrderOfArrival) {
  const auto placement = Place({.cores = 2}, {Waiting("late", 1, 2), Waiting("early", 1, 1), Waiting("urgent", 1, 3, 90)}, {}, 10);
  EXPECT_THAT(Started(placement), ElementsAre("urgent", "early"));
}

TEST(Scheduler, GrantsTheLowestFreeCoresAndNoCoreTwice) {
  const auto placement = Place({.cores = 8}, {Waiting("a", 2, 1), Waiting("b", 3, 2)}, {{"r", {0, 2}}}, 10);
  ASSERT_EQ(placement.starts.size(), 2u);
  EXPECT_THAT(placement.starts[0].cores, ElementsAre(1, 3));
  EXPECT_THAT(placement.starts[1].cores, ElementsAre(4, 5, 6));
}

TEST(Scheduler, SmallerJobsPassOneThatDoesNotFitUntilItHasWaitedLongEnough) {
  const std::vector<WaitingJob> line{Waiting("large", 4, 0), Waiting("small", 1, 1)};
  const std::vector<RunningJob> running{{"r", {0, 1}}};
  EXPECT_THAT(Started(Place({.cores = 4}, line, running, kPassWindowMs - 1)), ElementsAre("small"));
  EXPECT_THAT(Started(Place({.cores = 4}, line, running, kPassWindowMs)), IsEmpty());
}

TEST(Scheduler, AJobLargerThanTheNodeRunsAloneWhenItIsEmpty) {
  EXPECT_THAT(Started(Place({.cores = 2}, {Waiting("big", 4)}, {{"r", {0}}}, 1)), IsEmpty());
  const auto placement = Place({.cores = 2}, {Waiting("big", 4, 1), Waiting("next", 1, 2)}, {}, 10);
  ASSERT_THAT(Started(placement), ElementsAre("big"));
  EXPECT_THAT(placement.starts[0].cores, IsEmpty());
  EXPECT_THAT(Started(Place({.cores = 2}, {Waiting("next", 1)}, {{"big", {}}}, 10)), IsEmpty()) << "nothing runs beside it";
}

TEST(Scheduler, WithoutOversubscribingItIsHeldWithTheReasonAndTheOthersGoOn) {
  const NodeView node{.cores = 2, .allow_oversubscribe = false};
  const auto placement = Place(node, {Waiting("big", 4, 1), Waiting("next", 1, 2)}, {}, kPassWindowMs * 2);
  ASSERT_EQ(placement.holds.size(), 1u);
  EXPECT_EQ(placement.holds[0].reason, "TOO_LARGE");
  EXPECT_THAT(placement.holds[0].message, HasSubstr("needs 4 cores"));
  EXPECT_THAT(Started(placement), ElementsAre("next"));
  auto held = Waiting("big", 4);
  held.held = true;
  EXPECT_THAT(Place(node, {held}, {}, 1).holds, IsEmpty()) << "once";
  EXPECT_THAT(Started(Place({.cores = 8, .allow_oversubscribe = false}, {held}, {}, 1)), ElementsAre("big")) << "it fits now";
}

TEST(Scheduler, AJobInItsRestartDelayKeepsItsCores) {
  auto delayed = Waiting("delayed", 2, 1);
  delayed.delayed = true;
  EXPECT_THAT(Started(Place({.cores = 2}, {delayed, Waiting("next", 1, 2)}, {}, 10)), IsEmpty());
  EXPECT_THAT(Started(Place({.cores = 3}, {delayed, Waiting("next", 1, 2)}, {}, 10)), ElementsAre("next"));
}

}  // namespace
}  // namespace plateau
