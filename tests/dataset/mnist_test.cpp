// MNIST: IDX files plain and gzip, every defect named, and gray records from source to batch.
#include "dataset/readers/mnist.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include "dataset/ingest.h"
#include "dataset/pipeline.h"
#include "dataset/shard_reader.h"
#include "dataset/verify.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using testing::ReadText;
using testing::TempFolder;
using testing::WriteText;

std::string BigEndian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

constexpr int kWidth = 5, kHeight = 4;

std::string Pixels(int image) {
  std::string bytes;
  for (int i = 0; i < kWidth * kHeight; ++i) bytes += static_cast<char>(image * 31 + i * 7);
  return bytes;
}

std::string ImagesFile(int count) {
  std::string bytes = BigEndian(2051) + BigEndian(static_cast<uint32_t>(count)) + BigEndian(kHeight) + BigEndian(kWidth);
  for (int i = 0; i < count; ++i) bytes += Pixels(i);
  return bytes;
}

std::string LabelsFile(int count) {
  std::string bytes = BigEndian(2049) + BigEndian(static_cast<uint32_t>(count));
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(i % 3);
  return bytes;
}

std::string Gzip(const std::string& bytes) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, bytes.size()) + 32, 0);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

class Mnist : public ::testing::Test {
 protected:
  Mnist() {
    WriteText(folder_ / "images", ImagesFile(12));
    WriteText(folder_ / "labels", LabelsFile(12));
    WriteText(folder_ / "test-images", Gzip(ImagesFile(6)));
    WriteText(folder_ / "test-labels", Gzip(LabelsFile(6)));
  }
  MnistPaths Paths() const {
    return {folder_ / "images", folder_ / "labels", folder_ / "test-images", folder_ / "test-labels", 0, ""};
  }
  MnistPaths Held(uint64_t count) const { return {folder_ / "images", folder_ / "labels", "", "", count, ""}; }
  std::string Message(const MnistPaths& paths) const {
    const auto source = OpenMnist(paths);
    if (source) return "opened";
    EXPECT_EQ(ExitCode(source.error().code), 2);
    return source.error().message;
  }
  std::string WithImages(const std::string& bytes) {
    WriteText(folder_ / "images", bytes);
    return Message(Paths());
  }

  TempFolder folder_;
};

TEST_F(Mnist, PlainAndGzipFilesGiveTheirPixelsAndLabels) {
  const auto source = OpenMnist(Paths());
  ASSERT_TRUE(source) << source.error().message;
  ASSERT_EQ(source->classes.size(), 3u);
  EXPECT_EQ(source->classes[2].synset, "2");
  for (const auto& split : source->splits) {
    ASSERT_EQ(split->images().size(), split->split() == "train" ? 12u : 6u);
    EXPECT_EQ(split->raw(), (RawShape{kWidth, kHeight, 1}));
    std::string bytes;
    for (size_t i = 0; i < split->images().size(); ++i) {
      ASSERT_TRUE(split->Read(i, bytes));
      EXPECT_EQ(bytes, Pixels(static_cast<int>(i)));
      EXPECT_EQ(split->images()[i].label, static_cast<int>(i % 3));
    }
  }
}

TEST_F(Mnist, HoldoutTakesTheLastImages) {
  const auto source = OpenMnist(Held(4));
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ(source->splits[0]->images().size(), 8u);
  ASSERT_EQ(source->splits[1]->images().size(), 4u);
  EXPECT_EQ(source->splits[1]->images()[0].name, "00008");
  std::string bytes;
  ASSERT_TRUE(source->splits[1]->Read(3, bytes));
  EXPECT_EQ(bytes, Pixels(11));
  EXPECT_THAT(Message(Held(12)), HasSubstr("at least one must be left"));
}

TEST_F(Mnist, ValidationImagesComeFromExactlyOnePlace) {
  MnistPaths both = Paths(), none = Held(0), half = Paths();
  both.holdout = 2;
  half.test_labels.clear();
  EXPECT_THAT(Message(both), HasSubstr("from one place"));
  EXPECT_THAT(Message(none), HasSubstr("from one place"));
  EXPECT_THAT(Message(half), HasSubstr("--test-labels is missing"));
}

