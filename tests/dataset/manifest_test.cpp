// Manifests: nothing is lost through the file, nothing changed is believed, ordinals step around rejected sources.
#include "dataset/manifest.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "dataset/manifest_json.h"
#include "dataset/sealed_json.h"
#include "tests/support/store_files.h"

namespace plateau {
namespace {

using testing::ReadText;
using testing::TempFolder;
using testing::WriteText;

Manifest Example() {
  Manifest manifest;
  manifest.name = "tiny \"quoted\" \xc3\xa9";
  manifest.store_seed = 0xFFFFFFFFFFFFFFFFu;
  manifest.classes = {{"n01", "one, uno"}, {"n02", ""}};
  manifest.created = "2026-11-22T06:00:00.000Z";
  manifest.source = "folder: a, b";
  manifest.moments.mean = {0.1, 1.0 / 3, 255};
  manifest.moments.standard_deviation = {1e-300, 2, 3};
  manifest.moments.covariance_eigenvalues = {0.3, 0.2, 0.1};
  manifest.moments.covariance_eigenvectors = {{{1, 2, 3}, {4, 5, 6}, {7, 8, 9.5}}};
  ShardInfo shard{"train/00000", 3, 999, "00000000000000ab", {{"000008.sst", 1000, "0123456789abcdef"}}};
  manifest.splits.push_back({"train", 5, 3, {1, 4}, {shard}, "ffffffffffffffff"});
  shard.folder = "val/00000";
  manifest.splits.push_back({"val", 3, 3, {}, {shard}, "1111111111111111"});
  return manifest;
}

Result<Manifest> Load(const TempFolder& folder) {
  PosixFileSystem files;
  return LoadManifest(files, folder.path());
}

// Changes the JSON and seals it again: a file that is whole but says something else.
std::string Resealed(const std::function<void(nlohmann::ordered_json&)>& change) {
  auto json = ManifestToJson(Example());
  change(json);
  return SealJson(json);
}

TEST(Manifest, NothingIsLostThroughTheFile) {
  const TempFolder folder;
  WriteText(folder / "manifest.json", ManifestText(Example()));
  const auto loaded = Load(folder);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(ManifestText(*loaded), ManifestText(Example()));
  EXPECT_EQ(loaded->moments.mean, Example().moments.mean);
  EXPECT_EQ(loaded->store_seed, Example().store_seed);
  ASSERT_NE(loaded->Split("val"), nullptr);
  EXPECT_EQ(loaded->Split("val")->shards[0].folder, "val/00000");
  EXPECT_EQ(loaded->Split("test"), nullptr);
}

TEST(Manifest, EveryFlippedByteIsNoticed) {
  const std::string text = ManifestText(Example());
  ASSERT_TRUE(OpenSealedJson(text, "manifest.json"));
  std::string changed = text;
  for (size_t offset = 0; offset < text.size(); ++offset) {
    changed[offset] = static_cast<char>(text[offset] ^ 1);
    const auto opened = OpenSealedJson(changed, "manifest.json");
    ASSERT_FALSE(opened) << offset;
    EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(opened.error().message.find("manifest.json"), std::string::npos);
    changed[offset] = text[offset];
  }
  const TempFolder folder;
  changed[text.size() / 2] ^= 1;
  WriteText(folder / "manifest.json", changed);
  EXPECT_FALSE(Load(folder));
}

TEST(Manifest, MissingStoreAndUnfinishedStoreSayWhatToDo) {
  const TempFolder folder;
  PosixFileSystem files;
  const auto missing = LoadManifest(files, folder / "none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("plateau dataset ingest"), std::string::npos);
  const auto unfinished = Load(folder);
  ASSERT_FALSE(unfinished);
  EXPECT_NE(unfinished.error().message.find("run again"), std::string::npos);
}

TEST(Manifest, RefusalNamesFieldAndVersion) {
  const TempFolder folder;
  const auto message = [&](const std::string& text) {
    WriteText(folder / "manifest.json", text);
    const auto loaded = Load(folder);
    return loaded ? "accepted" : loaded.error().message;
  };
  EXPECT_EQ(message(Resealed([](auto&) {})), "accepted");
  EXPECT_NE(message(Resealed([](auto& json) { json["format_version"] = 2; })).find("format_version is 2"), std::string::npos);
  EXPECT_NE(message(Resealed([](auto& json) { json.erase("store_seed"); })).find("`store_seed` is missing"), std::string::npos);
  EXPECT_NE(message(Resealed([](auto& json) { json["name"] = 3; })).find("`name`"), std::string::npos);
  EXPECT_NE(message(Resealed([](auto& json) { json["splits"][0]["records"] = 4; })).find("counts 5 sources, 4 records"),
            std::string::npos);
  EXPECT_NE(message(Resealed([](auto& json) { json["splits"][1]["shards"][0].erase("files"); })).find("`files`"),
            std::string::npos);
}

TEST(Manifest, ChannelsAreThreeWhereAnOlderStoreDoesNotSay) {
  const TempFolder folder;
  const auto channels = [&](const std::function<void(nlohmann::ordered_json&)>& change) {
    WriteText(folder / "manifest.json", Resealed(change));
    const auto loaded = Load(folder);
    return loaded ? loaded->channels : -1;
  };
  EXPECT_EQ(channels([](auto& json) { json["channels"] = 1; }), 1);
  EXPECT_EQ(channels([](auto& json) { json.erase("channels"); }), 3);
  EXPECT_EQ(channels([](auto& json) { json["channels"] = 4; }), -1);
}

TEST(Manifest, SourceOrdinalsAreTheStoredOnesInOrder) {
  for (const std::vector<uint64_t>& rejected :
       std::vector<std::vector<uint64_t>>{{}, {0}, {9}, {0, 1, 2}, {3, 4, 8}, {1, 3, 5, 7, 9}}) {
    SplitInfo split;
    split.sources = 10;
    split.records = 10 - rejected.size();
    split.rejected = rejected;
    std::vector<uint64_t> expected, actual;
    for (uint64_t ordinal = 0; ordinal < 10; ++ordinal)
      if (std::find(rejected.begin(), rejected.end(), ordinal) == rejected.end()) expected.push_back(ordinal);
    for (uint64_t dense = 0; dense < split.records; ++dense) actual.push_back(SourceOrdinal(split, dense));
    EXPECT_EQ(actual, expected);
  }
}

}  // namespace
}  // namespace plateau
