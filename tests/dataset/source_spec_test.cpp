// The description of a source: refused where options do not fit the layout, the same after its way through JSON.
#include "dataset/source_spec.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using ::testing::HasSubstr;

std::string Message(const SourceSpec& spec) {
  const auto source = OpenSource(spec);
  if (source) return "opened";
  EXPECT_EQ(ExitCode(source.error().code), 2) << source.error().message;
  return source.error().message;
}

TEST(SourceSpec, OptionsOfAnotherLayoutAreRefused) {
  EXPECT_THAT(Message({.layout = "mnist", .train = "t"}),
              HasSubstr("--train does not go with --layout mnist; it belongs to ilsvrc, folder"));
  EXPECT_THAT(Message({.layout = "mnist", .val_labels = "l"}), HasSubstr("--val-labels does not go with --layout mnist"));
  EXPECT_THAT(Message({.layout = "folder", .images = "i"}),
              HasSubstr("--images does not go with --layout folder; it belongs to mnist"));
  EXPECT_THAT(Message({.layout = "ilsvrc", .holdout = 5}), HasSubstr("--holdout does not go with --layout ilsvrc"));
  EXPECT_THAT(Message({.layout = "tfrecord"}), HasSubstr("--layout tfrecord is not known; there are ilsvrc, folder and mnist"));
}

TEST(SourceSpec, WhatALayoutNeedsIsNamed) {
  EXPECT_THAT(Message({.layout = "ilsvrc"}), HasSubstr("--layout ilsvrc needs --train TAR"));
  EXPECT_THAT(Message({.layout = "folder", .train = "t"}), HasSubstr("--layout folder needs --val FOLDER"));
  EXPECT_THAT(Message({.layout = "ilsvrc", .train = "t", .val = "v"}), HasSubstr("needs --val-labels FILE"));
  EXPECT_THAT(Message({.layout = "ilsvrc", .train = "t", .val = "v", .val_labels = "l"}), HasSubstr("needs --synsets FILE"));
  EXPECT_THAT(Message({.layout = "folder", .train = "t", .val = "v", .devkit_synsets = "d"}), HasSubstr("goes with --val-labels"));
  EXPECT_THAT(Message({.layout = "mnist"}), HasSubstr("needs --images FILE and --labels FILE"));
}

TEST(SourceSpec, JsonKeepsEveryField) {
  const SourceSpec spec{.layout = "mnist",
                        .train = "a",
                        .val = "b",
                        .val_labels = "c",
                        .devkit_synsets = "d",
                        .synsets = "e",
                        .images = "f",
                        .labels = "g",
                        .test_images = "h",
                        .test_labels = "i",
                        .holdout = 7};
  const auto json = SourceSpecToJson(spec);
  EXPECT_EQ(json.size(), 11u);
  const auto back = SourceSpecFromJson(json, "source");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_TRUE(*back == spec);
  for (const char* bad : {R"({"holdout": -1})", R"({"holdout": "5"})", R"({"train": 5})", R"({"trian": "x"})", "[]"})
    EXPECT_FALSE(SourceSpecFromJson(nlohmann::ordered_json::parse(bad), "source")) << bad;
}

TEST(SourceSpec, PathsBecomeAbsoluteAndTheLayoutDoesNot) {
  const SourceSpec spec = WithAbsolutePaths({.layout = "folder", .train = "a/../t", .val = "/v"});
  EXPECT_EQ(spec.layout, "folder");
  EXPECT_EQ(spec.train.front(), '/');
  EXPECT_TRUE(spec.train.ends_with("/t"));
  EXPECT_EQ(spec.val, "/v");
  EXPECT_EQ(spec.val_labels, "");
}

}  // namespace
}  // namespace plateau
