// Resizing at ingest: what is made smaller and how, what stays as it came, and the same store for any number of jobs.
#include "dataset/ingest_image.h"

#include <cmath>
#include <set>

#include <gmock/gmock.h>

#include "dataset/ingest.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using testing::JpegKind;
using testing::MakeJpeg;
using testing::MakePicture;
using testing::MakePng;
using testing::TempFolder;

struct Outcome {
  RecordHeader header;
  std::string bytes;
  bool converted = false;
};

Outcome Prepare(ResizeMode mode, const std::string& name, const std::string& bytes) {
  ImagePreparer preparer(mode);
  const auto prepared = preparer.Prepare(name, bytes);
  EXPECT_TRUE(prepared) << prepared.error().message;
  if (!prepared) return {};
  return {prepared->header, std::string(prepared->bytes), prepared->converted};
}

TEST(IngestResize, TheShortestSideIsCappedAndNothingIsEnlarged) {
  const struct {
    ResizeMode mode;
    int width, height, stored_width, stored_height;
  } cases[] = {{ResizeMode::k256, 500, 375, 341, 256},    {ResizeMode::k256, 375, 500, 256, 341},
               {ResizeMode::k256, 300, 256, 300, 256},    {ResizeMode::k256, 700, 64, 700, 64},
               {ResizeMode::k512Cap, 500, 375, 500, 375}, {ResizeMode::k512Cap, 800, 640, 640, 512},
               {ResizeMode::kNone, 800, 640, 800, 640}};
  for (const auto& c : cases) {
    const std::string jpeg = MakeJpeg(MakePicture(c.width, c.height));
    const Outcome outcome = Prepare(c.mode, "a.JPEG", jpeg);
    EXPECT_EQ(outcome.header.width, static_cast<uint32_t>(c.stored_width));
    EXPECT_EQ(outcome.header.height, static_cast<uint32_t>(c.stored_height));
    EXPECT_EQ(outcome.converted, c.width != c.stored_width);
    if (!outcome.converted) {
      EXPECT_EQ(outcome.bytes, jpeg) << "an image that is small enough stays as it came";
    }
  }
}

TEST(IngestResize, TheSmallerImageIsTheFilteredOneUpToJpeg) {
  const std::string jpeg = MakeJpeg(MakePicture(640, 480));
  const Outcome outcome = Prepare(ResizeMode::k256, "a.JPEG", jpeg);
  Decoder decoder;
  Image source, right, stored;
  ASSERT_TRUE(decoder.DecodeFull(jpeg, source));
  Resizer().ToImage(source, 341, 256, right);
  ASSERT_TRUE(decoder.DecodeFull(outcome.bytes, stored));
  ASSERT_EQ(stored.pixels.size(), right.pixels.size());
  double squares = 0;
  for (size_t i = 0; i < right.pixels.size(); ++i)
    squares += std::pow(static_cast<double>(right.pixels[i]) - static_cast<double>(stored.pixels[i]), 2);
  const double psnr = 10 * std::log10(255 * 255 * static_cast<double>(right.pixels.size()) / squares);
  EXPECT_GT(psnr, 35);  // quality 90 of a picture with noise
  EXPECT_LT(psnr, 55) << "it was encoded";
  EXPECT_LT(outcome.bytes.size(), jpeg.size() / 2);
}

TEST(IngestResize, GrayStaysGrayAndEveryOtherKindBecomesAnRgbJpeg) {
  const std::vector<uint8_t> gray(400 * 300, 99), ink(400 * 300 * 4, 77);
  const Outcome from_gray = Prepare(ResizeMode::k256, "g.JPEG", MakeJpeg(gray, 400, 300, JpegKind{.stored = JCS_GRAYSCALE}));
  EXPECT_EQ(from_gray.header.channels, 1);
  const auto info = ProbeImage(from_gray.bytes);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->components, 1);
  Decoder decoder;
  Image image;
  ASSERT_TRUE(decoder.DecodeFull(from_gray.bytes, image));
  EXPECT_EQ(std::set<uint8_t>(image.pixels.begin(), image.pixels.end()), std::set<uint8_t>{99});

  const std::string cmyk = MakeJpeg(ink, 400, 300, JpegKind{.stored = JCS_CMYK, .adobe_marker = true});
  for (const auto& [name, bytes] :
       {std::pair<std::string, std::string>{"c.JPEG", cmyk}, {"p.png", MakePng(MakePicture(400, 300))}}) {
    const Outcome outcome = Prepare(ResizeMode::k256, name, bytes);
    EXPECT_EQ(outcome.header.encoding, Encoding::kJpeg) << name;
    EXPECT_EQ(outcome.header.channels, 3) << name;
    EXPECT_EQ(outcome.header.height, 256u) << name;
  }
}

