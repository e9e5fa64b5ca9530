// Reads and writes manifest.json and finds source ordinals around the rejected ones.
#include "dataset/manifest.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "dataset/manifest_json.h"
#include "dataset/sealed_json.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormatVersion = 1;
constexpr const char* kFormat = "plateau-store";

Json SplitToJson(const SplitInfo& split) {
  Json shards = Json::array();
  for (const auto& shard : split.shards) shards.push_back(ShardToJson(shard));
  return {{"name", split.name},         {"sources", split.sources},   {"records", split.records},
          {"rejected", split.rejected}, {"checksum", split.checksum}, {"shards", std::move(shards)}};
}

Result<SplitInfo> SplitFromJson(const Json& value, const std::string& path) {
  SplitInfo split;
  Json shards;
  PLATEAU_TRY(ReadField(value, "name", path, split.name));
  PLATEAU_TRY(ReadField(value, "sources", path, split.sources));
  PLATEAU_TRY(ReadField(value, "records", path, split.records));
  PLATEAU_TRY(ReadField(value, "rejected", path, split.rejected));
  PLATEAU_TRY(ReadField(value, "checksum", path, split.checksum));
  PLATEAU_TRY(ReadField(value, "shards", path, shards));
  uint64_t records = 0;
  for (const auto& entry : shards) {
    PLATEAU_ASSIGN(auto shard, ShardFromJson(entry, path));
    records += shard.records;
    split.shards.push_back(std::move(shard));
  }
  if (split.shards.empty()) return Fail(ErrorCode::kCorrupt, "{}: split {} has no shards", path, split.name);
  if (records != split.records || split.records + split.rejected.size() != split.sources)
    return Fail(ErrorCode::kCorrupt, "{}: split {} counts {} sources, {} records, {} rejected, and its shards hold {}", path,
                split.name, split.sources, split.records, split.rejected.size(), records);
  if (!std::is_sorted(split.rejected.begin(), split.rejected.end()))
    return Fail(ErrorCode::kCorrupt, "{}: split {}: field `rejected` is not ascending", path, split.name);
  return split;
}

Json MomentsToJson(const PixelMoments& moments) {
  return {{"mean", moments.mean},
          {"standard_deviation", moments.standard_deviation},
          {"covariance_eigenvalues", moments.covariance_eigenvalues},
          {"covariance_eigenvectors", moments.covariance_eigenvectors}};
}

Result<PixelMoments> MomentsFromJson(const Json& value, const std::string& path) {
  PixelMoments moments;
  PLATEAU_TRY(ReadField(value, "mean", path, moments.mean));
  PLATEAU_TRY(ReadField(value, "standard_deviation", path, moments.standard_deviation));
  PLATEAU_TRY(ReadField(value, "covariance_eigenvalues", path, moments.covariance_eigenvalues));
  PLATEAU_TRY(ReadField(value, "covariance_eigenvectors", path, moments.covariance_eigenvectors));
  return moments;
}

Status ReadHead(const Json& document, const std::string& path, Manifest& manifest) {
  std::string format;
  PLATEAU_TRY(ReadField(document, "format", path, format));
  if (format != kFormat) return Fail(ErrorCode::kInvalidInput, "{}: format is \"{}\", not \"{}\"", path, format, kFormat);
  PLATEAU_TRY(ReadField(document, "format_version", path, manifest.format_version));
  if (manifest.format_version != kFormatVersion)
    return Fail(ErrorCode::kUnsupported,
                "{}: format_version is {}, this program reads {}; use the program that wrote it or ingest again", path,
                manifest.format_version, kFormatVersion);
  PLATEAU_TRY(ReadField(document, "name", path, manifest.name));
  PLATEAU_TRY(ReadField(document, "created", path, manifest.created));
  PLATEAU_TRY(ReadField(document, "source", path, manifest.source));
  PLATEAU_TRY(ReadField(document, "store_seed", path, manifest.store_seed));
  PLATEAU_TRY(ReadField(document, "resize", path, manifest.resize));
  if (!document.contains("channels")) return {};  // stores made before there were gray ones
  PLATEAU_TRY(ReadField(document, "channels", path, manifest.channels));
  if (manifest.channels != 1 && manifest.channels != 3)
    return Fail(ErrorCode::kCorrupt, "{}: field `channels` is {}, known are 1 and 3", path, manifest.channels);
  return {};
}

}  // namespace

