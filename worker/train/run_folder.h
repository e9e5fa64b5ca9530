// The folder of a run, <output>/<job>: which checkpoints it holds, which one is published, what is kept, and the lock on it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/file.h"
#include "worker/train/checkpoint.h"

namespace plateau {

// One complete checkpoint: a step folder that has a manifest.
struct CheckpointEntry {
  int attempt = 0;
  int64_t step = 0;
  std::string path;  // relative to the run folder: "attempt-3/step-000000123"
};

// current.json: which checkpoint a resume begins with.
struct CurrentPointer {
  std::string path;  // relative to the run folder
  int64_t step = 0;
  std::string checksum;  // of the checkpoint's manifest.json
  int lineage = 0;       // the attempt that began its line of training; 0: not said
};

// Holds an advisory lock (flock) on <run>/.lock until destroyed. A second holder is refused: kConflict names the file and the
// holder.
class FolderLock {
 public:
  static Result<std::unique_ptr<FolderLock>> Take(const std::string& run_folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  explicit FolderLock(int file) : file_(file) {}
  int file_;
};

// Complete checkpoints, newest first (by step, then by attempt). An absent folder holds none.
Result<std::vector<CheckpointEntry>> ListCheckpoints(FileSystem& files, const std::string& run_folder);
// Number of the newest attempt folder, 0 when there is none.
Result<int> NewestAttempt(FileSystem& files, const std::string& run_folder);
// nullopt when nothing is published; a damaged pointer is an error naming it.
Result<std::optional<CurrentPointer>> ReadCurrent(FileSystem& files, const std::string& run_folder);

// The newest usable checkpoint at or before the published one, of its lineage; nullopt when there is none. Each damaged one is
// reported as a warning and passed over.
struct NewestCheckpoint {
  LoadedCheckpoint checkpoint;
  bool published = false;  // current.json names it
};
Result<std::optional<NewestCheckpoint>> LoadNewest(FileSystem& files, const std::string& run_folder);

// Writes current.json atomically. Only the publisher calls this: the coordinator, or rank 0 when there is none.
Status PublishCheckpoint(FileSystem& files, const std::string& run_folder, const CurrentPointer& current);

// Which of `entries` (newest first) stay: the `keep_last` newest and the `keep_best` with the lowest validation value.
struct RetentionCandidate {
  CheckpointEntry entry;
  int validation = 0;  // newest validation inside, 0 before the first
  double value = 0;    // of that validation
};
std::vector<CheckpointEntry> CheckpointsToDelete(const std::vector<RetentionCandidate>& newest_first, int keep_last, int keep_best);

// Deletes this lineage's checkpoints that need not be kept, those beyond the published one that were given up, and what killed
// writers left behind. Only the publisher calls this, while nobody writes.
Status DeleteOldCheckpoints(FileSystem& files, const std::string& run_folder, int lineage, int keep_last, int keep_best);

}  // namespace plateau
