// Keeps an ingest restartable: a plan, a lock, and sealed records of finished shards.
#include "dataset/ingest_state.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "dataset/file_digest.h"
#include "dataset/manifest_json.h"
#include "dataset/sealed_json.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

std::string FlatName(std::string shard_folder) {
  std::replace(shard_folder.begin(), shard_folder.end(), '/', '-');
  return shard_folder;
}

Json ResultToJson(const ShardResult& result) {
  Json rejected = Json::array();
  for (const auto& image : result.rejected)
    rejected.push_back({{"source_ordinal", image.source_ordinal}, {"reason", image.reason}});
  std::string checksums;
  for (const uint64_t checksum : result.record_checksums) checksums += ChecksumText(checksum);
  return {{"version", 1},
          {"shard", ShardToJson(result.info)},
          {"converted", result.converted},
          {"moments", {{"images", result.moments.images}, {"value", result.moments.value}, {"product", result.moments.product}}},
          {"rejected", std::move(rejected)},
          {"record_checksums", std::move(checksums)}};
}

Result<ShardResult> ResultFromText(const std::string& text, const std::string& path) {
  PLATEAU_ASSIGN(const Json document, OpenSealedJson(text, path));
  ShardResult result;
  Json shard, moments, rejected;
  std::string checksums;
  PLATEAU_TRY(ReadField(document, "shard", path, shard));
  PLATEAU_TRY(ReadField(document, "converted", path, result.converted));
  PLATEAU_TRY(ReadField(document, "moments", path, moments));
  PLATEAU_TRY(ReadField(document, "rejected", path, rejected));
  PLATEAU_TRY(ReadField(document, "record_checksums", path, checksums));
  PLATEAU_TRY(ReadField(moments, "images", path, result.moments.images));
  PLATEAU_TRY(ReadField(moments, "value", path, result.moments.value));
  PLATEAU_TRY(ReadField(moments, "product", path, result.moments.product));
  PLATEAU_ASSIGN(result.info, ShardFromJson(shard, path));
  for (const auto& entry : rejected) {
    RejectedImage image;
    PLATEAU_TRY(ReadField(entry, "source_ordinal", path, image.source_ordinal));
    PLATEAU_TRY(ReadField(entry, "reason", path, image.reason));
    result.rejected.push_back(std::move(image));
  }
  for (size_t at = 0; at + 16 <= checksums.size(); at += 16)
    result.record_checksums.push_back(std::strtoull(checksums.substr(at, 16).c_str(), nullptr, 16));
  return result;
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
    if (!ours ||
        (name != "ingest" && name != "train" && name != "val" && name != "rejected.jsonl" && !name.starts_with("manifest.json")))
      return Fail(ErrorCode::kConflict, "{}: holds {}, which no ingest made; choose a new or empty folder", out, name);
  return {};
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

}  // namespace

Result<std::unique_ptr<IngestState>> IngestState::Open(FileSystem& files, const std::string& out, const std::string& plan,
                                                       bool overwrite) {
  PLATEAU_TRY(files.MakeDirectories(out));
  PLATEAU_TRY(RefuseFinished(files, out, overwrite));
  if (!files.Exists(out + "/manifest.json")) PLATEAU_TRY(RefuseForeign(files, out));
  PLATEAU_TRY(files.MakeDirectories(out + "/ingest"));
  PLATEAU_ASSIGN(const int lock, TakeLock(out + "/ingest/lock"));
  std::unique_ptr<IngestState> state(new IngestState(files, out, lock));
  PLATEAU_TRY(RefuseFinished(files, out, overwrite));  // again: another process may have finished it before the lock was free
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

std::string IngestState::BuildingFolder(const std::string& shard_folder) const {
  return out_ + "/ingest/" + FlatName(shard_folder) + ".building";
}

std::optional<ShardResult> IngestState::Load(const std::string& shard_folder) {
  const std::string path = out_ + "/ingest/" + FlatName(shard_folder) + ".json";
  if (!files_.Exists(path)) return std::nullopt;
  const auto text = files_.Read(path);
  if (!text) return std::nullopt;
  auto result = ResultFromText(*text, path);
  if (!result || result->info.folder != shard_folder) return std::nullopt;
  for (const auto& file : result->info.files) {
    const auto digest = DigestFile(out_ + "/" + shard_folder + "/" + file.name);
    if (!digest || digest->bytes != file.bytes || digest->digest != file.digest) return std::nullopt;
  }
  return std::move(*result);
}

Status IngestState::Save(const std::string& shard_folder, ShardResult& result) {
  const std::string place = out_ + "/" + shard_folder, parent = place.substr(0, place.rfind('/'));
  PLATEAU_TRY(files_.MakeDirectories(parent));
  PLATEAU_TRY(files_.RemoveAll(place));
  PLATEAU_TRY(files_.Rename(BuildingFolder(shard_folder), place));
  PLATEAU_TRY(files_.SyncDirectory(parent));
  PLATEAU_TRY(files_.SyncDirectory(out_));
  result.info.folder = shard_folder;
  return WriteFileAtomic(files_, out_ + "/ingest/" + FlatName(shard_folder) + ".json", SealJson(ResultToJson(result)));
}

Status IngestState::Close() {
  PLATEAU_TRY(files_.RemoveAll(out_ + "/ingest"));
  return files_.SyncDirectory(out_);
}

}  // namespace plateau
