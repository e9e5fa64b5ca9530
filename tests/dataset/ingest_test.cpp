// Ingest: what is stored, converted and rejected; the same content for any jobs and shards; whole or absent after every failure.
#include "dataset/ingest.h"

#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "dataset/ingest_state.h"
#include "dataset/shard_reader.h"
#include "dataset/store_layout.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using testing::JpegKind;
using testing::MakeJpeg;
using testing::MakeMemorySource;
using testing::MakePicture;
using testing::MakePng;
using testing::Memory;
using testing::ReadText;
using testing::TempFolder;
using testing::WriteText;

struct StoreRun {
  PosixFileSystem files;
  SystemClock clock;
  IngestOptions options;
  explicit StoreRun(const std::string& out) {
    options.out = out;
    options.quiet = true;
    options.shards = 2;
  }
  Result<IngestReport> operator()(const DataSource& source) { return Ingest(files, clock, source, options); }
};

// Every record of a store against its source.
void ExpectStored(const std::string& store, const DataSource& source) {
  PosixFileSystem files;
  const auto reader = StoreReader::Open(files, store);
  ASSERT_TRUE(reader) << reader.error().message;
  RecordBuffer buffer;
  for (size_t split = 0; split < source.splits.size(); ++split) {
    const SplitInfo& info = (*reader)->manifest().splits[split];
    for (uint64_t dense = 0; dense < info.records; ++dense) {
      const uint64_t ordinal = SourceOrdinal(info, dense);
      const auto status = (*reader)->Read(info, ordinal, buffer);
      ASSERT_TRUE(status) << status.error().message;
      EXPECT_EQ(buffer.record.bytes, Memory(source, split).content(ordinal));
      EXPECT_EQ(buffer.record.header.source_name, source.splits[split]->images()[ordinal].name);
      EXPECT_EQ(buffer.record.header.label, source.splits[split]->images()[ordinal].label);
      EXPECT_EQ(buffer.record.header.source_ordinal, ordinal);
    }
  }
}

TEST(Ingest, EveryImageIsStoredAsItCame) {
  const TempFolder folder;
  const auto source = MakeMemorySource(50, 9);
  StoreRun run(folder / "store");
  const auto report = run(source);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->manifest.name, "store");
  EXPECT_EQ(report->manifest.Split("train")->records, 50u);
  EXPECT_EQ(report->manifest.Split("val")->records, 9u);
  EXPECT_EQ(report->images, 59u);
  ExpectStored(folder / "store", source);
  EXPECT_FALSE(std::filesystem::exists(folder / "store/ingest"));
  std::set<std::string> kinds;
  for (const auto& file : std::filesystem::directory_iterator(folder / "store/train/00000"))
    kinds.insert(file.path().filename().string().substr(0, 7));
  EXPECT_EQ(kinds, (std::set<std::string>{"CURRENT", "MANIFES", "000008."}));
}

TEST(Ingest, JobsAndShardsDoNotChangeTheContent) {
  const TempFolder folder;
  const auto source = MakeMemorySource(60, 12);
  std::set<std::string> checksums, moments, shards;
  int number = 0;
  for (const int jobs : {1, 3})
    for (const uint64_t count : {1, 4, 7}) {
      StoreRun run(folder / ("store" + std::to_string(number++)));
      run.options.jobs = jobs;
      run.options.shards = count;
      const auto report = run(source);
      ASSERT_TRUE(report) << report.error().message;
      checksums.insert(report->manifest.splits[0].checksum + report->manifest.splits[1].checksum);
      std::string bits(reinterpret_cast<const char*>(&report->manifest.moments), sizeof(PixelMoments));
      moments.insert(bits);
      if (count == 4)
        for (const auto& shard : report->manifest.splits[0].shards) shards.insert(shard.folder + shard.checksum);
    }
  EXPECT_EQ(checksums.size(), 1u);
  EXPECT_EQ(moments.size(), 1u);
  EXPECT_EQ(shards.size(), 4u);  // with the same shards, each shard is the same for any jobs
}

