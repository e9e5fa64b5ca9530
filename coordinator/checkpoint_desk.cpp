// Verifying, publishing and deleting checkpoints.
#include "coordinator/checkpoint_desk.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "common/log.h"

namespace plateau {

Result<std::string> VerifyCheckpointFolder(FileSystem& files, const std::string& folder) {
  const std::string path = folder + "/manifest.json";
  auto text = files.Read(path);
  if (!text) {
    return Fail(text.error().code, "{}; the coordinator must see the workers' output folder (shared storage)",
                text.error().message);
  }
  if (nlohmann::json::parse(*text, nullptr, false).is_discarded())
    return Fail(ErrorCode::kCorrupt, "{}: is not JSON; the checkpoint is not complete", path);
  return ChecksumText(Checksum(*text));
}

Result<CheckpointPublished> PublishCheckpointFolder(FileSystem& files, const std::string& output_folder,
                                                    const PublishCheckpoint& what) {
  nlohmann::ordered_json current{
      {"version", 1}, {"path", what.checkpoint.path}, {"step", what.checkpoint.step}, {"checksum", what.checkpoint.checksum}};
  if (what.checkpoint.lineage > 0) current["lineage"] = what.checkpoint.lineage;
  PLATEAU_TRY(WriteFileAtomic(files, output_folder + "/current.json", current.dump(1) + "\n"));
  CheckpointPublished published{what.checkpoint.path, {}, {}};
  for (const auto& path : what.removals) {
    if (path == what.checkpoint.path) continue;
    const std::string folder = output_folder + "/" + path;
    auto status = files.Remove(folder + "/manifest.json");
    if (status || status.error().code == ErrorCode::kNotFound) status = files.RemoveAll(folder);
    if (status)
      published.removed.push_back(path);
    else
      published.trouble = fmt::format("an old checkpoint could not be deleted: {}", status.error().message);
  }
  return published;
}

CheckpointDesk::CheckpointDesk(FileSystem& files, std::function<void(const std::string&, JobEvent)> result)
    : files_(files), result_(std::move(result)), thread_([this] { Run(); }) {}

CheckpointDesk::~CheckpointDesk() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_one();
  thread_.join();
}

bool CheckpointDesk::Post(CheckpointTask task) {
  {
    const std::lock_guard lock(mutex_);
    if (tasks_.size() >= kMaxTasks) return false;
    tasks_.push_back(std::move(task));
  }
  ready_.notify_one();
  return true;
}

void CheckpointDesk::Run() {
  for (;;) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (stopping_) return;
    const CheckpointTask task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    Serve(task);
  }
}

void CheckpointDesk::Serve(const CheckpointTask& task) {
  if (const auto* verify = std::get_if<VerifyCheckpoint>(&task.what)) {
    auto checksum = VerifyCheckpointFolder(files_, task.output_folder + "/" + verify->report.path);
    if (checksum) return result_(task.job, CheckpointVerified{verify->attempt, verify->report, *checksum});
    return result_(task.job, CheckpointRejected{verify->attempt, verify->report, checksum.error().message});
  }
  const auto& publish = std::get<PublishCheckpoint>(task.what);
  auto published = PublishCheckpointFolder(files_, task.output_folder, publish);
  if (published) return result_(task.job, *published);
  LogError("job {}: {}", task.job, published.error().message);
  result_(task.job, CheckpointPublished{{}, {}, published.error().message});
}

}  // namespace plateau
