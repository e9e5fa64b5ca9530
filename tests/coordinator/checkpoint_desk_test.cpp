// Verifying, publishing and deleting checkpoint folders, with a disk that fails at every point.
#include "coordinator/checkpoint_desk.h"

#include <cstdio>
#include <filesystem>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "tests/support/faulty_files.h"
#include "tests/support/polling.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CheckpointDeskTest : public ::testing::Test {
 protected:
  void Make(const std::string& path, const std::string& manifest = R"({"version":1})") {
    ASSERT_TRUE(real_.MakeDirectories(folder_.path() + "/" + path).has_value());
    ASSERT_TRUE(WriteFileAtomic(real_, folder_.path() + "/" + path + "/model.safetensors", "weights").has_value());
    if (manifest.empty()) return;
    ASSERT_TRUE(WriteFileAtomic(real_, folder_.path() + "/" + path + "/manifest.json", manifest).has_value());
  }
  bool Exists(const std::string& path) { return real_.Exists(folder_.path() + "/" + path); }
  std::string Current() {
    auto text = real_.Read(folder_.path() + "/current.json");
    return text ? nlohmann::json::parse(*text).at("path").get<std::string>() : "";
  }
  static PublishCheckpoint Publication(const std::string& path, std::vector<std::string> removals = {}) {
    return {{.step = 7, .path = path, .checksum = "00ff", .lineage = 3}, std::move(removals)};
  }

  TempFolder folder_;
  FaultyFiles real_;  // never fails, and does not wait for the disk
};

TEST_F(CheckpointDeskTest, AManifestIsWhatMakesACheckpoint) {
  Make("attempt-1/step-1");
  EXPECT_EQ(VerifyCheckpointFolder(real_, folder_.path() + "/attempt-1/step-1").value(),
            ChecksumText(Checksum(R"({"version":1})")));
  Make("attempt-1/step-2", "");
  const auto missing = VerifyCheckpointFolder(real_, folder_.path() + "/attempt-1/step-2");
  ASSERT_FALSE(missing.has_value());
  EXPECT_THAT(missing.error().message, HasSubstr("attempt-1/step-2/manifest.json"));
  Make("attempt-1/step-3", "{\"cut");
  EXPECT_FALSE(VerifyCheckpointFolder(real_, folder_.path() + "/attempt-1/step-3").has_value());
}

TEST_F(CheckpointDeskTest, PublishingPointsAtTheNewOneAndDeletesTheOld) {
  for (const char* path : {"attempt-1/step-1", "attempt-1/step-2", "attempt-1/step-3"}) Make(path);
  const auto published =
      PublishCheckpointFolder(real_, folder_.path(), Publication("attempt-1/step-3", {"attempt-1/step-1", "attempt-0/gone"}));
  ASSERT_TRUE(published.has_value());
  EXPECT_THAT(published->removed, ElementsAre("attempt-1/step-1", "attempt-0/gone"));
  EXPECT_THAT(published->trouble, IsEmpty());
  EXPECT_EQ(Current(), "attempt-1/step-3");
  EXPECT_FALSE(Exists("attempt-1/step-1"));
  EXPECT_TRUE(Exists("attempt-1/step-2"));
  const auto json = nlohmann::json::parse(real_.Read(folder_.path() + "/current.json").value());
  EXPECT_EQ(json.at("checksum"), "00ff");
  EXPECT_EQ(json.at("step"), 7);
  EXPECT_EQ(json.at("lineage"), 3);
  EXPECT_EQ(json.at("version"), 1);
}

TEST_F(CheckpointDeskTest, TheCurrentOneIsNeverDeleted) {
  Make("attempt-1/step-1");
  ASSERT_TRUE(PublishCheckpointFolder(real_, folder_.path(), Publication("attempt-1/step-1", {"attempt-1/step-1"})).has_value());
  EXPECT_TRUE(Exists("attempt-1/step-1/manifest.json"));
}

TEST_F(CheckpointDeskTest, WhateverCallGoesWrongCurrentNamesAWholeCheckpointAndTheNextStartFinishes) {
  const auto publish = [&](FileSystem& files) {
    return PublishCheckpointFolder(files, folder_.path(), Publication("attempt-1/step-2", {"attempt-1/step-1"}));
  };
  const auto begin = [&] {
    for (const char* path : {"attempt-1/step-1", "attempt-1/step-2"}) Make(path);
    ASSERT_TRUE(PublishCheckpointFolder(real_, folder_.path(), Publication("attempt-1/step-1")).has_value());
  };
  begin();
  FaultyFiles counting;
  ASSERT_TRUE(publish(counting).has_value());
  std::printf("publication and deletion by the coordinator: %s, each made to fail, tear, die and lose power\n",
              counting.Summary().c_str());
  for (const Fault fault : kEveryFault) {
    for (int n = 0; n < counting.operations; ++n) {
      SCOPED_TRACE(fmt::format("{} at call {}: {}", FaultName(fault), n, counting.calls[static_cast<size_t>(n)]));
      begin();
      FaultyFiles files;
      files.Arm(n, fault);
      const auto published = publish(files);
      EXPECT_TRUE(Exists(Current() + "/manifest.json")) << Current();
      if (published) {
        EXPECT_EQ(Current(), "attempt-1/step-2");
      } else {
        EXPECT_TRUE(Exists("attempt-1/step-1/manifest.json")) << "nothing is deleted before the new one is published";
      }
      const auto repeated = publish(real_);  // the job's record says what is still to be done
      ASSERT_TRUE(repeated.has_value());
      EXPECT_EQ(Current(), "attempt-1/step-2");
      EXPECT_THAT(repeated->removed, ElementsAre("attempt-1/step-1"));
      EXPECT_FALSE(Exists("attempt-1/step-1"));
    }
  }
}