Json ShardToJson(const ShardInfo& shard) {
  Json files = Json::array();
  for (const auto& file : shard.files) files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"digest", file.digest}});
  return {{"folder", shard.folder},
          {"records", shard.records},
          {"bytes", shard.bytes},
          {"checksum", shard.checksum},
          {"files", std::move(files)}};
}

Result<ShardInfo> ShardFromJson(const Json& value, const std::string& path) {
  ShardInfo shard;
  Json files;
  PLATEAU_TRY(ReadField(value, "folder", path, shard.folder));
  PLATEAU_TRY(ReadField(value, "records", path, shard.records));
  PLATEAU_TRY(ReadField(value, "bytes", path, shard.bytes));
  PLATEAU_TRY(ReadField(value, "checksum", path, shard.checksum));
  PLATEAU_TRY(ReadField(value, "files", path, files));
  for (const auto& entry : files) {
    ShardFileInfo file;
    PLATEAU_TRY(ReadField(entry, "name", path, file.name));
    PLATEAU_TRY(ReadField(entry, "bytes", path, file.bytes));
    PLATEAU_TRY(ReadField(entry, "digest", path, file.digest));
    shard.files.push_back(std::move(file));
  }
  return shard;
}

Json ManifestToJson(const Manifest& manifest) {
  Json classes = Json::array(), splits = Json::array();
  for (const auto& info : manifest.classes) classes.push_back({{"synset", info.synset}, {"words", info.words}});
  for (const auto& split : manifest.splits) splits.push_back(SplitToJson(split));
  return {{"format", kFormat},
          {"format_version", manifest.format_version},
          {"name", manifest.name},
          {"created", manifest.created},
          {"source", manifest.source},
          {"store_seed", manifest.store_seed},
          {"resize", manifest.resize},
          {"channels", manifest.channels},
          {"moments", MomentsToJson(manifest.moments)},
          {"splits", std::move(splits)},
          {"classes", std::move(classes)}};
}

std::string ManifestText(const Manifest& manifest) { return SealJson(ManifestToJson(manifest)); }

Result<Manifest> LoadManifest(FileSystem& files, const std::string& store) {
  const std::string path = store + "/manifest.json";
  if (!files.Exists(store))
    return Fail(ErrorCode::kNotFound, "{}: no such store; make it with `plateau dataset ingest --out {}`", store, store);
  if (!files.Exists(path))
    return Fail(
        ErrorCode::kNotFound,
        "{}: no manifest.json, so it is no finished store; an ingest that was cut off goes on when its command is run again",
        store);
  PLATEAU_ASSIGN(const auto text, files.Read(path));
  PLATEAU_ASSIGN(const auto document, OpenSealedJson(text, path));
  Manifest manifest;
  Json moments, splits, classes;
  PLATEAU_TRY(ReadHead(document, path, manifest));
  PLATEAU_TRY(ReadField(document, "moments", path, moments));
  PLATEAU_TRY(ReadField(document, "splits", path, splits));
  PLATEAU_TRY(ReadField(document, "classes", path, classes));
  PLATEAU_ASSIGN(manifest.moments, MomentsFromJson(moments, path));
  for (const auto& entry : splits) {
    PLATEAU_ASSIGN(auto split, SplitFromJson(entry, path));
    manifest.splits.push_back(std::move(split));
  }
  for (const auto& entry : classes) {
    ClassInfo info;
    PLATEAU_TRY(ReadField(entry, "synset", path, info.synset));
    PLATEAU_TRY(ReadField(entry, "words", path, info.words));
    manifest.classes.push_back(std::move(info));
  }
  return manifest;
}

const SplitInfo* Manifest::Split(const std::string& split_name) const {
  const auto found = std::find_if(splits.begin(), splits.end(), [&](const SplitInfo& split) { return split.name == split_name; });
  return found == splits.end() ? nullptr : &*found;
}

uint64_t SourceOrdinal(const SplitInfo& split, uint64_t dense) {
  // rejected[i] - i is how many stored records come before rejected[i]; it never falls, so the skipped ones are a prefix.
  uint64_t low = 0, high = split.rejected.size();
  while (low < high) {
    const uint64_t middle = (low + high) / 2;
    if (split.rejected[middle] - middle <= dense)
      low = middle + 1;
    else
      high = middle;
  }
  return dense + low;
}

}  // namespace plateau
