// Checks and publishes checkpoints on the shared storage, in a thread of its own, so that a slow disk never stops the control loop.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <variant>

#include "common/file.h"
#include "coordinator/job/machine.h"

namespace plateau {

struct CheckpointTask {
  std::string job;
  std::string output_folder;  // <output>/<job>
  std::variant<VerifyCheckpoint, PublishCheckpoint, SweepAttempts> what;
};

// The pure-disk halves, for the desk and for tests.
// The manifest's checksum, or why the folder is no complete checkpoint.
Result<std::string> VerifyCheckpointFolder(FileSystem& files, const std::string& folder);
// Writes <output_folder>/current.json, then deletes `removals` (manifest first, so that a half-deleted folder is no checkpoint).
// An error: current.json was not written. Deletions that failed are told in `trouble` and are tried again at the next publication.
Result<CheckpointPublished> PublishCheckpointFolder(FileSystem& files, const std::string& output_folder,
                                                    const PublishCheckpoint& what);

// Deletes in the folders attempt-<n>, n < `below`, what killed writers left (step-<number>.tmp, step folders without a manifest)
// and complete checkpoints that are not in `keep`: nobody reported them, or nobody could any more. Complete ones stay when `keep`
// is empty: the next attempt begins with them. Also the temporary of a current.json whose writer died. Returns the paths deleted,
// relative to `output_folder`.
Result<std::vector<std::string>> SweepAttemptFolders(FileSystem& files, const std::string& output_folder,
                                                     const SweepAttempts& sweep);

class CheckpointDesk {
 public:
  // `result` is called from the desk's thread with the job and CheckpointVerified, CheckpointRejected or CheckpointPublished;
  // a sweep is only logged.
  CheckpointDesk(FileSystem& files, std::function<void(const std::string& job, JobEvent event)> result);
  ~CheckpointDesk();  // finishes the task under way, drops the rest (they are repeated after the next start)

  // Never blocks. False: kMaxTasks are waiting; the worker repeats its report.
  bool Post(CheckpointTask task);

  static constexpr size_t kMaxTasks = 1'024;

 private:
  void Run();
  void Serve(const CheckpointTask& task);

  FileSystem& files_;
  std::function<void(const std::string&, JobEvent)> result_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<CheckpointTask> tasks_;  // guarded by mutex_
  bool stopping_ = false;             // guarded by mutex_
  std::thread thread_;
};

}  // namespace plateau
