// Choices of algorithms: what is asked first, what is kept, and files that are damaged.
#include "worker/train/recorded_choices.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"
#include "worker/train/run_folder.h"
#include "worker/train/state.h"

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

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
  EXPECT_THAT(choices.all(), ElementsAre(Pair("a", "recorded a"), Pair("b", "cached b"), Pair("c", "timed c"), Pair("other device", "kept")))
      << "for the next checkpoint";
}

TEST(RecordedChoices, OtherRanksTakeRankZerosTableAndNeverTime) {
  Clocked clocked;
  RecordedChoices zero({}, {{"a", "cached"}}), one({}, {});
  zero.Choose("a", clocked("timed"));
  const auto table = DecodeChoices(EncodeChoices(zero.all()), "rank 0");
  ASSERT_TRUE(table);
  one.Adopt(*table);
  EXPECT_EQ(one.Choose("a", clocked("timed")), "cached");
  try {
    one.Choose("conv9 forward", clocked("timed"));
    FAIL() << "timed on its own";
  } catch (const Failure& failure) {
    EXPECT_THAT(failure.what(), HasSubstr("conv9 forward"));
  }
  EXPECT_EQ(clocked.times, 0);
}

TEST(ChoicesCache, KeepsWhatWasThereAndADamagedFileIsReplaced) {
  const test::TempFolder folder;
  PosixFileSystem files;
  const std::string path = folder / "cache/plateau/algorithms.json";
  EXPECT_THAT(ReadChoicesCache(files, path), IsEmpty()) << "no file";
  EXPECT_THAT(ReadChoicesCache(files, ""), IsEmpty()) << "no home";
  EXPECT_TRUE(AddToChoicesCache(files, "", {{"a", "1"}}));
  ASSERT_TRUE(AddToChoicesCache(files, path, {{"a", "1"}, {"b", "2"}}));
  ASSERT_TRUE(AddToChoicesCache(files, path, {{"b", "3"}}));
  EXPECT_THAT(ReadChoicesCache(files, path), ElementsAre(Pair("a", "1"), Pair("b", "3")));
  for (const char* damage : {"{\"version\": 1, \"choi", "{\"version\": 2, \"choices\": {}}", "{\"version\": 1, \"choices\": [7]}", ""}) {
    ASSERT_TRUE(WriteFileAtomic(files, path, damage));
    EXPECT_THAT(ReadChoicesCache(files, path), IsEmpty()) << damage;
    ASSERT_TRUE(AddToChoicesCache(files, path, {{"c", "4"}}));
    EXPECT_THAT(ReadChoicesCache(files, path), ElementsAre(Pair("c", "4")));
  }
}

TEST(ChoicesCache, LiesWhereCachesLie) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string cache_was = cache != nullptr ? cache : "", home_was = home != nullptr ? home : "";
  setenv("XDG_CACHE_HOME", "/caches", 1);
  EXPECT_EQ(ChoicesCachePath(), "/caches/plateau/algorithms.json");
  setenv("XDG_CACHE_HOME", "relative", 1);
  setenv("HOME", "/home/ann", 1);
  EXPECT_EQ(ChoicesCachePath(), "/home/ann/.cache/plateau/algorithms.json");
  unsetenv("XDG_CACHE_HOME");
  unsetenv("HOME");
  EXPECT_EQ(ChoicesCachePath(), "");
  if (cache != nullptr) setenv("XDG_CACHE_HOME", cache_was.c_str(), 1);
  if (home != nullptr) setenv("HOME", home_was.c_str(), 1);
}

TEST(ReadRecordedChoices, AreThoseOfThePublishedCheckpointOrOfTheOneThatIsNamed) {
  const test::TempFolder folder;
  PosixFileSystem files;
  CheckpointState state;
  state.identity.spec_json = "{}";
  const auto write = [&](const std::string& step, const std::string& choice) {
    state.identity.choices = {{"conv1_1 forward", choice}};
    const std::string path = folder / ("attempt-1/" + step);
    ASSERT_TRUE(files.MakeDirectories(path));
    ASSERT_TRUE(WriteFileAtomic(files, path + "/state.json", EncodeState(state)));
  };
  EXPECT_THAT(ReadRecordedChoices(files, folder.path(), "auto"), IsEmpty()) << "a new run";
  write("step-000000002", "engine 1");
  write("step-000000004", "engine 2");
  ASSERT_TRUE(PublishCheckpoint(files, folder.path(), {.path = "attempt-1/step-000000002", .step = 2, .checksum = "0"}));
  EXPECT_THAT(ReadRecordedChoices(files, folder.path(), "auto"), ElementsAre(Pair("conv1_1 forward", "engine 1")));
  EXPECT_THAT(ReadRecordedChoices(files, folder.path(), folder / "attempt-1/step-000000004"), ElementsAre(Pair("conv1_1 forward", "engine 2")));
  EXPECT_THAT(ReadRecordedChoices(files, folder.path(), "none"), IsEmpty());
  ASSERT_TRUE(WriteFileAtomic(files, folder / "attempt-1/step-000000002/state.json", "{"));
  EXPECT_THAT(ReadRecordedChoices(files, folder.path(), "auto"), IsEmpty()) << "the resume says what is wrong with it";
}

}  // namespace
}  // namespace plateau
