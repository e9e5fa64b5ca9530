// The record of a finished shard as it lies on the disk until the manifest is written: sealed JSON. Format: dataset/FORMAT.md.
#pragma once

#include <string>

#include "common/error.h"
#include "dataset/ingest_shard.h"

namespace plateau {

std::string ShardResultText(const ShardResult& result);
// kCorrupt, naming `path` and the field.
Result<ShardResult> ParseShardResult(const std::string& text, const std::string& path);

}  // namespace plateau
