// Choices of algorithms in files: what is kept, what is replaced, and files that are damaged.
#include "worker/train/choices_files.h"

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

TEST(Choices, ATableGoesToOtherRanksWhole) {
  const ChoiceTable table{{"conv \"1\" forward", "engine 34 k2=1"}, {"fc6", ""}};
  const auto there = DecodeChoices(EncodeChoices(table), "rank 0");
  ASSERT_TRUE(there) << there.error().message;
  EXPECT_EQ(*there, table);
  EXPECT_THAT(DecodeChoices("{\"a\":", "rank 0's algorithms").error().message, HasSubstr("rank 0's algorithms"));
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

TEST(ReadRecorded, IsOfThePublishedCheckpointOrOfTheOneThatIsNamed) {
  const test::TempFolder folder;
  PosixFileSystem files;
  CheckpointState state;
  state.identity.spec_json = "{}";
  const auto write = [&](int64_t step, const std::string& choice) {
    state.train.step = step;
    state.identity.choices = {{"conv1_1 forward", choice}};
    state.identity.largest_lane = choice == "engine 1" ? 0 : 12;
    const std::string path = folder / fmt::format("attempt-1/step-{:09}", step);
    ASSERT_TRUE(files.MakeDirectories(path));
    ASSERT_TRUE(WriteFileAtomic(files, path + "/state.json", EncodeState(state)));
  };
  EXPECT_FALSE(ReadRecorded(files, folder.path(), "auto")) << "a new run";
  write(2, "engine 1");
  write(4, "engine 2");
  ASSERT_TRUE(PublishCheckpoint(files, folder.path(), {.path = "attempt-1/step-000000002", .step = 2, .checksum = "0"}));
  const auto published = ReadRecorded(files, folder.path(), "auto");
  ASSERT_TRUE(published);
  EXPECT_THAT(published->identity.choices, ElementsAre(Pair("conv1_1 forward", "engine 1")));
  EXPECT_EQ(published->identity.largest_lane, 0);
  EXPECT_EQ(published->train.step, 2);
  const auto named = ReadRecorded(files, folder.path(), folder / "attempt-1/step-000000004");
  ASSERT_TRUE(named);
  EXPECT_THAT(named->identity.choices, ElementsAre(Pair("conv1_1 forward", "engine 2")));
  EXPECT_EQ(named->identity.largest_lane, 12);
  EXPECT_EQ(named->train.step, 4);
  EXPECT_FALSE(ReadRecorded(files, folder.path(), "none"));
  ASSERT_TRUE(WriteFileAtomic(files, folder / "attempt-1/step-000000002/state.json", "{"));
  EXPECT_FALSE(ReadRecorded(files, folder.path(), "auto")) << "the resume says what is wrong with it";
}

}  // namespace
}  // namespace plateau
