// Steps that end are left alone; one that does not end is named once.
#include "worker/doctor/watchdog.h"

#include <future>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

TEST(Watchdog, StepsThatEndAreLeftAlone) {
  Watchdog watchdog(std::chrono::hours(1), [](const std::string& step) { ADD_FAILURE() << step; });
  EXPECT_EQ(watchdog.Bound("one", [] { return 1; }), 1);
  EXPECT_THROW(watchdog.Bound("two", []() -> int { throw std::runtime_error("fault"); }), std::runtime_error);
  EXPECT_EQ(watchdog.Bound("three", [] { return 3; }), 3) << "a fault ends its step too";
}

// The second wait is over when the destructor is.
TEST(Watchdog, TheStepThatDoesNotEndIsNamedOnce) {
  std::vector<std::string> hung;
  {
    std::promise<void> given_up;
    Watchdog watchdog(std::chrono::milliseconds(1), [&](const std::string& step) {
      hung.push_back(step);
      given_up.set_value();
    });
    watchdog.Bound("the driver", [&] { given_up.get_future().wait(); });
    watchdog.Bound("what comes later", [] {});
  }
  EXPECT_THAT(hung, ::testing::ElementsAre("the driver"));
}

// What the step's thread had written before the step can be read meanwhile.
TEST(Watchdog, TheStepCannotBeLeftWhileItIsTold) {
  std::vector<int> found{1};
  std::promise<void> given_up;
  size_t told = 0;
  Watchdog watchdog(std::chrono::milliseconds(1), [&](const std::string&) {
    given_up.set_value();
    told = found.size();
  });
  watchdog.Bound("the driver", [&] { given_up.get_future().wait(); });
  found.push_back(2);
  EXPECT_EQ(told, 1u);
}

}  // namespace
}  // namespace plateau
