// The run folder: the newest usable checkpoint is found, the right ones are kept, one run at a time.
#include "worker/train/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_parameters.h"
#include "tests/support/temp_folder.h"

namespace plateau {
namespace {

class RunFolder : public ::testing::Test {
 protected:
  // Writes a checkpoint whose newest validation, number `validation`, gave `value`.
  std::string Write(int attempt, int64_t step, int validation = 0, double value = 0, int lineage = 1) {
    CheckpointState state;
    state.identity.spec_json = R"({"reproducibility":{"seed":1}})";
    state.identity.images = 100;
    state.identity.attempt = attempt;
    state.identity.lineage = lineage;
    state.train.step = step;
    if (validation > 0) state.train.history.push_back({.report = {.number = validation}, .value = value});
    ParameterSnapshot snapshot(parameters_, 1);
    snapshot.Take();
    const auto written = WriteCheckpoint(files_, fmt::format("{}/attempt-{}", folder_.path(), attempt), snapshot, state);
    EXPECT_TRUE(written) << written.error().message;
    return fmt::format("attempt-{}/{}", attempt, CheckpointFolderName(step));
  }
  void Publish(const std::string& path, int64_t step, int lineage = 1) {
    ASSERT_TRUE(PublishCheckpoint(files_, folder_.path(), {.path = path, .step = step, .checksum = "x", .lineage = lineage}));
  }
  void Damage(const std::string& path) {
    ASSERT_TRUE(WriteFileAtomic(files_, folder_.path() + "/" + path + "/model.safetensors", "damaged"));
  }
  int64_t NewestStep() {
    const auto loaded = LoadNewest(files_, folder_.path());
    EXPECT_TRUE(loaded) << loaded.error().message;
    return *loaded ? (*loaded)->checkpoint.state.train.step : -1;
  }
  std::vector<std::string> Paths() {
    std::vector<std::string> paths;
    const auto entries = ListCheckpoints(files_, folder_.path());
    EXPECT_TRUE(entries);
    for (const auto& entry : *entries) paths.push_back(entry.path);
    return paths;
  }
  PosixFileSystem files_;
  test::TempFolder folder_;
  test::FakeParameters parameters_{test::ChainInfos(1)};
};

TEST_F(RunFolder, AnEmptyOrAbsentFolderHasNoCheckpoint) {
  EXPECT_EQ(NewestStep(), -1);
  EXPECT_TRUE(LoadNewest(files_, folder_.path() + "/absent"));
  EXPECT_EQ(*NewestAttempt(files_, folder_.path() + "/absent"), 0);
}

TEST_F(RunFolder, ThePublishedOneIsTakenThoughANewerLies) {
  const auto published = Write(1, 10);
  Write(1, 20);  // of a process that lost its place: never published
  Publish(published, 10);
  EXPECT_EQ(NewestStep(), 10);
  EXPECT_EQ(*NewestAttempt(files_, folder_.path()), 1);
}

TEST_F(RunFolder, ADamagedNewestIsPassedOverForTheOneBefore) {
  Write(1, 10);
  const auto middle = Write(2, 20);
  const auto newest = Write(2, 30);
  Publish(newest, 30);
  EXPECT_EQ(NewestStep(), 30);
  Damage(newest);
  EXPECT_EQ(NewestStep(), 20);
  Damage(middle);
  EXPECT_EQ(NewestStep(), 10);
}

TEST_F(RunFolder, ADamagedNewestIsNotReplacedByARunBegunOtherwise) {
  Write(1, 10, 0, 0, 1);
  Write(2, 5, 0, 0, 2);
  const auto newest = Write(2, 15, 0, 0, 2);
  Publish(newest, 15, 2);
  Damage(newest);
  EXPECT_EQ(NewestStep(), 5);
}

TEST_F(RunFolder, ThePointerKnowsTheLineageWhenTheDamagedStateDoesNot) {
  Write(1, 10, 0, 0, 1);
  Write(2, 5, 0, 0, 2);
  const auto newest = Write(2, 15, 0, 0, 2);
  Publish(newest, 15, 2);
  ASSERT_TRUE(WriteFileAtomic(files_, folder_.path() + "/" + newest + "/state.json", "{"));
  EXPECT_EQ(NewestStep(), 5);
}

TEST_F(RunFolder, OnlyTheOneThatThePointerNamesCountsAsPublished) {
  const auto first = Write(1, 10);
  EXPECT_FALSE((*LoadNewest(files_, folder_.path()))->published);
  Publish(first, 10);
  EXPECT_TRUE((*LoadNewest(files_, folder_.path()))->published);
  const auto second = Write(1, 20);
  Publish(second, 20);
  Damage(second);
  EXPECT_FALSE((*LoadNewest(files_, folder_.path()))->published) << "the one before is used in its place";
}

TEST_F(RunFolder, WhenAllAreDamagedTheRunDoesNotBeginAnewByItself) {
  const auto only = Write(1, 10);
  Publish(only, 10);
  Damage(only);
  const auto loaded = LoadNewest(files_, folder_.path());
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, ::testing::HasSubstr("--resume none"));
}

TEST_F(RunFolder, AFolderWithoutManifestIsNoCheckpoint) {
  const auto path = Write(1, 10);
  ASSERT_TRUE(files_.Remove(folder_.path() + "/" + path + "/manifest.json"));
  EXPECT_EQ(NewestStep(), -1);
}

TEST_F(RunFolder, LastAndBestAreKeptAndLeftOversGo) {
  Write(1, 10, 1, 0.5);
  Write(1, 20, 2, 0.2);
  Write(1, 25, 2, 0.2);  // between validations: carries validation 2, but is not its checkpoint
  Write(2, 30, 3, 0.4);
  Write(2, 40, 4, 0.6);
  Write(2, 50, 5, 0.7);
  ASSERT_TRUE(files_.MakeDirectories(folder_.path() + "/attempt-1/step-000000060.tmp"));
  const std::string killed = folder_.path() + "/attempt-1/step-000000070.tmp";  // just before its rename
  ASSERT_TRUE(files_.MakeDirectories(killed));
  ASSERT_TRUE(WriteFileAtomic(files_, killed + "/manifest.json", "{}"));
  ASSERT_TRUE(WriteFileAtomic(files_, folder_.path() + "/current.json.tmp-77", "{"));
  ASSERT_TRUE(DeleteOldCheckpoints(files_, folder_.path(), 1, 2, 1));
  EXPECT_THAT(Paths(), ::testing::ElementsAre("attempt-2/step-000000050", "attempt-2/step-000000040", "attempt-1/step-000000020"));
  EXPECT_FALSE(files_.Exists(folder_.path() + "/attempt-1/step-000000060.tmp"));
  EXPECT_FALSE(files_.Exists(killed));
  EXPECT_FALSE(files_.Exists(folder_.path() + "/current.json.tmp-77"));
}

TEST_F(RunFolder, CheckpointsThatWereGivenUpGoAndThePublishedOneStays) {
  Write(1, 10);
  Write(1, 30);  // complete, and its process died before it could publish it: the next attempt went on from step 10
  const auto current = Write(2, 20);
  Publish(current, 20);
  ASSERT_TRUE(DeleteOldCheckpoints(files_, folder_.path(), 1, 1, 0));
  EXPECT_THAT(Paths(), ::testing::ElementsAre("attempt-2/step-000000020"));
}

TEST_F(RunFolder, AnotherLineageIsNotTouched) {
  Write(1, 10, 1, 0.5, 1);
  Write(2, 5, 1, 0.9, 2);
  Write(2, 6, 1, 0.9, 2);
  ASSERT_TRUE(DeleteOldCheckpoints(files_, folder_.path(), 2, 1, 0));
  EXPECT_THAT(Paths(), ::testing::ElementsAre("attempt-1/step-000000010", "attempt-2/step-000000006"));
}

TEST(CheckpointsToDelete, TheNewestStaysWhateverIsAsked) {
  const std::vector<RetentionCandidate> candidates{{{1, 20, "b"}, 2, 0.4}, {{1, 10, "a"}, 1, 0.3}};
  const auto surplus = CheckpointsToDelete(candidates, 0, 0);
  ASSERT_EQ(surplus.size(), 1u);
  EXPECT_EQ(surplus[0].path, "a");
}

TEST_F(RunFolder, ASecondHolderOfTheLockIsRefusedUntilTheFirstIsGone) {
  auto first = FolderLock::Take(folder_.path());
  ASSERT_TRUE(first);
  const auto second = FolderLock::Take(folder_.path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_THAT(second.error().message, ::testing::HasSubstr("process "));
  first->reset();
  EXPECT_TRUE(FolderLock::Take(folder_.path()));
}

}  // namespace
}  // namespace plateau