TEST(Ingest, AChangedByteOrLabelChangesTheChecksum) {
  const TempFolder folder;
  std::set<std::string> checksums;
  for (int change = 0; change < 3; ++change) {
    DataSource source = MakeMemorySource(10, 3);
    auto train = std::make_unique<testing::MemorySource>("train");
    for (uint64_t i = 0; i < 10; ++i)
      train->Add("x", change == 1 && i == 7 ? 2 : 0,
                 change == 2 && i == 7 ? MakeJpeg(MakePicture(9, 9)) : Memory(source, 0).content(i));
    source.splits[0] = std::move(train);
    StoreRun run(folder / std::to_string(change));
    const auto report = run(source);
    ASSERT_TRUE(report) << report.error().message;
    checksums.insert(report->manifest.splits[0].checksum);
  }
  EXPECT_EQ(checksums.size(), 3u);
}

TEST(Ingest, RecordsAreSpreadOverShardsWithoutClassRuns) {
  const StoreLayout layout(1, 0, 1000, 4);
  std::set<std::pair<uint64_t, uint64_t>> places;
  std::array<uint64_t, 4> of_first_class{};  // 1000 sources, class by class: the first 100 are one class
  for (uint64_t ordinal = 0; ordinal < 1000; ++ordinal) {
    const Location at = layout.Of(ordinal);
    ASSERT_LT(at.slot, layout.Slots(at.shard));
    EXPECT_EQ(layout.SourceOrdinalAt(at), ordinal);
    places.emplace(at.shard, at.slot);
    if (ordinal < 100) ++of_first_class[at.shard];
  }
  EXPECT_EQ(places.size(), 1000u);
  for (const uint64_t count : of_first_class) EXPECT_GT(count, 10u);
}

// One image of each odd kind; the last five are bad.
DataSource OddSource(int good) {
  DataSource source = MakeMemorySource(3, 3);
  auto train = std::make_unique<testing::MemorySource>("train");
  const Image picture = MakePicture(40, 30);
  const std::vector<uint8_t> gray(40 * 30, 99), ink(40 * 30 * 4, 77);
  const std::string jpeg = MakeJpeg(picture), png = MakePng(picture);
  train->Add("gray.JPEG", 0, MakeJpeg(gray, 40, 30, JpegKind{.stored = JCS_GRAYSCALE}));
  train->Add("cmyk.JPEG", 0, MakeJpeg(ink, 40, 30, JpegKind{.stored = JCS_CMYK, .adobe_marker = true}));
  train->Add("ycck.JPEG", 0, MakeJpeg(ink, 40, 30, JpegKind{.stored = JCS_YCCK, .adobe_marker = true}));
  train->Add("disguised.JPEG", 0, png);
  train->Add("honest.png", 0, png);
  for (int i = 0; i < good; ++i) train->Add("good.JPEG", 0, jpeg);
  train->Add("empty.JPEG", 0, "");
  train->Add("cut.JPEG", 0, jpeg.substr(0, jpeg.size() / 2));
  train->Add("text.JPEG", 0, "<html>404</html>");
  train->Add("gif.JPEG", 0, "GIF89a......................");
  train->Add("cut.png", 0, png.substr(0, png.size() / 2));
  source.splits[0] = std::move(train);
  return source;
}

TEST(Ingest, OddImagesAreConvertedAndBadOnesRejectedWithTheirReason) {
  const TempFolder folder;
  StoreRun run(folder / "store");
  run.options.max_rejected.count = 5;
  const auto report = run(OddSource(10));
  ASSERT_TRUE(report) << report.error().message;
  const SplitInfo& train = report->manifest.splits[0];
  EXPECT_EQ(report->converted, 3u);
  EXPECT_EQ(train.rejected, (std::vector<uint64_t>{15, 16, 17, 18, 19}));
  EXPECT_EQ(train.records, 15u);

  PosixFileSystem files;
  const auto reader = StoreReader::Open(files, folder / "store");
  ASSERT_TRUE(reader) << reader.error().message;
  RecordBuffer buffer;
  Decoder decoder;
  Image image;
  const auto header = [&](uint64_t ordinal) {
    const auto status = (*reader)->Read(train, ordinal, buffer);
    EXPECT_TRUE(status) << status.error().message;
    EXPECT_TRUE(decoder.DecodeFull(buffer.record.bytes, image));
    EXPECT_EQ(image.width, 40);
    return buffer.record.header;
  };
  EXPECT_EQ(header(0).channels, 1);  // gray is kept
  for (const uint64_t ordinal : {1, 2, 3}) {
    EXPECT_EQ(header(ordinal).encoding, Encoding::kJpeg);
    EXPECT_EQ(header(ordinal).channels, 3);
    const auto info = ProbeImage(buffer.record.bytes);
    ASSERT_TRUE(info);
    EXPECT_EQ(info->components, 3);
  }
  EXPECT_EQ(header(4).encoding, Encoding::kPng);     // a PNG that says so is kept
  EXPECT_FALSE((*reader)->Read(train, 15, buffer));  // rejected: no record

  std::istringstream lines(ReadText(folder / "store/rejected.jsonl"));
  std::string line;
  std::vector<std::string> names;
  while (std::getline(lines, line)) {
    const auto json = nlohmann::json::parse(line);
    names.push_back(json.at("name"));
    EXPECT_EQ(json.at("split"), "train");
    EXPECT_FALSE(json.at("reason").get<std::string>().empty());
    EXPECT_TRUE(json.at("offset").is_number());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"empty.JPEG", "cut.JPEG", "text.JPEG", "gif.JPEG", "cut.png"}));
}