TEST(IngestResize, DamageIsRejectedAsWithoutResizing) {
  const std::string jpeg = MakeJpeg(MakePicture(640, 480));
  ImagePreparer preparer(ResizeMode::k256);
  EXPECT_FALSE(preparer.Prepare("cut.JPEG", jpeg.substr(0, jpeg.size() / 2)));
}

TEST(IngestResize, ModesHaveNames) {
  for (const char* name : {"none", "256", "512cap"}) {
    const auto mode = ParseResizeMode(name);
    ASSERT_TRUE(mode);
    EXPECT_STREQ(ResizeModeName(*mode), name);
  }
  const auto unknown = ParseResizeMode("512");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("none, 256 and 512cap"));
}

DataSource LargeImages() {
  DataSource source = testing::MakeMemorySource(1, 1);
  for (auto& split : source.splits) {
    auto images = std::make_unique<testing::MemorySource>(split->split());
    for (int i = 0; i < 12; ++i)
      images->Add(std::to_string(i) + ".JPEG", i % 3,
                  MakeJpeg(MakePicture(260 + 20 * (i % 4), 250 + 10 * (i % 3), static_cast<uint32_t>(i))));
    split = std::move(images);
  }
  return source;
}

TEST(IngestResize, JobsAndRestartsDoNotChangeTheContentAndTheModeDoes) {
  const TempFolder folder;
  const auto source = LargeImages();
  PosixFileSystem files;
  const SystemClock clock;
  const auto ingest = [&](const std::string& out, ResizeMode mode, int jobs) {
    IngestOptions options;
    options.out = folder / out;
    options.quiet = true;
    options.shards = 3;
    options.jobs = jobs;
    options.resize = mode;
    return Ingest(files, clock, source, options);
  };
  const auto one = ingest("one", ResizeMode::k256, 1), three = ingest("three", ResizeMode::k256, 3);
  ASSERT_TRUE(one && three);
  EXPECT_EQ(one->manifest.resize, "256");
  EXPECT_EQ(one->manifest.splits[0].checksum, three->manifest.splits[0].checksum);
  EXPECT_GT(one->converted, 10u);
  EXPECT_LT(one->converted, 24u) << "some are small enough";

  testing::Memory(source, 1).FailFrom(0);
  ASSERT_FALSE(ingest("cut", ResizeMode::k256, 1));
  testing::Memory(source, 1).FailFrom(-1);
  const auto resumed = ingest("cut", ResizeMode::k256, 1);
  ASSERT_TRUE(resumed);
  EXPECT_EQ(resumed->reused_shards, 3u);
  EXPECT_EQ(resumed->manifest.splits[0].checksum, one->manifest.splits[0].checksum);

  const auto original = ingest("original", ResizeMode::kNone, 1);
  ASSERT_TRUE(original);
  EXPECT_NE(original->manifest.splits[0].checksum, one->manifest.splits[0].checksum);
  EXPECT_EQ(original->manifest.moments.mean, one->manifest.moments.mean) << "moments are those of the source's pixels";
}

TEST(IngestResize, AnotherModeDoesNotReuseShards) {
  const TempFolder folder;
  const auto source = LargeImages();
  PosixFileSystem files;
  const SystemClock clock;
  IngestOptions options;
  options.out = folder / "store";
  options.quiet = true;
  options.resize = ResizeMode::k256;
  testing::Memory(source, 1).FailFrom(0);
  ASSERT_FALSE(Ingest(files, clock, source, options));
  testing::Memory(source, 1).FailFrom(-1);
  options.resize = ResizeMode::k512Cap;
  const auto report = Ingest(files, clock, source, options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->reused_shards, 0u);
  EXPECT_EQ(report->converted, 0u);
}

}  // namespace
}  // namespace plateau
