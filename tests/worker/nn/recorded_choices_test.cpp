// Choices of algorithms: what is asked first, what gives way to what when a choice cannot be built, and that no plan's choice
// changes behind its back.
#include "worker/nn/recorded_choices.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr const char *kTraining = "batch 8 within 900 bytes", *kValidation = "batch 8 within 100 bytes", *kKey = "conv1_1 forward";

class Clocked {
 public:
  std::function<std::string()> operator()(const std::string& answer) {
    return [this, answer] {
      ++times;
      return answer;
    };
  }
  int times = 0;
};

// A plan as BuildChosen makes one, on a device where only the texts in `good` can be built by that plan.
std::string Build(RecordedChoices& choices, const std::string& plan, const std::vector<std::string>& good, const std::string& timed,
                  ErrorCode why = ErrorCode::kUnsupported) {
  const auto time = [&] { return timed; };
  const auto exception = choices.Exception(kKey, plan);
  std::string text = exception ? *exception : choices.Choose(kKey, time);
  for (int tries = 0; tries < 5; ++tries) {
    if (std::ranges::count(good, text) > 0) return text;
    text = choices.Replace({kKey, plan, text, {why, "not here"}}, time);
  }
  return "no end";
}

std::string FaultOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "none";
}

TEST(RecordedChoices, TheCheckpointGoesBeforeTheFileAndTheFileBeforeTheClock) {
  Clocked clocked;
  RecordedChoices choices({{"a", "recorded a"}, {"other device", "kept"}}, {{"a", "cached a"}, {"b", "cached b"}});
  EXPECT_EQ(choices.Choose("a", clocked("timed a")), "recorded a");
  EXPECT_EQ(choices.Choose("b", clocked("timed b")), "cached b");
  EXPECT_EQ(clocked.times, 0);
  EXPECT_EQ(choices.Choose("c", clocked("timed c")), "timed c");
  EXPECT_EQ(choices.Choose("c", clocked("timed otherwise")), "timed c");
  EXPECT_EQ(clocked.times, 1);
  EXPECT_THAT(choices.timed(), ElementsAre(Pair("c", "timed c")));
  EXPECT_THAT(choices.all(),
              ElementsAre(Pair("a", "recorded a"), Pair("b", "cached b"), Pair("c", "timed c"), Pair("other device", "kept")))
      << "for the next checkpoint";
}

TEST(RecordedChoices, AStaleChoiceGivesWayToTheFilesAndThenToTheClocksForAllPlans) {
  RecordedChoices from_file({{kKey, "stale"}}, {{kKey, "cached"}});
  EXPECT_EQ(Build(from_file, kTraining, {"cached"}, "timed"), "cached");
  EXPECT_THAT(from_file.all(), ElementsAre(Pair(kKey, "cached")));
  EXPECT_THAT(from_file.timed(), IsEmpty()) << "the file has it";

  RecordedChoices from_clock({}, {{kKey, "stale"}});
  EXPECT_EQ(Build(from_clock, kTraining, {"timed"}, "timed"), "timed");
  EXPECT_EQ(Build(from_clock, kValidation, {"timed"}, "timed later"), "timed");
  EXPECT_THAT(from_clock.all(), ElementsAre(Pair(kKey, "timed")));
  EXPECT_THAT(from_clock.timed(), ElementsAre(Pair(kKey, "timed"))) << "takes the stale one's place in the file";

  RecordedChoices both({{kKey, "stale"}}, {{kKey, "stale too"}});
  EXPECT_EQ(Build(both, kTraining, {"timed"}, "timed"), "timed");
  EXPECT_THAT(both.timed(), ElementsAre(Pair(kKey, "timed")));
}