TEST_F(Mnist, EveryDefectNamesFileAndValue) {
  const std::string good = ImagesFile(12);
  EXPECT_THAT(WithImages(LabelsFile(12)), HasSubstr("magic number 2049, expected 2051 (images): these are labels"));
  EXPECT_THAT(WithImages("JFIF is no IDX at all"), HasSubstr("is it an IDX file"));
  EXPECT_THAT(WithImages(good.substr(0, 10)), HasSubstr("has 10 bytes, fewer than an IDX header of 16"));
  EXPECT_THAT(WithImages(good.substr(0, 3)), HasSubstr("has 3 bytes"));
  EXPECT_THAT(WithImages(good.substr(0, good.size() - 1)), HasSubstr("its header promises 240 values, it holds 239"));
  EXPECT_THAT(WithImages(good + "x"), HasSubstr("goes on behind the 240 values"));
  EXPECT_THAT(WithImages(BigEndian(2051) + BigEndian(12) + BigEndian(0) + BigEndian(5)), HasSubstr("dimension 2 of 3 has size 0"));
  EXPECT_THAT(WithImages(BigEndian(2051) + std::string(12, '\xFF')), HasSubstr("dimension 1 of 3 has size 4294967295"));
  EXPECT_THAT(WithImages(ImagesFile(11)), HasSubstr("holds 11 images, but"));
  const std::string packed = Gzip(good);
  EXPECT_EQ(WithImages(packed), "opened");
  for (size_t bytes = 1; bytes < packed.size(); ++bytes) EXPECT_NE(WithImages(packed.substr(0, bytes)), "opened") << bytes;
  std::string wrong_sum = packed;
  wrong_sum[wrong_sum.size() - 8] = static_cast<char>(wrong_sum[wrong_sum.size() - 8] ^ 1);  // the checksum behind the data
  EXPECT_THAT(WithImages(wrong_sum), HasSubstr("gzip is damaged"));
  EXPECT_THAT(Message({folder_ / "absent", folder_ / "labels", "", "", 2, ""}), HasSubstr("absent: cannot open: No such file"));
}

TEST_F(Mnist, NamedClassesBoundTheLabels) {
  MnistPaths paths = Paths();
  paths.synsets = folder_ / "names";
  WriteText(paths.synsets, "zero nought\none\n");
  EXPECT_THAT(Message(paths), HasSubstr("label 2 of image 2 is outside 0..1"));
  WriteText(paths.synsets, "zero nought\none\ntwo\n");
  const auto source = OpenMnist(paths);
  ASSERT_TRUE(source);
  EXPECT_EQ(source->classes[0].words, "nought");
}

TEST_F(Mnist, RecordsStayRawAndTheLoaderDeliversOneChannel) {
  PosixFileSystem files;
  const SystemClock clock;
  const auto source = OpenMnist(Paths());
  ASSERT_TRUE(source);
  IngestOptions options;
  options.out = folder_ / "store";
  options.quiet = true;
  options.shards = 2;
  const auto report = Ingest(files, clock, *source, options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->converted, 0u);
  const auto verified = VerifyStore(files, clock, options.out, 1, true);
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_TRUE(verified->problems.empty());

  const auto store = StoreReader::Open(files, options.out);
  ASSERT_TRUE(store) << store.error().message;
  EXPECT_EQ((*store)->manifest().channels, 1);
  const SplitInfo& val = *(*store)->manifest().Split("val");
  RecordBuffer record;
  ASSERT_TRUE((*store)->Read(val, 3, record));
  EXPECT_EQ(record.record.header.encoding, Encoding::kRaw8);
  EXPECT_EQ(record.record.header.channels, 1);
  EXPECT_EQ(record.record.bytes, Pixels(3));

  Preprocessing preprocessing;  // the images' own size, unscaled: height 4 is the shortest side
  preprocessing.scale_low = preprocessing.scale_high = preprocessing.crop = kHeight;
  preprocessing.channels = 1;
  preprocessing.mean = {100, 1, 2};
  preprocessing.standard_deviation = {2, 3, 4};
  const auto pipeline = Pipeline::Start(**store, preprocessing, {.split = "val", .training = false, .global_batch = 6, .rows = 6});
  ASSERT_TRUE(pipeline) << pipeline.error().message;
  const auto batch = (*pipeline)->Next();
  ASSERT_TRUE(batch && *batch);
  ASSERT_EQ((*batch)->images.size(), size_t{6 * kHeight * kHeight});
  for (int row = 0; row < 6; ++row)
    for (int y = 0; y < kHeight; ++y)
      for (int x = 0; x < kHeight; ++x) {  // the middle of 5 columns rounds to column 0
        const auto pixel = static_cast<uint8_t>(Pixels(row)[static_cast<size_t>(y * kWidth + x)]);
        EXPECT_EQ((*batch)->images[static_cast<size_t>((row * kHeight + y) * kHeight + x)], (static_cast<float>(pixel) - 100) / 2);
      }

  preprocessing.channels = 3;
  const auto colour = Pipeline::Start(**store, preprocessing, {.split = "val", .training = false, .global_batch = 6, .rows = 6});
  ASSERT_TRUE(colour);
  const auto wide = (*colour)->Next();
  ASSERT_TRUE(wide && *wide);
  EXPECT_EQ((*wide)->images.size(), size_t{6 * 3 * kHeight * kHeight});
}

}  // namespace
}  // namespace plateau
