// Verification: every flipped byte of a store is found, with the shard, the file and the records it damages.
#include "dataset/verify.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "dataset/ingest.h"
#include "dataset/shard_reader.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using testing::FlipByte;
using testing::MakeJpeg;
using testing::MakeMemorySource;
using testing::MakePicture;
using testing::Memory;
using testing::ReadText;
using testing::TempFolder;
using testing::WriteText;

class Verify : public ::testing::Test {
 protected:
  void SetUp() override {
    Memory(source_, 0).Add("bad.JPEG", 0, "not an image");  // a gap in the keys
    IngestOptions options;
    options.out = store_;
    options.shards = 2;
    options.quiet = true;
    options.max_rejected.count = 1;
    const auto report = Ingest(files_, clock_, source_, options);
    ASSERT_TRUE(report) << report.error().message;
  }
  VerifyReport Check() {
    auto report = VerifyStore(files_, clock_, store_, 2, true);
    EXPECT_TRUE(report) << report.error().message;
    return report ? *report : VerifyReport{};
  }
  // Source ordinals that cannot be read one by one.
  std::set<uint64_t> Unreadable() {
    std::set<uint64_t> unreadable;
    const auto reader = StoreReader::Open(files_, store_);
    if (!reader) return unreadable;
    RecordBuffer buffer;
    const SplitInfo& train = (*reader)->manifest().splits[0];
    for (uint64_t dense = 0; dense < train.records; ++dense)
      if (const uint64_t ordinal = SourceOrdinal(train, dense); !(*reader)->Read(train, ordinal, buffer))
        unreadable.insert(ordinal);
    return unreadable;
  }
  std::string Table(const std::string& shard) const { return store_ + "/" + shard + "/000008.sst"; }

  TempFolder folder_;
  std::string store_ = folder_ / "store";
  PosixFileSystem files_;
  SystemClock clock_;
  DataSource source_ = MakeMemorySource(60, 6);
};

TEST_F(Verify, ASoundStoreIsReadInFull) {
  const auto report = Check();
  EXPECT_TRUE(report.problems.empty());
  EXPECT_EQ(report.records, 66u);
  EXPECT_EQ(report.shards, 3u);
  EXPECT_EQ(report.files, 9u);
}

TEST_F(Verify, AFlipInADataBlockNamesExactlyTheUnreadableRecords) {
  const std::string bytes = ReadText(Table("train/00001"));
  for (const size_t offset : {size_t{40}, bytes.size() / 3, bytes.size() / 2}) {
    FlipByte(Table("train/00001"), offset);
    const auto report = Check();
    ASSERT_EQ(report.problems.size(), 1u) << offset;
    const auto& problem = report.problems[0];
    EXPECT_EQ(problem.shard, "train/00001");
    EXPECT_EQ(problem.file, "000008.sst");
    EXPECT_NE(problem.what.find("in a data block"), std::string::npos) << problem.what;
    std::set<uint64_t> named;
    for (const auto& record : problem.records) named.insert(record.source_ordinal);
    EXPECT_EQ(named, Unreadable());
    EXPECT_FALSE(named.empty());
    EXPECT_EQ(report.records + named.size(), 66u);
    int with_name = 0;
    for (const auto& record : problem.records) {
      if (record.name.empty()) continue;
      ++with_name;
      EXPECT_EQ(record.name, source_.splits[0]->images()[record.source_ordinal].name);
    }
    EXPECT_GE(with_name, 1);  // at most one header of the block was hit
    WriteText(Table("train/00001"), bytes);
  }
}

TEST_F(Verify, EveryFlippedByteOfEveryFileIsFound) {
  for (const char* name : {"000008.sst", "CURRENT"}) {
    const std::string path = store_ + "/val/00000/" + name, bytes = ReadText(path);
    for (size_t offset = 0; offset < bytes.size(); offset += 1 + bytes.size() / 60) {
      FlipByte(path, bytes.size() - 1 - offset);  // the footer first
      const auto report = Check();
      ASSERT_EQ(report.problems.size(), 1u) << name << " " << offset;
      EXPECT_EQ(report.problems[0].file, name);
      EXPECT_EQ(report.problems[0].shard, "val/00000");
      WriteText(path, bytes);
    }
  }
  EXPECT_TRUE(Check().problems.empty());
}

TEST_F(Verify, ADamagedFooterCostsTheWholeFile) {
  const std::string bytes = ReadText(Table("train/00000"));
  FlipByte(Table("train/00000"), bytes.size() - 3);  // the footer's magic number
  const auto report = Check();
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].what.find("footer, index or metadata"), std::string::npos) << report.problems[0].what;
  EXPECT_EQ(report.problems[0].records.size() + report.records, 66u);
  EXPECT_GE(report.problems[0].records.size(), 30u);
}

TEST_F(Verify, ADamagedManifestOfTheShardLeavesTheRecords) {
  for (const auto& entry : std::filesystem::directory_iterator(store_ + "/train/00000"))
    if (entry.path().filename().string().starts_with("MANIFEST")) FlipByte(entry.path().string(), 20);
  const auto report = Check();
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_TRUE(report.problems[0].file.starts_with("MANIFEST-"));
  EXPECT_NE(report.problems[0].what.find("the records are whole"), std::string::npos) << report.problems[0].what;
  EXPECT_EQ(report.records, 66u);
}

TEST_F(Verify, MissingCutAndStrangeFilesAreReported) {
  std::filesystem::remove(Table("train/00000"));
  std::filesystem::resize_file(Table("train/00001"), 100);
  WriteText(store_ + "/val/00000/notes.txt", "x");
  WriteText(store_ + "/val/00001/000008.sst", "x");
  WriteText(store_ + "/stray", "x");
  const auto report = Check();
  std::string text;
  for (const auto& problem : report.problems)
    text += fmt::format("{}|{}|{}|{}\n", problem.shard, problem.file, problem.what, problem.records.size());
  EXPECT_NE(text.find("|stray|is not part of the store"), std::string::npos) << text;
  EXPECT_NE(text.find("|val/00001|is not part of the store"), std::string::npos) << text;
  EXPECT_NE(text.find("val/00000|notes.txt|is not part of the store"), std::string::npos) << text;
  EXPECT_NE(text.find("train/00000|000008.sst|the file is missing"), std::string::npos) << text;
  EXPECT_NE(text.find("train/00001|000008.sst|has 100 bytes"), std::string::npos) << text;
  EXPECT_EQ(report.problems.size(), 5u) << text;
  EXPECT_EQ(report.records, 6u);  // val's
}

TEST_F(Verify, FilesOfAnotherStoreAreNoticed) {
  const TempFolder other;
  IngestOptions options;
  options.out = other / "store";
  options.shards = 2;
  options.seed = 2;
  options.quiet = true;
  ASSERT_TRUE(Ingest(files_, clock_, MakeMemorySource(61, 6), options));
  std::filesystem::copy(other / "store/train/00001", store_ + "/train/00001",
                        std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  const auto report = Check();
  ASSERT_FALSE(report.problems.empty());
  for (const auto& problem : report.problems) EXPECT_EQ(problem.shard, "train/00001");
}

TEST_F(Verify, AChangedManifestIsRefused) {
  FlipByte(store_ + "/manifest.json", 300);
  const auto report = VerifyStore(files_, clock_, store_, 1, true);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace plateau