TEST(Ingest, TooManyBadImagesPublishNothing) {
  const TempFolder folder;
  StoreRun run(folder / "store");
  run.options.max_rejected.count = 4;
  const auto report = run(OddSource(10));
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kInvalidInput);
  EXPECT_NE(report.error().message.find("5 of its 20 train images are bad"), std::string::npos) << report.error().message;
  EXPECT_NE(report.error().message.find("rejected.jsonl"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "store/manifest.json"));
  const std::string rejected = ReadText(folder / "store/rejected.jsonl");
  EXPECT_EQ(std::count(rejected.begin(), rejected.end(), '\n'), 5);
  run.options.max_rejected.count = 5;  // the same command with a higher limit goes through
  const auto again = run(OddSource(10));
  ASSERT_TRUE(again) << again.error().message;
}

TEST(Ingest, LimitIsAShareOfEachSplitOrANumber) {
  ASSERT_TRUE(ParseRejectLimit("1%"));
  EXPECT_EQ(ParseRejectLimit("1%")->Of(1000), 10u);
  EXPECT_EQ(ParseRejectLimit("1%")->Of(99), 0u);
  EXPECT_EQ(ParseRejectLimit("0.5%")->Of(1000), 5u);
  EXPECT_EQ(ParseRejectLimit("29%")->Of(100), 29u);
  EXPECT_EQ(ParseRejectLimit("25")->Of(10), 25u);
  for (const char* bad : {"", "%", "-1", "101%", "nan%", "1 %", "x", "1.5"}) EXPECT_FALSE(ParseRejectLimit(bad)) << bad;
}

TEST(Ingest, AFailedRunLeavesNoManifestAndTheNextGoesOn) {
  const TempFolder folder;
  const auto source = MakeMemorySource(40, 8);
  StoreRun run(folder / "store");
  run.options.shards = 8;
  Memory(source, 1).FailFrom(0);  // every train shard is done, then val fails
  const auto failed = run(source);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_NE(failed.error().message.find("the disk went away"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "store/manifest.json"));
  Memory(source, 1).FailFrom(-1);
  testing::FlipByte(folder / "store/train/00003/000008.sst", 50);  // damaged meanwhile: built again
  run.options.jobs = 2;
  const auto resumed = run(source);
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_EQ(resumed->reused_shards, 7u);
  EXPECT_EQ(resumed->images, 13u);
  ExpectStored(folder / "store", source);
  StoreRun fresh(folder / "fresh");
  fresh.options.shards = 8;
  const auto undisturbed = fresh(source);
  ASSERT_TRUE(undisturbed);
  EXPECT_EQ(resumed->manifest.splits[0].checksum, undisturbed->manifest.splits[0].checksum);
  EXPECT_EQ(resumed->manifest.moments.mean, undisturbed->manifest.moments.mean);
}

TEST(Ingest, AnotherPlanBeginsAnew) {
  const TempFolder folder;
  const auto source = MakeMemorySource(40, 8);
  StoreRun run(folder / "store");
  Memory(source, 1).FailFrom(0);
  ASSERT_FALSE(run(source));
  Memory(source, 1).FailFrom(-1);
  run.options.shards = 1;
  const auto report = run(source);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->reused_shards, 0u);
  EXPECT_FALSE(std::filesystem::exists(folder / "store/train/00001"));
  ExpectStored(folder / "store", source);
}

