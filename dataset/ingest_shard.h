// One unit of ingest: the images of one shard, read, checked, converted and written.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "dataset/ingest_rejects.h"
#include "dataset/manifest.h"
#include "dataset/moments.h"
#include "dataset/readers/source.h"
#include "dataset/resize_mode.h"
#include "dataset/store_layout.h"

namespace plateau {

// What a finished shard contributes to the manifest; kept on disk until that is written.
struct ShardResult {
  ShardInfo info;
  std::vector<uint64_t> record_checksums;  // [slot], XXH3-64 of the value; 0 where rejected
  std::vector<RejectedImage> rejected;     // in slot order
  MomentSums moments;                      // zero unless asked for
  uint64_t converted = 0;
};

struct ShardTask {
  const ImageSource* source = nullptr;
  StoreLayout layout;
  uint64_t shard = 0;
  bool moments = false;
  ResizeMode resize = ResizeMode::kNone;
  std::string building;  // folder to write into; made new
};

// Called after each image; an error (a limit was passed, a stop) ends the task. `rejected` is null for a good image.
using ImageObserver = std::function<Status(const RejectedImage* rejected)>;

// Blocks. `info.folder` is left empty. Deterministic.
Result<ShardResult> BuildShard(FileSystem& files, const ShardTask& task, const ImageObserver& observe);

}  // namespace plateau