// The second plan must not change the first one's choice: ranks and resumes build the first from the same table.
TEST(RecordedChoices, WhatAPlanRunsStaysWhenAnotherPlanCannotBuildIt) {
  RecordedChoices first({}, {});
  EXPECT_EQ(Build(first, kTraining, {"fast"}, "fast"), "fast");
  EXPECT_EQ(Build(first, kValidation, {"small"}, "small"), "small");
  EXPECT_THAT(first.all(), ElementsAre(Pair(kKey, "fast"), Pair(std::string(kKey) + ", " + kValidation, "small")));
  EXPECT_EQ(first.timed(), first.all());

  // A resume, another rank, and the next run on this machine build the same, in either order, and time nothing.
  const auto expect_same = [&](RecordedChoices again, const char* what) {
    EXPECT_EQ(Build(again, kValidation, {"small"}, "timed"), "small") << what;
    EXPECT_EQ(Build(again, kTraining, {"fast"}, "timed"), "fast") << what;
    EXPECT_EQ(Build(again, kValidation, {"small"}, "timed"), "small") << what;
    EXPECT_THAT(again.timed(), IsEmpty()) << what;
    EXPECT_EQ(again.all(), first.all()) << what;
  };
  expect_same(RecordedChoices(first.all(), {}), "a resume");
  RecordedChoices rank({}, {});
  rank.Adopt(first.all());
  expect_same(std::move(rank), "a rank");
  RecordedChoices next({}, first.timed());
  EXPECT_EQ(Build(next, kTraining, {"fast"}, "timed"), "fast");
  EXPECT_EQ(Build(next, kValidation, {"small"}, "timed"), "small");
  EXPECT_THAT(next.timed(), IsEmpty());
  EXPECT_EQ(next.all(), first.all()) << "the next run";
}

// A test of a checkpoint with little workspace does not take from the training that comes next what it has enough for.
TEST(RecordedChoices, AChoiceThatOnlyLacksWorkspaceIsNotStale) {
  RecordedChoices testing({}, {{kKey, "fast"}});
  EXPECT_EQ(Build(testing, kValidation, {"small"}, "small", ErrorCode::kUnavailable), "small");
  EXPECT_THAT(testing.timed(), ElementsAre(Pair(std::string(kKey) + ", " + kValidation, "small")));
  EXPECT_EQ(testing.all().at(kKey), "fast");
}

// They were made beside the file's choice, and the checkpoint has another, which this plan may well be able to run.
TEST(RecordedChoices, TheFilesExceptionsAreNoneToTheCheckpointsChoice) {
  const ChoiceTable file{{kKey, "fast"}, {std::string(kKey) + ", " + kValidation, "small"}};
  RecordedChoices resumed({{kKey, "recorded"}}, file);
  EXPECT_EQ(Build(resumed, kValidation, {"recorded", "small"}, "timed"), "recorded");
  RecordedChoices refused({{kKey, "recorded"}}, file);
  EXPECT_EQ(Build(refused, kTraining, {"recorded"}, "timed"), "recorded");
  EXPECT_EQ(Build(refused, kValidation, {"small"}, "timed"), "small") << "from the file";
  EXPECT_THAT(refused.timed(), IsEmpty());
}

// What is timed beside a checkpoint's choice would else be an exception to the file's, which may well run.
TEST(RecordedChoices, WhereTheCheckpointsChoiceLacksWorkspaceTheFilesIsTriedBeforeTheClock) {
  RecordedChoices choices({{kKey, "recorded"}}, {{kKey, "lean"}});
  EXPECT_EQ(Build(choices, kValidation, {"lean"}, "timed", ErrorCode::kUnavailable), "lean");
  EXPECT_THAT(choices.timed(), IsEmpty());
  EXPECT_EQ(choices.all().at(kKey), "recorded");
  RecordedChoices neither({{kKey, "recorded"}}, {{kKey, "fast"}, {std::string(kKey) + ", " + kValidation, "stale"}});
  EXPECT_EQ(Build(neither, kValidation, {"small"}, "small", ErrorCode::kUnavailable), "small") << "nothing is tried twice";
  EXPECT_THAT(neither.timed(), ElementsAre(Pair(std::string(kKey) + ", " + kValidation, "small")));
}

