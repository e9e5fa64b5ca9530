// What may be asked of a test.
#include "worker/evaluate/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

using ::testing::HasSubstr;

TEST(ParseScales, ReadsAListAndRefusesTheRest) {
  EXPECT_EQ(*ParseScales("256"), (std::vector<int>{256}));
  EXPECT_EQ(*ParseScales("224,256,288"), (std::vector<int>{224, 256, 288}));
  for (const char* bad : {"", "256,", ",256", "256;288", "0", "-1", "16385", "25.6", "a"}) EXPECT_FALSE(ParseScales(bad)) << bad;
}

TEST(CheckSettings, ScalesAreAtLeastTheCropAndThereOnce) {
  EXPECT_TRUE(CheckSettings({.scales = {224}}, 224));
  const auto small = CheckSettings({.scales = {256, 223}}, 224);
  ASSERT_FALSE(small);
  EXPECT_EQ(small.error().code, ErrorCode::kInvalidInput);
  EXPECT_THAT(small.error().message, HasSubstr("223 is smaller than the checkpoint's crop of 224"));
  EXPECT_FALSE(CheckSettings({.scales = {256, 256}}, 224));
  EXPECT_FALSE(CheckSettings({.scales = {}}, 224));
  EXPECT_FALSE(CheckSettings({.scales = {256}, .batch = 0}, 224));
}

TEST(TestSettings, ViewsOfAnImage) {
  EXPECT_EQ((TestSettings{.mode = EvaluationMode::kMultiCrop, .flip = true}.crop_views()), 50);
  EXPECT_EQ((TestSettings{.mode = EvaluationMode::kBoth, .flip = false}.crop_views()), 25);
  EXPECT_EQ((TestSettings{.mode = EvaluationMode::kCenter, .flip = true}.crop_views()), 2);
  EXPECT_EQ((TestSettings{.mode = EvaluationMode::kDense, .flip = true}.crop_views()), 0);
}

}  // namespace
}  // namespace plateau
