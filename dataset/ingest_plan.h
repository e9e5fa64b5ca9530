// What an ingest will write: splits, shards and the text that says whether two ingests are the same work. Shared by the local
// ingest and the coordinator's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataset/ingest_rejects.h"
#include "dataset/ingest_shard.h"
#include "dataset/readers/source.h"
#include "dataset/store_layout.h"

namespace plateau {

struct IngestOptions {
  std::string out;      // the store's folder
  std::string name;     // empty: the folder's last part
  uint64_t shards = 0;  // of train; val gets its part, at least one; 0: chosen from the number and size of the images
  int jobs = 1;         // threads; the result does not depend on it
  RejectLimit max_rejected;
  uint64_t seed = 1;  // of the store's permutation
  ResizeMode resize = ResizeMode::kNone;
  bool overwrite = false;  // a finished store in `out` is removed first
  bool quiet = false;      // no progress bar
};

struct SplitPlan {
  const ImageSource* source;
  StoreLayout layout;
  uint64_t shards;
};

struct TaskPlan {
  size_t split;
  uint64_t shard;
  std::string folder;  // "train/00000"
};

// Borrows the source it was made from.
struct IngestPlan {
  std::vector<SplitPlan> splits;
  std::vector<TaskPlan> tasks;  // one a shard, by split and shard
  ResizeMode resize = ResizeMode::kNone;
  std::string text;  // sealed JSON, equal for equal work: the source's lists, the classes, and what decides the shards

  uint64_t Images() const;
  // What BuildShard needs for a task.
  ShardTask Task(size_t number, std::string building) const;
};

IngestPlan PlanIngest(const DataSource& source, const IngestOptions& options);

// options.name, or the last part of options.out.
std::string StoreName(const IngestOptions& options);

}  // namespace plateau
