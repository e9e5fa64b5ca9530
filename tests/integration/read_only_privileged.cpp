// Ingest into a read-only mount, a small tmpfs: it is refused with the path and a remedy, and whatever was there is still there.
// Needs the right to mount; skipped with a message without it.
#include <sys/mount.h>

#include <cstring>
#include <map>

#include <gmock/gmock.h>

#include "dataset/ingest.h"
#include "dataset/shard_reader.h"
#include "dataset/verify.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using testing::MakeMemorySource;
using testing::Memory;
using testing::ReadText;
using testing::TempFolder;

class ReadOnlyMount : public ::testing::Test {
 protected:
  void SetUp() override {
    disk_ = folder_ / "disk";
    std::filesystem::create_directories(disk_);
    mounted_ = mount("tmpfs", disk_.c_str(), "tmpfs", 0, "size=32m") == 0;
    if (!mounted_) GTEST_SKIP() << "mounting a tmpfs is not allowed here: " << std::strerror(errno);
    options_.out = disk_ + "/store";
    options_.quiet = true;
    options_.shards = 4;
  }
  void TearDown() override {
    if (mounted_) umount2(disk_.c_str(), MNT_DETACH);
  }
  void Remount(unsigned long flags) {
    ASSERT_EQ(mount("tmpfs", disk_.c_str(), "tmpfs", MS_REMOUNT | flags, "size=32m"), 0) << std::strerror(errno);
  }
  Result<IngestReport> Run() { return Ingest(files_, clock_, source_, options_); }
  void ExpectRefused() {
    const auto report = Run();
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::kIo);
    EXPECT_THAT(report.error().message, HasSubstr(options_.out));
    EXPECT_THAT(report.error().message, HasSubstr("Read-only file system"));
    EXPECT_THAT(report.error().message, HasSubstr("choose another place or remount it"));
  }
  // Every file on the disk, by path.
  std::map<std::string, std::string> Contents() const {
    std::map<std::string, std::string> contents;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(disk_))
      if (entry.is_regular_file()) contents[entry.path().string()] = ReadText(entry.path().string());
    return contents;
  }

  TempFolder folder_;
  std::string disk_;
  bool mounted_ = false;
  PosixFileSystem files_;
  SystemClock clock_;
  DataSource source_ = MakeMemorySource(24, 6);
  IngestOptions options_;
};

TEST_F(ReadOnlyMount, ANewStoreIsRefusedAndNothingIsMade) {
  Remount(MS_RDONLY);
  ExpectRefused();
  EXPECT_TRUE(std::filesystem::is_empty(disk_));
}

TEST_F(ReadOnlyMount, AnUnfinishedIngestKeepsItsShardsAndGoesOnWhenItCanWriteAgain) {
  Memory(source_, 1).FailFrom(0);  // train is done, then val fails
  ASSERT_FALSE(Run());
  Memory(source_, 1).FailFrom(-1);
  const auto before = Contents();
  Remount(MS_RDONLY);
  ExpectRefused();
  EXPECT_EQ(Contents(), before);
  Remount(0);
  const auto report = Run();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->reused_shards, 4u);
}

TEST_F(ReadOnlyMount, AFinishedStoreIsNotOverwrittenAndCanBeReadAndChecked) {
  ASSERT_TRUE(Run());
  const auto before = Contents();
  Remount(MS_RDONLY);
  options_.overwrite = true;
  ExpectRefused();
  EXPECT_EQ(Contents(), before);
  const auto reader = StoreReader::Open(files_, options_.out);
  ASSERT_TRUE(reader) << reader.error().message;
  RecordBuffer buffer;
  for (uint64_t ordinal = 0; ordinal < 24; ++ordinal)
    EXPECT_TRUE((*reader)->Read(*(*reader)->manifest().Split("train"), ordinal, buffer)) << ordinal;
  const auto verified = VerifyStore(files_, clock_, options_.out, 1, true);
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_TRUE(verified->problems.empty());
}

}  // namespace
}  // namespace plateau
