// Writes one shard: records in slot order into SST files of a RocksDB that holds nothing else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/error.h"
#include "common/file.h"
#include "dataset/manifest.h"

namespace plateau {

inline constexpr uint64_t kShardFileBytes = uint64_t{256} << 20;  // an SST is closed when it reaches this size

// One thread at a time. Destroyed before Finish it leaves the folder, without CURRENT, for the caller to remove.
class ShardWriter {
 public:
  // Makes `folder` new; what stood there is removed.
  static Result<std::unique_ptr<ShardWriter>> Create(FileSystem& files, const std::string& folder,
                                                     uint64_t file_bytes = kShardFileBytes);
  virtual ~ShardWriter() = default;
  // `slot` grows from call to call; gaps are allowed.
  virtual Status Add(uint64_t slot, std::string_view value) = 0;
  // Everything on the disk, only data files left in the folder. `folder` of the answer is left empty; files are sorted by name.
  virtual Result<ShardInfo> Finish() = 0;
};

}  // namespace plateau
