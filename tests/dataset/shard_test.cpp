// Shards: any file size gives the same content, a finished folder holds data only, reading needs no writing.
#include <thread>

#include <gtest/gtest.h>

#include "common/random.h"
#include "dataset/ingest.h"
#include "dataset/shard_check.h"
#include "dataset/shard_reader.h"
#include "dataset/shard_writer.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using testing::FlipByte;
using testing::MakeMemorySource;
using testing::Memory;
using testing::TempFolder;

std::string Value(uint64_t slot) {
  RandomStream random(7, RandomPurpose::kSynthetic, 0, slot);
  std::string bytes(100 + random.NextBelow(9000), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.NextWord());
  RecordHeader header;
  header.source_ordinal = slot;
  return EncodeRecord(header, bytes);
}

Result<ShardInfo> WriteShard(const std::string& folder, const std::vector<uint64_t>& slots, uint64_t file_bytes) {
  PosixFileSystem files;
  PLATEAU_ASSIGN(auto writer, ShardWriter::Create(files, folder, file_bytes));
  for (const uint64_t slot : slots) PLATEAU_TRY(writer->Add(slot, Value(slot)));
  return writer->Finish();
}

std::vector<uint64_t> EveryThird(uint64_t count) {
  std::vector<uint64_t> slots;
  for (uint64_t slot = 0; slot < count; ++slot)
    if (slot % 3 != 1) slots.push_back(slot);
  return slots;
}

TEST(Shard, FileSizeDoesNotChangeTheContent) {
  const TempFolder folder;
  const auto slots = EveryThird(150);
  std::string checksum;
  for (const uint64_t file_bytes : {uint64_t{1}, uint64_t{50000}, kShardFileBytes}) {
    const std::string path = folder / std::to_string(file_bytes);
    const auto info = WriteShard(path, slots, file_bytes);
    ASSERT_TRUE(info) << info.error().message;
    EXPECT_EQ(info->records, slots.size());
    EXPECT_GE(info->files.size(), file_bytes == 1 ? 20u : file_bytes == 50000 ? 6u : 3u);
    EXPECT_TRUE(checksum.empty() || info->checksum == checksum) << file_bytes;
    checksum = info->checksum;
    std::vector<uint64_t> read;
    const auto walked = WalkShard(path, [&](uint64_t slot, std::string_view value) -> Status {
      read.push_back(slot);
      EXPECT_EQ(value, Value(slot));
      return {};
    });
    ASSERT_TRUE(walked) << walked.error().message;
    EXPECT_EQ(read, slots);
  }
}

TEST(Shard, AShardWithoutRecordsIsAShard) {
  const TempFolder folder;
  const auto info = WriteShard(folder / "empty", {}, kShardFileBytes);
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->records, 0u);
  EXPECT_TRUE(
      WalkShard(folder / "empty", [](uint64_t, std::string_view) -> Status { return Fail(ErrorCode::kCorrupt, "a record"); }));
}

// Names, sizes and change times of everything below a folder.
std::string Listing(const std::string& folder) {
  std::string text;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    text += fmt::format("{} {}\n", entry.path().string(), entry.last_write_time().time_since_epoch().count());
  return text;
}

class StoreReading : public ::testing::Test {
 protected:
  void SetUp() override {
    IngestOptions options;
    options.out = store_;
    options.shards = 2;
    options.quiet = true;
    const auto report = Ingest(files_, clock_, source_, options);
    ASSERT_TRUE(report) << report.error().message;
  }
  const SplitInfo& Train(const StoreReader& reader) const { return *reader.manifest().Split("train"); }

  TempFolder folder_;
  std::string store_ = folder_ / "store";
  PosixFileSystem files_;
  SystemClock clock_;
  DataSource source_ = MakeMemorySource(40, 6);
};

TEST_F(StoreReading, ReadingChangesNothingInTheStore) {
  const std::string before = Listing(store_);
  {
    const auto reader = StoreReader::Open(files_, store_);
    ASSERT_TRUE(reader) << reader.error().message;
    RecordBuffer buffer;
    ASSERT_TRUE((*reader)->Read(Train(**reader), 3, buffer));
  }
  EXPECT_EQ(Listing(store_), before);
}

TEST_F(StoreReading, ManyThreadsAndManyReadersReadTheSame) {
  const auto first = StoreReader::Open(files_, store_), second = StoreReader::Open(files_, store_);
  ASSERT_TRUE(first && second);
  std::vector<std::jthread> threads;
  std::array<int, 4> good{};
  for (size_t thread = 0; thread < good.size(); ++thread)
    threads.emplace_back([&, thread] {
      RecordBuffer buffer;
      for (uint64_t ordinal = 0; ordinal < 40; ++ordinal) {
        const auto& reader = **(thread % 2 == 0 ? first : second);
        good[thread] += reader.Read(Train(reader), ordinal, buffer) && buffer.record.bytes == Memory(source_, 0).content(ordinal);
      }
    });
  threads.clear();
  EXPECT_EQ(good, (std::array<int, 4>{40, 40, 40, 40}));
}

TEST_F(StoreReading, UnknownOrdinalsAndSplitsAreRefused) {
  const auto reader = StoreReader::Open(files_, store_);
  ASSERT_TRUE(reader);
  RecordBuffer buffer;
  const auto beyond = (*reader)->Read(Train(**reader), 40, buffer);
  ASSERT_FALSE(beyond);
  EXPECT_NE(beyond.error().message.find("0..39"), std::string::npos);
  SplitInfo other;
  other.name = "test";
  EXPECT_FALSE((*reader)->Read(other, 0, buffer));
}

TEST_F(StoreReading, ADamagedBlockFailsItsRecordsNamingShardAndKey) {
  FlipByte(store_ + "/train/00001/000008.sst", 60);
  const auto reader = StoreReader::Open(files_, store_);
  ASSERT_TRUE(reader) << reader.error().message;
  RecordBuffer buffer;
  int failed = 0;
  for (uint64_t ordinal = 0; ordinal < 40; ++ordinal) {
    const auto status = (*reader)->Read(Train(**reader), ordinal, buffer);
    if (status) continue;
    ++failed;
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(status.error().message.find("train/00001: key "), std::string::npos) << status.error().message;
    EXPECT_NE(status.error().message.find("plateau dataset verify"), std::string::npos);
  }
  EXPECT_GE(failed, 1);
  EXPECT_LE(failed, 6);  // the records of one 4 KiB block
}

TEST_F(StoreReading, AMissingShardIsNamed) {
  std::filesystem::remove_all(store_ + "/val/00000");
  const auto reader = StoreReader::Open(files_, store_);
  ASSERT_FALSE(reader);
  EXPECT_NE(reader.error().message.find("val/00000"), std::string::npos) << reader.error().message;
}

}  // namespace
}  // namespace plateau
