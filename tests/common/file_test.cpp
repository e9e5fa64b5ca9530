// Atomic writes, safetensors, checksums and text helpers.
#include "common/file.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/checksum.h"
#include "common/progress.h"
#include "common/safetensors.h"
#include "common/text.h"

namespace plateau {
namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "plateau-file-" + std::to_string(::getpid()) + "-" + testing::UnitTest::GetInstance()->current_test_info()->name();
    ASSERT_TRUE(files_.MakeDirectories(folder_));
  }
  void TearDown() override { ASSERT_TRUE(files_.RemoveAll(folder_)); }
  PosixFileSystem files_;
  std::string folder_;
};

TEST_F(FileTest, AtomicWriteReplacesAndLeavesNothingBeside) {
  ASSERT_TRUE(WriteFileAtomic(files_, folder_ + "/a", "one"));
  ASSERT_TRUE(WriteFileAtomic(files_, folder_ + "/a", "two"));
  EXPECT_EQ(*files_.Read(folder_ + "/a"), "two");
  EXPECT_EQ(files_.List(folder_)->size(), 1u);
}

TEST_F(FileTest, ErrorsNameThePath) {
  const auto read = files_.Read(folder_ + "/missing");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(read.error().message, testing::HasSubstr(folder_ + "/missing"));
  EXPECT_FALSE(WriteFileAtomic(files_, folder_ + "/no/such/folder", "x"));
}

TEST_F(FileTest, SafetensorsRoundTrip) {
  const std::vector<float> values{1.5f, -2, 3, 0, 5, 6};
  const std::vector<int64_t> shape{2, 3};
  const std::vector<NamedTensor> tensors{{"w", {TensorType::kF32, shape, {reinterpret_cast<const char*>(values.data()), 24}}}};
  auto file = files_.Create(folder_ + "/t");
  ASSERT_TRUE(file);
  ASSERT_TRUE(WriteSafetensors(**file, tensors, {{"format", "pt"}}));
  ASSERT_TRUE((*file)->Close());
  const auto loaded = SafetensorsFile::Load(files_, folder_ + "/t");
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->metadata().at("format"), "pt");
  const auto floats = loaded->Floats("w", shape);
  ASSERT_TRUE(floats);
  EXPECT_THAT(std::vector<float>(floats->begin(), floats->end()), testing::ElementsAreArray(values));
  EXPECT_THAT(loaded->Floats("v", shape).error().message, testing::HasSubstr("nearest: w"));
  EXPECT_THAT(loaded->Floats("w", std::vector<int64_t>{3, 2}).error().message, testing::HasSubstr("is F32 [2,3], expected [3,2]"));
}

TEST_F(FileTest, DamagedSafetensorsAreRefusedAtEveryLength) {
  const std::vector<float> values{1, 2};
  const std::vector<NamedTensor> tensors{{"w", {TensorType::kF32, {2}, {reinterpret_cast<const char*>(values.data()), 8}}}};
  auto file = files_.Create(folder_ + "/t");
  ASSERT_TRUE(WriteSafetensors(**file, tensors, {}));
  ASSERT_TRUE((*file)->Close());
  const std::string whole = *files_.Read(folder_ + "/t");
  ASSERT_TRUE(SafetensorsFile::Parse(whole, "t"));
  for (size_t length = 0; length < whole.size(); ++length) EXPECT_FALSE(SafetensorsFile::Parse(whole.substr(0, length), "t")) << length;
}

TEST(Checksum, StreamEqualsWhole) {
  std::string bytes(100000, 'x');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31);
  ChecksumStream stream;
  stream.Add(bytes.data(), 777);
  stream.Add(bytes.data() + 777, bytes.size() - 777);
  EXPECT_EQ(stream.Value(), Checksum(bytes));
  EXPECT_EQ(ChecksumText(0xABCULL), "0000000000000abc");
}

TEST(Text, NearestNameAndFigures) {
  const std::vector<std::string> known{"momentum", "weight_decay"};
  EXPECT_EQ(NearestName("momentun", known), "momentum");
  EXPECT_EQ(NearestName("MOMENTUM", known), "momentum");
  EXPECT_EQ(NearestName("zzz", known), "");
  EXPECT_EQ(HumanDuration(187), "3m 07s");
  EXPECT_EQ(HumanDuration(8040), "2h 14m");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
}

TEST(Progress, LineHasShareRateAndEta) {
  const std::string line = Progress::Render({"ingest", "images", 1000}, 250, 2.0, 100, "");
  EXPECT_THAT(line, testing::AllOf(testing::HasSubstr("25%"), testing::HasSubstr("250/1,000 images"), testing::HasSubstr("125 images/s"),
                                   testing::HasSubstr("ETA 6.0s")));
  EXPECT_LT(Progress::Render({"ingest", "images", 1000}, 250, 2.0, 40, "").size(), 40u);
}

}  // namespace
}  // namespace plateau