TEST(Ingest, FinishedStoresAndForeignFoldersAreNotTouched) {
  const TempFolder folder;
  const auto source = MakeMemorySource(10, 3);
  StoreRun run(folder / "store");
  ASSERT_TRUE(run(source));
  const std::string manifest = ReadText(folder / "store/manifest.json");
  const auto again = run(source);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kConflict);
  EXPECT_NE(again.error().message.find("--overwrite"), std::string::npos);
  EXPECT_EQ(ReadText(folder / "store/manifest.json"), manifest);
  run.options.overwrite = true;
  const auto replaced = run(MakeMemorySource(12, 3));
  ASSERT_TRUE(replaced) << replaced.error().message;
  EXPECT_EQ(replaced->manifest.splits[0].records, 12u);

  WriteText(folder / "mine/train/thesis.txt", "precious");
  StoreRun foreign(folder / "mine");
  const auto refused = foreign(source);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
  EXPECT_EQ(ReadText(folder / "mine/train/thesis.txt"), "precious");
}

TEST(Ingest, ASecondIngestOfTheSameStoreIsRefused) {
  const TempFolder folder;
  PosixFileSystem files;
  const auto first = IngestState::Open(files, folder / "store", "plan", false);
  ASSERT_TRUE(first) << first.error().message;
  StoreRun run(folder / "store");
  const auto second = run(MakeMemorySource(4, 3));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_NE(second.error().message.find("another ingest"), std::string::npos) << second.error().message;
}

TEST(Ingest, AFileInPlaceOfTheFolderIsNamed) {
  const TempFolder folder;
  WriteText(folder / "store", "a file");
  StoreRun run(folder / "store");
  const auto report = run(MakeMemorySource(4, 3));
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kIo);
  EXPECT_NE(report.error().message.find(folder / "store"), std::string::npos) << report.error().message;
  EXPECT_EQ(ReadText(folder / "store"), "a file");
}

// A disk on which one kind of path cannot be written.
class FullDisk final : public FileSystem {
 public:
  explicit FullDisk(std::string victim) : victim_(std::move(victim)) {}
  Result<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    if (path.find(victim_) != std::string::npos) return Fail(ErrorCode::kIo, "{}: cannot write: No space left on device", path);
    return disk_.Create(path);
  }
  Result<std::string> Read(const std::string& path) override { return disk_.Read(path); }
  Status Rename(const std::string& from, const std::string& to) override { return disk_.Rename(from, to); }
  Status Remove(const std::string& path) override { return disk_.Remove(path); }
  Status RemoveAll(const std::string& path) override { return disk_.RemoveAll(path); }
  Status MakeDirectories(const std::string& path) override { return disk_.MakeDirectories(path); }
  Status SyncDirectory(const std::string& path) override { return disk_.SyncDirectory(path); }
  Result<std::vector<std::string>> List(const std::string& path) override { return disk_.List(path); }
  bool Exists(const std::string& path) override { return disk_.Exists(path); }
  Result<uint64_t> Size(const std::string& path) override { return disk_.Size(path); }

 private:
  PosixFileSystem disk_;
  std::string victim_;
};

TEST(Ingest, AFullDiskAnywhereLeavesNoManifestAndTheNextRunFinishes) {
  const auto source = MakeMemorySource(20, 6);
  for (const char* victim : {"plan.json", "train-00001.json", "val-00000.json", "rejected.jsonl", "manifest.json"}) {
    const TempFolder folder;
    StoreRun run(folder / "store");
    FullDisk disk(victim);
    const auto failed = Ingest(disk, run.clock, source, run.options);
    ASSERT_FALSE(failed) << victim;
    EXPECT_NE(failed.error().message.find("No space left"), std::string::npos);
    EXPECT_FALSE(std::filesystem::exists(folder / "store/manifest.json")) << victim;
    const auto report = run(source);
    ASSERT_TRUE(report) << victim << ": " << report.error().message;
    ExpectStored(folder / "store", source);
  }
}

}  // namespace
}  // namespace plateau
