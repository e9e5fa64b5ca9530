// Keeps an ingest restartable: a plan, a lock, and sealed records of finished shards.
#include "dataset/ingest_state.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <unistd.h>

#include "dataset/file_digest.h"
#include "dataset/ingest_result.h"

namespace plateau {
namespace {

std::string FlatName(std::string shard_folder) {
  std::replace(shard_folder.begin(), shard_folder.end(), '/', '-');
  return shard_folder;
}

// Removes what an ingest makes, and nothing else.
Status RemoveShards(FileSystem& files, const std::string& out) {
  for (const char* name : {"/train", "/val", "/rejected.jsonl"}) PLATEAU_TRY(files.RemoveAll(out + name));
  return files.SyncDirectory(out);
}

Status RefuseForeign(FileSystem& files, const std::string& out) {
  PLATEAU_ASSIGN(const auto names, files.List(out));
  const bool ours = files.Exists(out + "/ingest");
  for (const auto& name : names)
    if (!ours || (name != "ingest" && name != "train" && name != "val" && !name.starts_with("rejected.jsonl") &&
                  !name.starts_with("manifest.json")))
      return Fail(ErrorCode::kConflict, "{}: holds {}, which no ingest made; choose a new or empty folder", out, name);
  return {};
}

// What a process that is gone was writing beside its files.
Status RemoveTemporaries(FileSystem& files, const std::string& out) {
  PLATEAU_ASSIGN(const auto names, files.List(out));
  for (const auto& name : names)
    if (name.starts_with("rejected.jsonl.tmp-") || name.starts_with("manifest.json.tmp-"))
      PLATEAU_TRY(files.Remove(out + "/" + name));
  return {};
}

// Makes the folder; durable on return.
Status MakeStoreFolder(FileSystem& files, const std::string& out) {
  if (files.Exists(out)) return files.MakeDirectories(out);  // says when it is no folder
  PLATEAU_TRY(files.MakeDirectories(out));
  return files.SyncDirectory((std::filesystem::absolute(out) / "").lexically_normal().parent_path().parent_path().string());
}

Status RefuseFinished(FileSystem& files, const std::string& out, bool overwrite) {
  if (overwrite || !files.Exists(out + "/manifest.json")) return {};
  return Fail(ErrorCode::kConflict, "{}: is a finished store; choose another folder, or give --overwrite to replace it", out);
}

Result<int> TakeLock(const std::string& path) {
  const int lock = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0)
    return Fail(ErrorCode::kIo, "{}: cannot create: {}; {}", path, std::strerror(errno),
                errno == EROFS ? "the file system is mounted read-only, choose another place or remount it"
                               : "check that the folder can be written");
  if (::flock(lock, LOCK_EX | LOCK_NB) == 0) return lock;
  const int error = errno;
  ::close(lock);
  if (error == EWOULDBLOCK)
    return Fail(ErrorCode::kConflict, "{}: another ingest is writing this store; wait for it or end it", path);
  return Fail(ErrorCode::kIo, "{}: cannot lock: {}", path, std::strerror(error));
}

// Of an ingest that ended between its manifest and its last clean-up. The lock keeps one that is at it from harm.
Status RemoveLeftovers(FileSystem& files, const std::string& out) {
  PLATEAU_ASSIGN(const int lock, TakeLock(out + "/ingest/lock"));
  auto removed = files.RemoveAll(out + "/ingest");
  ::close(lock);
  return removed;
}

}  // namespace

