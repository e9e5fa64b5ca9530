// The finished shard as sealed JSON.
#include "dataset/ingest_result.h"

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "dataset/manifest_json.h"
#include "dataset/sealed_json.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

Json ResultToJson(const ShardResult& result) {
  Json rejected = Json::array();
  for (const auto& image : result.rejected)
    rejected.push_back({{"source_ordinal", image.source_ordinal}, {"reason", image.reason}});
  std::string checksums;
  for (const uint64_t checksum : result.record_checksums) checksums += ChecksumText(checksum);
  return {{"version", 1},
          {"shard", ShardToJson(result.info)},
          {"converted", result.converted},
          {"moments", {{"images", result.moments.images}, {"value", result.moments.value}, {"product", result.moments.product}}},
          {"rejected", std::move(rejected)},
          {"record_checksums", std::move(checksums)}};
}

}  // namespace

std::string ShardResultText(const ShardResult& result) { return SealJson(ResultToJson(result)); }

Result<ShardResult> ParseShardResult(const std::string& text, const std::string& path) {
  PLATEAU_ASSIGN(const Json document, OpenSealedJson(text, path));
  ShardResult result;
  Json shard, moments, rejected;
  std::string checksums;
  PLATEAU_TRY(ReadField(document, "shard", path, shard));
  PLATEAU_TRY(ReadField(document, "converted", path, result.converted));
  PLATEAU_TRY(ReadField(document, "moments", path, moments));
  PLATEAU_TRY(ReadField(document, "rejected", path, rejected));
  PLATEAU_TRY(ReadField(document, "record_checksums", path, checksums));
  PLATEAU_TRY(ReadField(moments, "images", path, result.moments.images));
  PLATEAU_TRY(ReadField(moments, "value", path, result.moments.value));
  PLATEAU_TRY(ReadField(moments, "product", path, result.moments.product));
  PLATEAU_ASSIGN(result.info, ShardFromJson(shard, path));
  for (const auto& entry : rejected) {
    RejectedImage image;
    PLATEAU_TRY(ReadField(entry, "source_ordinal", path, image.source_ordinal));
    PLATEAU_TRY(ReadField(entry, "reason", path, image.reason));
    result.rejected.push_back(std::move(image));
  }
  for (size_t at = 0; at + 16 <= checksums.size(); at += 16)
    result.record_checksums.push_back(std::strtoull(checksums.substr(at, 16).c_str(), nullptr, 16));
  return result;
}

}  // namespace plateau
