// The parts of a manifest as JSON, shared with the records that an unfinished ingest keeps.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "common/error.h"
#include "dataset/manifest.h"

namespace plateau {

nlohmann::ordered_json ShardToJson(const ShardInfo& shard);
// kCorrupt naming `path` and the field.
Result<ShardInfo> ShardFromJson(const nlohmann::ordered_json& value, const std::string& path);
nlohmann::ordered_json ManifestToJson(const Manifest& manifest);

}  // namespace plateau
