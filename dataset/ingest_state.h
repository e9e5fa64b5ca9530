// What an unfinished ingest keeps in the store's folder `ingest`: its plan, a lock, and a record of each finished shard.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/error.h"
#include "common/file.h"
#include "dataset/ingest_shard.h"

namespace plateau {

// Owns the lock of one store's ingest. Save and Load may be called from any thread, for different shards.
class IngestState {
 public:
  // Makes `out` ready to be written under `plan` (any text; equal texts are equal plans): refuses finished stores (unless
  // `overwrite`, which removes them), foreign folders and a second process; keeps finished shards of the same plan and removes
  // those of another.
  static Result<std::unique_ptr<IngestState>> Open(FileSystem& files, const std::string& out, const std::string& plan,
                                                   bool overwrite);
  // The same for an ingest that was begun under `plan` before, in a process that is gone: kConflict when the folder has been
  // finished or taken by another ingest meanwhile. Removes nothing.
  static Result<std::unique_ptr<IngestState>> OpenPlanned(FileSystem& files, const std::string& out, const std::string& plan);
  ~IngestState();
  IngestState(const IngestState&) = delete;
  IngestState& operator=(const IngestState&) = delete;

  // A folder to build `shard_folder` ("train/00000") in.
  std::string BuildingFolder(const std::string& shard_folder) const;
  // The finished shard, when its record is whole and its files are as it says (digests are read); nothing otherwise.
  std::optional<ShardResult> Load(const std::string& shard_folder);
  // The finished shard as recorded; its files are not looked at.
  Result<ShardResult> Record(const std::string& shard_folder);
  // Removes the record of a shard that is to be built again.
  Status Forget(const std::string& shard_folder);
  // Where a finished shard lies.
  std::string Place(const std::string& shard_folder) const { return out_ + "/" + shard_folder; }
  // Moves the folder `built` to its place and records it; both durable on return. `result.info.folder` is set.
  Status Save(const std::string& shard_folder, const std::string& built, ShardResult& result);
  // Only records a shard that lies in its place.
  Status Note(const std::string& shard_folder, ShardResult& result);
  // Removes the folder `ingest`, after the manifest was written.
  Status Close();

 private:
  IngestState(FileSystem& files, std::string out, int lock) : files_(files), out_(std::move(out)), lock_(lock) {}
  std::string RecordPath(const std::string& shard_folder) const;

  FileSystem& files_;
  std::string out_;
  int lock_;
};

}  // namespace plateau
