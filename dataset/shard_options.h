// RocksDB settings that writer, reader and check of a shard share. Only dataset/shard_*.cpp include it.
#pragma once

#include <memory>
#include <string>

#include <rocksdb/options.h>
#include <rocksdb/status.h>

#include "common/error.h"

namespace plateau {

// Uncompressed blocks with XXH3 checksums, no block cache (the page cache is the cache), no log file, no background work, one
// thread to open files.
rocksdb::Options ShardOptions();
// Verifies each block's checksum; nothing is cached.
rocksdb::ReadOptions ShardReadOptions();
// `status` as an Error: `where` names store, shard and file.
Error ShardError(const rocksdb::Status& status, const std::string& where);

}  // namespace plateau
