// Verifying, publishing and deleting checkpoints.
#include "coordinator/checkpoint_desk.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "common/log.h"

namespace plateau {
namespace {

// The manifest first, so that a half-deleted folder is no checkpoint.
Status DeleteCheckpointFolder(FileSystem& files, const std::string& folder) {
  const auto removed = files.Remove(folder + "/manifest.json");
  if (!removed && removed.error().code != ErrorCode::kNotFound) return removed;
  return files.RemoveAll(folder);
}

// 12 for ("attempt-12", "attempt-"); nothing for any other form.
std::optional<int64_t> NumberAfter(const std::string& name, std::string_view prefix) {
  int64_t number = 0;
  if (!name.starts_with(prefix)) return std::nullopt;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + prefix.size(), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end ? std::optional(number) : std::nullopt;
}

}  // namespace

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
    const auto status = DeleteCheckpointFolder(files, output_folder + "/" + path);
    if (status)
      published.removed.push_back(path);
    else
      published.trouble = fmt::format("an old checkpoint could not be deleted: {}", status.error().message);
  }
  return published;
}

Result<std::vector<std::string>> SweepAttemptFolders(FileSystem& files, const std::string& output_folder,
                                                     const SweepAttempts& sweep) {
  PLATEAU_ASSIGN(const auto entries, files.List(output_folder));
  std::vector<std::string> deleted;
  for (const auto& attempt : entries) {
    if (attempt.starts_with("current.json.tmp-")) {  // of a coordinator that died; this thread alone writes them
      PLATEAU_TRY(files.Remove(output_folder + "/" + attempt));
      deleted.push_back(attempt);
    }
    const auto number = NumberAfter(attempt, "attempt-");
    if (!number || *number >= sweep.below) continue;
    PLATEAU_ASSIGN(const auto names, files.List(output_folder + "/" + attempt));
    for (const auto& name : names) {
      constexpr std::string_view kBeside = ".tmp";  // a checkpoint that is being written
      const bool beside = name.ends_with(kBeside);
      if (!NumberAfter(beside ? name.substr(0, name.size() - kBeside.size()) : name, "step-")) continue;
      const std::string path = attempt + "/" + name, folder = output_folder + "/" + path;
      if (std::find(sweep.keep.begin(), sweep.keep.end(), path) != sweep.keep.end()) continue;
      const bool complete = !beside && files.Exists(folder + "/manifest.json");
      if (complete && sweep.keep.empty()) continue;
      PLATEAU_TRY(DeleteCheckpointFolder(files, folder));
      deleted.push_back(path);
    }
  }
  return deleted;
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
  if (const auto* sweep = std::get_if<SweepAttempts>(&task.what)) {
    const auto deleted = SweepAttemptFolders(files_, task.output_folder, *sweep);
    if (!deleted)
      return LogWarning("job {}: left-overs of old attempts were not all deleted: {}", task.job, deleted.error().message);
    for (const auto& path : *deleted) LogInfo("job {}: deleted {}, which no attempt can use any more", task.job, path);
    return;
  }
  const auto& publish = std::get<PublishCheckpoint>(task.what);
  auto published = PublishCheckpointFolder(files_, task.output_folder, publish);
  if (published) return result_(task.job, *published);
  LogError("job {}: {}", task.job, published.error().message);
  result_(task.job, CheckpointPublished{{}, {}, published.error().message});
}

}  // namespace plateau
