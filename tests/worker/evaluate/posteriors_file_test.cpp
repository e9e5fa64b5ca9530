// Posteriors on disk: gathered whole and in order, refused when they are not what they say, averaged value by value.
#include "worker/evaluate/posteriors_file.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/support/faulty_files.h"
#include "tests/support/temp_folder.h"
#include "worker/collective/single.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
constexpr int kImages = 30, kClasses = 7;

class PosteriorsFile : public ::testing::Test {
 protected:
  // Rows in a scrambled order, as a rank computes them.
  static PosteriorsPart MakePart(uint64_t seed) {
    PosteriorsPart part;
    RandomStream random(seed, RandomPurpose::kSynthetic, 0, 0);
    for (int i = 0; i < kImages; ++i) {
      part.images.push_back((i * 7) % kImages);
      std::vector<double> row(kClasses);
      double sum = 0;
      for (double& value : row) sum += value = 0.01 + random.NextBelow(1000);
      for (const double value : row) part.values.push_back(static_cast<float>(value / sum));
    }
    return part;
  }
  static PosteriorsHead MakeHead() {
    PosteriorsHead head{.classes = kClasses};
    for (int i = 0; i < kImages; ++i) {
      head.labels.push_back(i % kClasses);
      head.ordinals.push_back(i + (i > 10 ? 2 : 0));
    }
    head.metadata = {{"checkpoint", "runs/a"}, {"split_checksum", "abc"}, {"split", "val"}, {"store", "pets"}};
    return head;
  }
  std::string Write(const std::string& name, uint64_t seed, const PosteriorsHead& head = MakeHead()) {
    SingleCollective alone;
    const std::string path = folder_ / name;
    const Status written = WritePosteriors(files_, alone, path, head, MakePart(seed));
    EXPECT_TRUE(written) << written.error().message;
    return path;
  }
  test::TempFolder folder_;
  test::FaultyFiles files_;
};

TEST_F(PosteriorsFile, RowsComeBackInTheOrderOfTheImages) {
  const auto read = ReadPosteriors(files_, Write("a", 1));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->head.labels, MakeHead().labels);
  EXPECT_EQ(read->head.ordinals, MakeHead().ordinals);
  EXPECT_EQ(read->head.metadata.at("checkpoint"), "runs/a");
  const PosteriorsPart part = MakePart(1);
  for (size_t i = 0; i < part.images.size(); ++i)
    for (size_t c = 0; c < kClasses; ++c)
      EXPECT_EQ(read->values[static_cast<size_t>(part.images[i]) * kClasses + c], part.values[i * kClasses + c]);
}

TEST_F(PosteriorsFile, FusionIsTheMeanAndOneFileFusesToItself) {
  const std::string a = Write("a", 1), b = Write("b", 2), c = Write("c", 3);
  const auto alone = FusePosteriors(files_, {a}, false);
  ASSERT_TRUE(alone);
  EXPECT_EQ(alone->mean.values, ReadPosteriors(files_, a)->values);
  EXPECT_EQ(alone->counts.correct1(), alone->parts[0].counts.correct1());
  const auto fused = FusePosteriors(files_, {a, b, c}, true);
  ASSERT_TRUE(fused) << fused.error().message;
  const auto va = ReadPosteriors(files_, a)->values, vb = ReadPosteriors(files_, b)->values, vc = ReadPosteriors(files_, c)->values;
  for (size_t i = 0; i < va.size(); ++i) EXPECT_EQ(fused->mean.values[i], static_cast<float>((double{va[i]} + vb[i] + vc[i]) / 3));
  EXPECT_EQ(fused->counts.images(), kImages);
  int64_t right = 0;
  for (size_t row = 0; row < kImages; ++row) {
    const auto first = fused->mean.values.begin() + static_cast<int64_t>(row * kClasses);
    right += std::max_element(first, first + kClasses) - first == fused->mean.head.labels[row];
  }
  EXPECT_EQ(fused->counts.correct1(), right);
  EXPECT_EQ(fused->parts.size(), 3u);
}

TEST_F(PosteriorsFile, FilesOfOtherImagesAreRefusedByName) {
  const std::string a = Write("a", 1);
  auto head = MakeHead();
  head.labels[4] = 0;
  const auto label = FusePosteriors(files_, {a, Write("label", 2, head)}, false);
  ASSERT_FALSE(label);
  EXPECT_EQ(label.error().code, ErrorCode::kInvalidInput);
  EXPECT_THAT(label.error().message, HasSubstr("image 4 has label 0, in the first 4"));
  head = MakeHead();
  head.metadata["split_checksum"] = "def";
  const auto split = FusePosteriors(files_, {a, Write("split", 2, head)}, false);
  ASSERT_FALSE(split);
  EXPECT_THAT(split.error().message, HasSubstr("checksum def"));
  head = MakeHead();
  head.ordinals[29] = 99;
  EXPECT_FALSE(FusePosteriors(files_, {a, Write("ordinal", 2, head)}, false));
}

TEST_F(PosteriorsFile, WhatIsNoDistributionIsRefused) {
  SingleCollective alone;
  for (const float bad : {std::nanf(""), -0.25F, 2.0F}) {
    PosteriorsPart part = MakePart(1);
    part.values[9] = bad;
    ASSERT_TRUE(WritePosteriors(files_, alone, folder_ / "bad", MakeHead(), part));
    const auto read = ReadPosteriors(files_, folder_ / "bad");
    ASSERT_FALSE(read) << bad;
    EXPECT_THAT(read.error().message, HasSubstr("row 7")) << "the second row computed is image 7";
  }
  ASSERT_TRUE(WriteFileAtomic(files_, folder_ / "none", "no tensors here"));
  EXPECT_FALSE(ReadPosteriors(files_, folder_ / "none"));
}

TEST_F(PosteriorsFile, WhateverCallFailsTheOldFileOrTheNewOneIsThereWhole) {
  SingleCollective alone;
  for (const test::Fault fault : test::kEveryFault) {
    for (int at = 0;; ++at) {
      files_.Arm(-1, test::Fault::kFail);
      const std::string path = Write("a", 1);
      const auto before = ReadPosteriors(files_, path)->values;
      files_.Arm(at, fault);
      const Status written = WritePosteriors(files_, alone, path, MakeHead(), MakePart(2));
      const bool reached = files_.reached();
      files_.Arm(-1, test::Fault::kFail);
      const auto after = ReadPosteriors(files_, path);
      ASSERT_TRUE(after) << test::FaultName(fault) << " of call " << at << ": " << after.error().message;
      if (!reached) {
        EXPECT_TRUE(written);
        EXPECT_GT(at, 4) << "create, appends, sync, close, rename";
        break;
      }
      EXPECT_FALSE(written) << test::FaultName(fault) << " of call " << at;
      if (fault == test::Fault::kFail) {
        EXPECT_EQ(files_.List(folder_.path())->size(), 1u) << "nothing is left beside it";
      }
      if (after->values != before) {
        EXPECT_GE(at, 6) << "only a fault behind the rename leaves the new file";
      }
    }
  }
}

}  // namespace
}  // namespace plateau
