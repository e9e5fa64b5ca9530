// The folder of a run: listing, publishing, retention, lock.
#include "worker/train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <set>

#include <nlohmann/json.hpp>

#include "common/log.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kCurrentVersion = 1;
constexpr const char* kCurrent = "/current.json";
constexpr const char* kManifest = "/manifest.json";

// 123 for ("step-000000123", "step-"); nullopt for anything else, such as "step-000000123.tmp".
std::optional<int64_t> NumberAfter(const std::string& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  int64_t number = 0;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + prefix.size(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

Result<std::vector<std::pair<int, std::string>>> Attempts(FileSystem& files, const std::string& run_folder) {
  std::vector<std::pair<int, std::string>> attempts;
  if (!files.Exists(run_folder)) return attempts;
  PLATEAU_ASSIGN(const auto names, files.List(run_folder));
  for (const std::string& name : names)
    if (const auto number = NumberAfter(name, "attempt-")) attempts.emplace_back(static_cast<int>(*number), name);
  return attempts;
}

// What retention must know of a checkpoint, from its state.json.
Result<std::pair<RetentionCandidate, int>> ReadCandidate(FileSystem& files, const std::string& run_folder,
                                                         const CheckpointEntry& entry) {
  const std::string path = run_folder + "/" + entry.path + "/state.json";
  PLATEAU_ASSIGN(const auto text, files.Read(path));
  PLATEAU_ASSIGN(const auto state, DecodeState(text, path));
  RetentionCandidate candidate{.entry = entry};
  if (!state.train.history.empty()) {
    candidate.validation = state.train.history.back().report.number;
    candidate.value = state.train.history.back().value;
  }
  return std::pair{candidate, state.identity.lineage};
}

// nullopt when its state.json cannot be read.
std::optional<int> LineageOf(FileSystem& files, const std::string& run_folder, const std::string& path) {
  const auto candidate = ReadCandidate(files, run_folder, {.path = path});
  return candidate ? std::optional(candidate->second) : std::nullopt;
}

}  // namespace

Result<std::unique_ptr<FolderLock>> FolderLock::Take(const std::string& run_folder) {
  const std::string path = run_folder + "/.lock";
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0)
    return Fail(ErrorCode::kIo, "{}: cannot open the lock: {}; check the job's output folder", path, std::strerror(errno));
  auto lock = std::unique_ptr<FolderLock>(new FolderLock(file));
  if (::flock(file, LOCK_EX | LOCK_NB) != 0) {
    char holder[128] = {};
    const ssize_t length = ::pread(file, holder, sizeof(holder) - 1, 0);
    return Fail(ErrorCode::kConflict,
                "{} is locked by another run ({}): wait for it, stop it, or give this job another name or output", run_folder,
                length > 0 ? holder : "unknown");
  }
  char host[64] = {};
  ::gethostname(host, sizeof(host) - 1);
  const std::string holder = fmt::format("process {} on {}", ::getpid(), host);
  if (::ftruncate(file, 0) != 0 || ::pwrite(file, holder.data(), holder.size(), 0) != static_cast<ssize_t>(holder.size()))
    LogWarning("{}: the holder's name could not be written: {}", path, std::strerror(errno));
  return lock;
}

FolderLock::~FolderLock() { ::close(file_); }

Result<std::vector<CheckpointEntry>> ListCheckpoints(FileSystem& files, const std::string& run_folder) {
  std::vector<CheckpointEntry> entries;
  PLATEAU_ASSIGN(const auto attempts, Attempts(files, run_folder));
  for (const auto& [attempt, folder] : attempts) {
    PLATEAU_ASSIGN(const auto names, files.List(run_folder + "/" + folder));
    for (const std::string& name : names) {
      const auto step = NumberAfter(name, "step-");
      const std::string path = folder + "/" + name;
      if (step && files.Exists(run_folder + "/" + path + kManifest)) entries.push_back({attempt, *step, path});
    }
  }
  std::sort(entries.begin(), entries.end(), [](const CheckpointEntry& a, const CheckpointEntry& b) {
    return std::pair(a.step, a.attempt) > std::pair(b.step, b.attempt);
  });
  return entries;
}

Result<int> NewestAttempt(FileSystem& files, const std::string& run_folder) {
  PLATEAU_ASSIGN(const auto attempts, Attempts(files, run_folder));
  int newest = 0;
  for (const auto& [number, name] : attempts) newest = std::max(newest, number);
  return newest;
}

Result<std::optional<CurrentPointer>> ReadCurrent(FileSystem& files, const std::string& run_folder) {
  const std::string path = run_folder + kCurrent;
  if (!files.Exists(path)) return std::optional<CurrentPointer>();
  PLATEAU_ASSIGN(const auto text, files.Read(path));
  try {
    const Json json = Json::parse(text);
    if (json.at("version") != kCurrentVersion)
      return Fail(ErrorCode::kUnsupported, "{}: version {}, this build reads {}", path, json.at("version").dump(), kCurrentVersion);
    return std::optional(CurrentPointer{
        .path = json.at("path"), .step = json.at("step"), .checksum = json.at("checksum"), .lineage = json.value("lineage", 0)});
  } catch (const std::exception& fault) {
    return Fail(ErrorCode::kCorrupt, "{}: {}; remove it to resume from the newest checkpoint in the folder", path, fault.what());
  }
}

