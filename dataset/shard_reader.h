// Reads records of a store by number. RocksDB stays behind it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/error.h"
#include "common/file.h"
#include "dataset/manifest.h"
#include "dataset/record.h"

namespace plateau {

// Owns the bytes of one record; reuse it, its memory is kept.
struct RecordBuffer {
  std::string value;
  RecordView record;  // borrowed from value
};

// An open store, read-only (a read-only mount is enough). All methods are thread-safe; Read blocks on the disk.
class StoreReader {
 public:
  static Result<std::unique_ptr<StoreReader>> Open(FileSystem& files, const std::string& store);
  virtual ~StoreReader() = default;
  virtual const Manifest& manifest() const = 0;
  // The record with this source ordinal. Errors name store, shard, file and key; every read verifies RocksDB's block checksum.
  virtual Status Read(const SplitInfo& split, uint64_t source_ordinal, RecordBuffer& out) const = 0;
};

}  // namespace plateau