// A test of an unusual batch, on a device where that batch cannot run what training recorded.
TEST(RecordedChoices, ATestReplacesNothingOfTrainingsAndTrainingReadsNothingOfTests) {
  constexpr const char* kOdd = "batch 3 within 100 bytes";
  const ChoiceTable file{{kKey, "fast"}, {std::string(kKey) + ", " + kTraining, "special"}};
  const std::string own = std::string(kKey) + ", " + kOdd + ", test";
  RecordedChoices test({}, file, RecordedChoices::Use::kTest);
  EXPECT_EQ(Build(test, kTraining, {"fast", "special"}, "timed"), "special") << "training's plan, and its exception";
  EXPECT_EQ(Build(test, kOdd, {"odd"}, "odd"), "odd") << "no second plan ran it: in a training it would have been stale";
  EXPECT_THAT(test.timed(), ElementsAre(Pair(own, "odd")));
  EXPECT_EQ(test.all().at(kKey), "fast");

  ChoiceTable grown = file;
  grown.insert(test.timed().begin(), test.timed().end());
  RecordedChoices again({}, grown, RecordedChoices::Use::kTest);
  EXPECT_EQ(Build(again, kOdd, {"odd"}, "timed"), "odd");
  EXPECT_EQ(Build(again, kValidation, {"fast"}, "timed"), "fast");
  EXPECT_THAT(again.timed(), IsEmpty());
  RecordedChoices training({}, grown);
  EXPECT_EQ(training.Exception(kKey, kOdd), std::nullopt);
  EXPECT_EQ(Build(training, kValidation, {"fast"}, "timed"), "fast");
}

// Such as the prediction of one image on a machine that has trained nothing yet.
TEST(RecordedChoices, WhatATestTimedFirstIsItsOwnAlsoWhenTrainingTimesItLater) {
  RecordedChoices test({}, {}, RecordedChoices::Use::kTest);
  EXPECT_EQ(Build(test, kValidation, {"of one image"}, "of one image"), "of one image");
  EXPECT_THAT(test.timed(), ElementsAre(Pair(std::string(kKey) + ", test", "of one image")));
  EXPECT_THAT(test.all(), ElementsAre(Pair(kKey, "of one image"))) << "what the other ranks ask for";

  ChoiceTable file = test.timed();
  RecordedChoices training({}, file);
  EXPECT_EQ(Build(training, kTraining, {"of many"}, "of many"), "of many");
  EXPECT_EQ(Build(training, kValidation, {"lean"}, "lean", ErrorCode::kUnavailable), "lean");
  file.insert(training.timed().begin(), training.timed().end());
  EXPECT_EQ(file.size(), 3u);
  RecordedChoices again({}, file, RecordedChoices::Use::kTest);
  EXPECT_EQ(Build(again, kValidation, {"of one image", "of many", "lean"}, "timed"), "of one image") << "the same bytes as before";
}

TEST(RecordedChoices, TestsOfOneFileAgreeWhereTrainingLeftAnExceptionAlone) {
  ChoiceTable file{{std::string(kKey) + ", " + kTraining, "lean"}};  // beside a checkpoint's choice
  RecordedChoices first({}, file, RecordedChoices::Use::kTest);
  const std::string chosen = Build(first, kTraining, {"lean", "timed"}, "timed");
  EXPECT_EQ(Build(first, kValidation, {"timed"}, "timed"), "timed");
  file.insert(first.timed().begin(), first.timed().end());
  RecordedChoices again({}, file, RecordedChoices::Use::kTest);
  EXPECT_EQ(Build(again, kTraining, {"lean", "timed"}, "other"), chosen);
}

TEST(RecordedChoices, AnExceptionThatCannotBeBuiltIsReplacedAlone) {
  const std::string exception = std::string(kKey) + ", " + kValidation;
  RecordedChoices choices({{kKey, "fast"}, {exception, "stale"}}, {});
  EXPECT_EQ(Build(choices, kValidation, {"small"}, "small"), "small");
  EXPECT_THAT(choices.all(), ElementsAre(Pair(kKey, "fast"), Pair(exception, "small")));
}

TEST(RecordedChoices, OtherRanksTakeRankZerosTableAndNeverTime) {
  Clocked clocked;
  RecordedChoices zero({}, {{"a", "cached"}}), one({}, {});
  zero.Choose("a", clocked("timed"));
  one.Adopt(zero.all());
  EXPECT_EQ(one.Choose("a", clocked("timed")), "cached");
  EXPECT_THAT(FaultOf([&] { one.Choose("conv9 forward", clocked("timed")); }), HasSubstr("conv9 forward"));
  EXPECT_THAT(FaultOf([&] {
                one.Replace({"a", kTraining, "cached", {ErrorCode::kUnsupported, "for another chip"}}, clocked("timed"));
              }),
              AllOf(HasSubstr("\"a\": rank 0's algorithm, \"cached\", cannot be built here"), HasSubstr(kTraining),
                    HasSubstr("for another chip"), HasSubstr("devices and libraries of the same kind")));
  EXPECT_EQ(clocked.times, 0);
}

}  // namespace
}  // namespace plateau