Result<std::unique_ptr<IngestState>> IngestState::Open(FileSystem& files, const std::string& out, const std::string& plan,
                                                       bool overwrite) {
  PLATEAU_TRY(MakeStoreFolder(files, out));
  if (const auto unfinished = RefuseFinished(files, out, overwrite); !unfinished) {
    if (files.Exists(out + "/ingest")) PLATEAU_TRY(RemoveLeftovers(files, out));
    return Fail(unfinished.error());
  }
  if (!files.Exists(out + "/manifest.json")) PLATEAU_TRY(RefuseForeign(files, out));
  PLATEAU_TRY(files.MakeDirectories(out + "/ingest"));
  PLATEAU_ASSIGN(const int lock, TakeLock(out + "/ingest/lock"));
  std::unique_ptr<IngestState> state(new IngestState(files, out, lock));
  PLATEAU_TRY(RefuseFinished(files, out, overwrite));  // again: another process may have finished it before the lock was free
  PLATEAU_TRY(RemoveTemporaries(files, out));
  const bool finished = files.Exists(out + "/manifest.json");
  const std::string plan_path = out + "/ingest/plan.json";
  if (!finished && files.Exists(plan_path)) {
    PLATEAU_ASSIGN(const auto stored, files.Read(plan_path));
    if (stored == plan) return state;
  }
  if (finished) PLATEAU_TRY(files.Remove(out + "/manifest.json"));
  PLATEAU_TRY(RemoveShards(files, out));
  PLATEAU_ASSIGN(const auto names, files.List(out + "/ingest"));
  for (const auto& name : names)
    if (name != "lock") PLATEAU_TRY(files.RemoveAll(out + "/ingest/" + name));
  PLATEAU_TRY(WriteFileAtomic(files, plan_path, plan));
  return state;
}

IngestState::~IngestState() { ::close(lock_); }

Result<std::unique_ptr<IngestState>> IngestState::OpenPlanned(FileSystem& files, const std::string& out, const std::string& plan) {
  PLATEAU_TRY(RefuseFinished(files, out, false));
  const std::string plan_path = out + "/ingest/plan.json";
  const auto lost = [&] {
    return Fail(ErrorCode::kConflict,
                "{}: is not the plan that was begun: another ingest has taken the folder meanwhile; ingest again", plan_path);
  };
  if (!files.Exists(plan_path)) return lost();
  PLATEAU_ASSIGN(const int lock, TakeLock(out + "/ingest/lock"));
  std::unique_ptr<IngestState> state(new IngestState(files, out, lock));
  PLATEAU_ASSIGN(const auto stored, files.Read(plan_path));
  if (stored != plan) return lost();
  return state;
}

std::string IngestState::BuildingFolder(const std::string& shard_folder) const {
  return out_ + "/ingest/" + FlatName(shard_folder) + ".building";
}

std::string IngestState::RecordPath(const std::string& shard_folder) const {
  return out_ + "/ingest/" + FlatName(shard_folder) + ".json";
}

Result<ShardResult> IngestState::Record(const std::string& shard_folder) {
  const std::string path = RecordPath(shard_folder);
  PLATEAU_ASSIGN(const auto text, files_.Read(path));
  PLATEAU_ASSIGN(auto result, ParseShardResult(text, path));
  if (result.info.folder != shard_folder)
    return Fail(ErrorCode::kCorrupt, "{}: is the record of {}, not of {}", path, result.info.folder, shard_folder);
  return result;
}

std::optional<ShardResult> IngestState::Load(const std::string& shard_folder) {
  auto result = Record(shard_folder);
  if (!result) return std::nullopt;
  for (const auto& file : result->info.files) {
    const auto digest = DigestFile(out_ + "/" + shard_folder + "/" + file.name);
    if (!digest || digest->bytes != file.bytes || digest->digest != file.digest) return std::nullopt;
  }
  return std::move(*result);
}

Status IngestState::Save(const std::string& shard_folder, const std::string& built, ShardResult& result) {
  const std::string place = Place(shard_folder), parent = place.substr(0, place.rfind('/'));
  PLATEAU_TRY(files_.MakeDirectories(parent));
  PLATEAU_TRY(files_.RemoveAll(place));
  PLATEAU_TRY(files_.Rename(built, place));
  PLATEAU_TRY(files_.SyncDirectory(parent));
  PLATEAU_TRY(files_.SyncDirectory(out_));
  return Note(shard_folder, result);
}

Status IngestState::Note(const std::string& shard_folder, ShardResult& result) {
  result.info.folder = shard_folder;
  return WriteFileAtomic(files_, RecordPath(shard_folder), ShardResultText(result));
}

Status IngestState::Forget(const std::string& shard_folder) {
  const std::string path = RecordPath(shard_folder);
  return files_.Exists(path) ? files_.Remove(path) : Status();
}

Status IngestState::Close() {
  PLATEAU_TRY(files_.RemoveAll(out_ + "/ingest"));
  return files_.SyncDirectory(out_);
}

}  // namespace plateau