Result<std::optional<NewestCheckpoint>> LoadNewest(FileSystem& files, const std::string& run_folder) {
  PLATEAU_ASSIGN(const auto current, ReadCurrent(files, run_folder));
  PLATEAU_ASSIGN(auto entries, ListCheckpoints(files, run_folder));
  if (current) {
    // Newer ones were never published: a process that lost its place may have written them.
    std::erase_if(entries, [&](const CheckpointEntry& entry) { return entry.step > current->step; });
    std::stable_partition(entries.begin(), entries.end(),
                          [&](const CheckpointEntry& entry) { return entry.path == current->path; });
  }
  std::optional<int> lineage;
  if (current) lineage = current->lineage > 0 ? std::optional(current->lineage) : LineageOf(files, run_folder, current->path);
  for (const CheckpointEntry& entry : entries) {
    if (lineage && LineageOf(files, run_folder, entry.path).value_or(*lineage) != *lineage) continue;  // of a run begun otherwise
    auto loaded = LoadCheckpoint(files, run_folder + "/" + entry.path);
    if (loaded) return std::optional(NewestCheckpoint{std::move(*loaded), current && entry.path == current->path});
    LogWarning("checkpoint {} cannot be used: {}; trying the one before", entry.path, loaded.error().message);
  }
  if (current)
    return Fail(ErrorCode::kCorrupt,
                "{}: {} is published, but neither it nor an older checkpoint can be read; restore one, or begin anew "
                "with --resume none",
                run_folder, current->path);
  return std::optional<NewestCheckpoint>();
}

Status PublishCheckpoint(FileSystem& files, const std::string& run_folder, const CurrentPointer& current) {
  Json json = {{"version", kCurrentVersion}, {"path", current.path}, {"step", current.step}, {"checksum", current.checksum}};
  if (current.lineage > 0) json["lineage"] = current.lineage;
  return WriteFileAtomic(files, run_folder + kCurrent, json.dump() + "\n");
}

std::vector<CheckpointEntry> CheckpointsToDelete(const std::vector<RetentionCandidate>& newest_first, int keep_last,
                                                 int keep_best) {
  std::set<std::string> keep;
  for (size_t i = 0; i < newest_first.size() && i < static_cast<size_t>(std::max(keep_last, 1)); ++i)
    keep.insert(newest_first[i].entry.path);
  // One checkpoint stands for a validation: the oldest that carries it, made at its boundary.
  std::vector<const RetentionCandidate*> best;
  for (auto it = newest_first.rbegin(); it != newest_first.rend(); ++it) {
    const bool seen = std::any_of(best.begin(), best.end(), [&](const auto* b) { return b->validation == it->validation; });
    if (it->validation > 0 && !std::isnan(it->value) && !seen) best.push_back(&*it);
  }
  std::stable_sort(best.begin(), best.end(), [](const auto* a, const auto* b) { return a->value < b->value; });
  for (size_t i = 0; i < best.size() && i < static_cast<size_t>(std::max(keep_best, 0)); ++i) keep.insert(best[i]->entry.path);
  std::vector<CheckpointEntry> surplus;
  for (const RetentionCandidate& candidate : newest_first)
    if (!keep.contains(candidate.entry.path)) surplus.push_back(candidate.entry);
  return surplus;
}

Status DeleteOldCheckpoints(FileSystem& files, const std::string& run_folder, int lineage, int keep_last, int keep_best) {
  PLATEAU_ASSIGN(const auto entries, ListCheckpoints(files, run_folder));
  PLATEAU_ASSIGN(const auto current, ReadCurrent(files, run_folder));
  std::vector<RetentionCandidate> candidates;
  std::vector<CheckpointEntry> surplus;
  for (const CheckpointEntry& entry : entries) {
    const auto candidate = ReadCandidate(files, run_folder, entry);
    if (!candidate) continue;  // unreadable: left for a person to look at
    if (candidate->second != lineage) continue;
    const bool given_up = current && entry.step >= current->step && entry.path != current->path;
    if (given_up)
      surplus.push_back(entry);
    else
      candidates.push_back(candidate->first);
  }
  for (CheckpointEntry& entry : CheckpointsToDelete(candidates, keep_last, keep_best)) surplus.push_back(std::move(entry));
  for (const CheckpointEntry& entry : surplus) PLATEAU_TRY(DeleteCheckpoint(files, run_folder + "/" + entry.path));
  PLATEAU_ASSIGN(const auto attempts, Attempts(files, run_folder));
  for (const auto& [number, folder] : attempts) {
    PLATEAU_ASSIGN(const auto names, files.List(run_folder + "/" + folder));
    for (const std::string& name : names) {
      const std::string path = run_folder + "/" + folder + "/" + name;
      const bool unfinished = name.ends_with(".tmp") || !files.Exists(path + kManifest);
      if (name.starts_with("step-") && unfinished) PLATEAU_TRY(files.RemoveAll(path));
    }
  }
  PLATEAU_ASSIGN(const auto names, files.List(run_folder));
  for (const std::string& name : names)
    if (name.starts_with("current.json.tmp-")) PLATEAU_TRY(files.Remove(run_folder + "/" + name));
  return {};
}

}  // namespace plateau
