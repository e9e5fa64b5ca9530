// A checkpoint onto a full disk, a small tmpfs: the run ends with a clear error, the older checkpoint stands, and room lets it go
// on. Needs the right to mount; skipped with a message without it.
#include <sys/mount.h>

#include <cstring>

#include <gmock/gmock.h>

#include "tests/support/worker_run.h"
#include "worker/train/run_folder.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;

class FullDisk : public test::WorkerRun {
 protected:
  void TearDown() override {
    if (mounted_) umount2(disk_.c_str(), MNT_DETACH);
  }
  // False when mounting is not allowed here.
  bool Mount(const char* size, unsigned long flags = 0) {
    disk_ = out_ + "/disk";
    std::filesystem::create_directories(disk_);
    mounted_ = mount("tmpfs", disk_.c_str(), "tmpfs", flags, size) == 0 || mounted_;
    return mounted_;
  }
  std::string disk_;
  bool mounted_ = false;
};

TEST_F(FullDisk, ACheckpointThatDoesNotFitLeavesTheOlderOneAndTheRunGoesOnWhenThereIsRoom) {
  // One checkpoint of this network takes about 290 KiB.
  if (!Mount("size=800k")) GTEST_SKIP() << "mounting a tmpfs is not allowed here: " << std::strerror(errno);
  const std::vector<std::string> keep_all{"--set", "checkpoint.keep_last=10"};
  EXPECT_EQ(Run(2, disk_, keep_all), 1) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("No space left on device"));
  EXPECT_THAT(last_output_, HasSubstr("older checkpoints are untouched"));
  PosixFileSystem files;
  const auto entries = ListCheckpoints(files, disk_ + "/tiny");
  ASSERT_TRUE(entries);
  ASSERT_FALSE(entries->empty());
  EXPECT_EQ(Current(disk_).at("step"), entries->front().step);
  for (const CheckpointEntry& entry : *entries) EXPECT_TRUE(LoadCheckpoint(files, disk_ + "/tiny/" + entry.path)) << entry.path;
  const auto names = files.List(disk_ + "/tiny/attempt-1");
  ASSERT_TRUE(names);
  for (const std::string& name : *names) EXPECT_FALSE(name.ends_with(".tmp")) << name;

  ASSERT_TRUE(Mount("size=100m", MS_REMOUNT));
  EXPECT_EQ(Run(2, disk_, keep_all), 0) << last_output_;
  EXPECT_EQ(Run(2, out_ + "/undisturbed", keep_all), 0) << last_output_;
  EXPECT_TRUE(Published(disk_, "model.safetensors") == Published(out_ + "/undisturbed", "model.safetensors"));
}

}  // namespace
}  // namespace plateau