TEST_F(CheckpointDeskTest, ASweepDeletesWhatNobodyCanUseInOldAttemptsOnly) {
  Make("attempt-1/step-000000005");
  Make("attempt-1/step-000000006");  // complete, and never reported
  Make("attempt-1/step-000000007.tmp", "");
  Make("attempt-1/step-000000008", "");  // half deleted
  Make("attempt-2/step-000000009.tmp", "");
  Make("attempt-2/step-000000010");
  Make("attempt-1/notes");
  Make("attempt-one/step-000000011");
  for (const char* name : {"/attempt-1/metrics.jsonl", "/current.json", "/current.json.tmp-77"})
    ASSERT_TRUE(WriteFileAtomic(real_, folder_.path() + name, "{}").has_value());
  const auto deleted = SweepAttemptFolders(real_, folder_.path(), {2, {"attempt-1/step-000000005"}});
  ASSERT_TRUE(deleted.has_value());
  EXPECT_THAT(*deleted, ElementsAre("attempt-1/step-000000006", "attempt-1/step-000000007.tmp", "attempt-1/step-000000008",
                                    "current.json.tmp-77"));
  for (const auto& path : *deleted) EXPECT_FALSE(Exists(path)) << path;
  for (const char* path : {"attempt-1/step-000000005/manifest.json", "attempt-2/step-000000009.tmp", "attempt-2/step-000000010",
                           "current.json", "attempt-1/notes", "attempt-one/step-000000011", "attempt-1/metrics.jsonl"})
    EXPECT_TRUE(Exists(path)) << path;
}

TEST_F(CheckpointDeskTest, ACompleteCheckpointOfAJobThatPublishedNoneStays) {
  Make("attempt-1/step-000000005");
  Make("attempt-1/step-000000006.tmp", "");
  ASSERT_TRUE(SweepAttemptFolders(real_, folder_.path(), {2, {}}).has_value());
  EXPECT_TRUE(Exists("attempt-1/step-000000005/manifest.json")) << "the next attempt begins with it";
  EXPECT_FALSE(Exists("attempt-1/step-000000006.tmp"));
}

TEST_F(CheckpointDeskTest, ASweepThatFailsHalfWayLeavesNoHalfCheckpointWithAManifest) {
  FaultyFiles files;
  for (int at = 0;; ++at) {
    Make("attempt-1/step-000000006");
    files.Arm(at, Fault::kTear);
    const auto deleted = SweepAttemptFolders(files, folder_.path(), {2, {"attempt-1/step-000000005"}});
    const std::string left = "attempt-1/step-000000006";
    EXPECT_TRUE(!Exists(left + "/manifest.json") || Exists(left + "/model.safetensors")) << "failed at " << at;
    if (!files.reached()) {
      EXPECT_TRUE(deleted.has_value());
      EXPECT_FALSE(Exists(left));
      EXPECT_GE(at, 2);
      return;
    }
    EXPECT_FALSE(deleted.has_value()) << "failed at " << at;
  }
}

TEST_F(CheckpointDeskTest, TheDeskAnswersWithEvents) {
  Make("attempt-1/step-1");
  std::promise<JobEvent> verified, published;
  CheckpointDesk desk(real_, [&](const std::string& job, JobEvent event) {
    EXPECT_EQ(job, "small-1");
    (std::holds_alternative<CheckpointPublished>(event) ? published : verified).set_value(std::move(event));
  });
  CheckpointTask task{"small-1", folder_.path(), VerifyCheckpoint{1, {.step = 1, .path = "attempt-1/step-1"}}};
  ASSERT_TRUE(desk.Post(task));
  EXPECT_TRUE(std::holds_alternative<CheckpointVerified>(verified.get_future().get()));
  task.what = Publication("attempt-1/step-1");
  ASSERT_TRUE(desk.Post(task));
  EXPECT_EQ(std::get<CheckpointPublished>(published.get_future().get()).path, "attempt-1/step-1");
  Make("attempt-1/step-2.tmp", "");
  task.what = SweepAttempts{2, {"attempt-1/step-1"}};
  ASSERT_TRUE(desk.Post(task));
  EXPECT_TRUE(Eventually([&] { return !Exists("attempt-1/step-2.tmp"); }));
  EXPECT_TRUE(Exists("attempt-1/step-1"));
}

}  // namespace
}  // namespace plateau::test
