// Groups: every image once, equal shapes together, the same groups for any number of ranks; surveys and their refusals.
#include "worker/evaluate/image_groups.h"

#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/support/memory_store.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;

std::vector<TestedImage> ManyShapes(int count) {
  RandomStream random(3, RandomPurpose::kSynthetic, 0, 0);
  std::vector<TestedImage> images;
  for (int i = 0; i < count; ++i) {
    const int wide = 300 + 25 * static_cast<int>(random.NextBelow(9));
    images.push_back({random.NextBelow(4) == 0 ? 375 : wide, random.NextBelow(3) == 0 ? 500 : 375, i % 7});
  }
  return images;
}

TEST(MakeGroups, EveryImageOnceAndOnlyEqualShapesTogether) {
  const auto images = ManyShapes(500);
  const TestSettings settings{.scales = {256, 288}, .mode = EvaluationMode::kBoth, .flip = true, .batch = 32};
  const auto groups = MakeGroups(images, settings, 224, 3);
  std::set<int64_t> seen;
  double area_before = 1e18;
  for (const ImageGroup& group : groups) {
    ASSERT_FALSE(group.images.empty());
    for (const int64_t number : group.images) {
      EXPECT_TRUE(seen.insert(number).second) << number;
      for (size_t s = 0; s < 2; ++s) {
        const TestedImage& image = images[static_cast<size_t>(number)];
        const ImageSize size = ScaledSize(image.width, image.height, settings.scales[s]);
        EXPECT_EQ(size.width, group.scaled[s].width);
        EXPECT_EQ(size.height, group.scaled[s].height);
      }
    }
    EXPECT_LE(group.images.size(), 16u) << "16 images of 50 views are 25 full passes of 32";
    EXPECT_TRUE(std::is_sorted(group.images.begin(), group.images.end()));
    const double area = double{1} * group.scaled[0].width * group.scaled[0].height;
    EXPECT_LE(area, area_before) << "largest shapes first";
    area_before = area;
  }
  EXPECT_EQ(seen.size(), 500u);
}

TEST(MakeGroups, OnlyTheLastGroupOfAShapeIsNotFull) {
  const auto images = ManyShapes(500);
  const TestSettings settings{.scales = {256}, .mode = EvaluationMode::kDense, .flip = true, .batch = 8};
  const auto groups = MakeGroups(images, settings, 224, 3);
  for (size_t i = 0; i + 1 < groups.size(); ++i) {
    const bool same =
        groups[i].scaled[0].width == groups[i + 1].scaled[0].width && groups[i].scaled[0].height == groups[i + 1].scaled[0].height;
    if (same) {
      EXPECT_EQ(groups[i].images.size(), 4u);
    }
  }
}

TEST(ShareOfRank, PartsAreContiguousWholeAndBalanced) {
  const TestSettings settings{.scales = {256}, .mode = EvaluationMode::kDense, .batch = 4};
  const auto groups = MakeGroups(ManyShapes(500), settings, 224, 3);
  double total = 0, largest = 0;
  for (const ImageGroup& group : groups) {
    total += group.cost;
    largest = std::max(largest, group.cost);
  }
  for (const int ranks : {1, 2, 3, 4, 7}) {
    size_t next = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const GroupRange range = ShareOfRank(groups, rank, ranks);
      EXPECT_EQ(range.first, next);
      next = range.last;
      double cost = 0;
      for (size_t i = range.first; i < range.last; ++i) cost += groups[i].cost;
      EXPECT_NEAR(cost, total / ranks, largest) << rank << " of " << ranks;
    }
    EXPECT_EQ(next, groups.size());
  }
}

TEST(ShareOfRank, MoreRanksThanGroupsLeaveSomeWithout) {
  const TestSettings settings{.scales = {256}, .mode = EvaluationMode::kCenter, .batch = 32};
  const auto groups = MakeGroups(ManyShapes(40), settings, 224, 3);
  ASSERT_EQ(groups.size(), 2u);
  size_t covered = 0;
  for (int rank = 0; rank < 8; ++rank) {
    const GroupRange range = ShareOfRank(groups, rank, 8);
    ASSERT_LE(range.first, range.last);
    covered += range.last - range.first;
  }
  EXPECT_EQ(covered, 2u);
}

TEST(CutIntoPasses, SizesDifferByOneAtMost) {
  EXPECT_EQ(CutIntoPasses(64, 32), (std::vector<int>{32, 32}));
  EXPECT_EQ(CutIntoPasses(33, 32), (std::vector<int>{17, 16}));
  EXPECT_EQ(CutIntoPasses(7, 3), (std::vector<int>{3, 2, 2}));
  EXPECT_EQ(CutIntoPasses(1, 32), (std::vector<int>{1}));
}

class Survey : public ::testing::Test {
 protected:
  Survey() {
    for (int i = 0; i < 10; ++i) store_.Add("val", i == 3 ? "" : "x", i % 4, Encoding::kJpeg, 40 + static_cast<uint32_t>(i), 30);
  }
  Result<std::vector<TestedImage>> Run(EvaluationMode mode, int rank = 0, int ranks = 1) {
    const SplitInfo& split = *store_.manifest().Split("val");
    return SurveyImages(store_, split, {.scales = {256}, .mode = mode}, static_cast<int64_t>(split.records), rank, ranks, nullptr);
  }
  testing::MemoryStore store_;
};

TEST_F(Survey, RanksReadTheirPartsAndRejectedSourcesAreNoImages) {
  const auto even = Run(EvaluationMode::kDense, 0, 2), odd = Run(EvaluationMode::kDense, 1, 2);
  ASSERT_TRUE(even && odd);
  ASSERT_EQ(even->size(), 9u);
  EXPECT_EQ((*even)[4].width, 45) << "the fifth image is source 5: source 3 was rejected";
  EXPECT_EQ((*even)[5].width, 0);
  EXPECT_EQ((*odd)[5].width, 46);
}

TEST_F(Survey, AStripThatGrowsTooLargeIsRefusedByNameButHasACentreCrop) {
  store_.Add("val", "x", 1, Encoding::kJpeg, 30000, 10);
  for (const EvaluationMode mode : {EvaluationMode::kDense, EvaluationMode::kMultiCrop, EvaluationMode::kBoth}) {
    const auto images = Run(mode);
    ASSERT_FALSE(images);
    EXPECT_EQ(images.error().code, ErrorCode::kInvalidInput);
    EXPECT_THAT(images.error().message, HasSubstr("val_10.JPEG"));
    EXPECT_THAT(images.error().message, HasSubstr("30000 x 10"));
    EXPECT_THAT(images.error().message, HasSubstr("mode center"));
  }
  EXPECT_TRUE(Run(EvaluationMode::kCenter));
}

TEST_F(Survey, ALabelThatTheStoreDoesNotHaveIsRefused) {
  store_.Add("val", "x", 10, Encoding::kJpeg, 30, 30);
  const auto images = Run(EvaluationMode::kCenter);
  ASSERT_FALSE(images);
  EXPECT_THAT(images.error().message, HasSubstr("label 10"));
}

}  // namespace
}  // namespace plateau
