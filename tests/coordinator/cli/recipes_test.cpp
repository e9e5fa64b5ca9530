// Every recipe that is shipped is a valid specification, and says in a comment how to submit it.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/job_spec.h"

namespace plateau {
namespace {

using ::testing::StartsWith;

TEST(Recipes, AreValidAndCommented) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(PLATEAU_SOURCE_DIR "/deploy/recipes")) {
    const std::string path = entry.path().string();
    std::ifstream file(path);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    EXPECT_THAT(text, StartsWith("# "));
    names.insert(entry.path().stem().string());
    if (text.find("\nkind: pipeline\n") != std::string::npos) continue;  // tests/coordinator/paper_pipeline_test.cpp
    const auto spec = LoadJobSpec(path);
    ASSERT_TRUE(spec.has_value()) << spec.error().message;
    EXPECT_EQ(spec->name, entry.path().stem().string());
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({"quickstart", "vgg-a-tiny", "vgg-a-imagenet", "vgg-d-imagenet", "vgg-paper"}));
}

TEST(Recipes, ImageNetRecipeOfAHasThePapersSettings) {
  const auto spec = LoadJobSpec(PLATEAU_SOURCE_DIR "/deploy/recipes/vgg-a-imagenet.yaml");
  ASSERT_TRUE(spec.has_value()) << spec.error().message;
  EXPECT_EQ(spec->training.global_batch, 256);
  EXPECT_EQ(spec->training.max_epochs, 74);
  EXPECT_EQ(spec->training.momentum, 0.9);
  EXPECT_EQ(spec->training.weight_decay, 5e-4);
  EXPECT_EQ(spec->training.dropout, 0.5);
  EXPECT_EQ(InitSchemeText(spec->training.init), "gaussian(0.01)");
  EXPECT_EQ(spec->data.normalize, Normalize::kMean);
  EXPECT_EQ(spec->data.train_scale_low, 256);
  EXPECT_EQ(spec->data.train_scale_high, 256);
  EXPECT_EQ(spec->data.crop, 224);
  EXPECT_EQ(spec->lr.initial, 0.01);
  EXPECT_EQ(spec->lr.factor, 0.1);
  EXPECT_EQ(spec->lr.max_decays, 3);
}

}  // namespace
}  // namespace plateau
