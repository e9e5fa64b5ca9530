// Looks for damage inside one shard, file by file, even when its database no longer opens.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "dataset/manifest.h"
#include "dataset/verify.h"

namespace plateau {

// Called for every record in key order; an error ends the walk and is returned.
using RecordVisitor = std::function<Status(uint64_t slot, std::string_view value)>;

// Walks all records of an intact shard; every block's checksum is verified.
Status WalkShard(const std::string& folder, const RecordVisitor& visit);

// What is unreadable in one SST of a shard.
struct FileDamage {
  std::string file;
  std::string what;             // RocksDB's words
  bool whole = false;           // footer, index or metadata: nothing in the file can be reached
  std::vector<uint64_t> slots;  // ascending
};
// Reads every slot of `expected` (ascending) out of the shard's SST files and returns the damaged files; `missing` gets the slots
// that no file holds. Blocks; meant for shards that are known to be damaged.
std::vector<FileDamage> FindDamage(const std::string& folder, const std::vector<ShardFileInfo>& files,
                                   const std::vector<uint64_t>& expected, std::vector<uint64_t>& missing);
}  // namespace plateau
