// The disk half of a coordinator's ingest: listing the source, putting shards that workers built into their places, the manifest.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "common/clock.h"
#include "common/file.h"
#include "coordinator/ingest/board.h"
#include "dataset/ingest_plan.h"
#include "dataset/ingest_state.h"

namespace plateau {

// Works on one ingest's folder and holds its lock from Plan or Reopen to Close. One thread at a time; everything blocks on the
// disk.
class StoreWorks {
 public:
  // `stop` ends a long Plan early with kUnavailable.
  StoreWorks(FileSystem& files, const Clock& clock, const Dataset& dataset, const std::atomic<bool>& stop);

  // Opens source and folder as the local ingest does; finds the shards that are finished already (their digests are read).
  Result<DatasetPlanned> Plan();
  // After a restart of the coordinator. kConflict: another ingest has taken the folder meanwhile. kInvalidInput: the source has
  // changed.
  Status Reopen(const std::string& plan_checksum, bool finishing);
  // Moves what was built under the lease to its place and records it. Done again after a crash at any point it gives the same.
  Result<ShardPlaced> Place(const PlaceShard& place);
  void Drop(int64_t lease);
  // Every shard is in its place: rejected.jsonl, manifest, end of the folder `ingest`. With too many bad images rejected.jsonl is
  // written and the error says so; `overflow_lease` (0: none) holds the list of a shard that was given up for it.
  Result<StoreFinished> Finish(bool overflow, int64_t overflow_lease);
  // Removes what leases left and releases the folder.
  void Close();

 private:
  Status OpenSourceAndPlan();
  Result<StoreFinished> Describe(const Manifest& manifest) const;
  Status CheckBuilt(const std::string& folder, const ShardResult& result) const;

  FileSystem& files_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  Dataset identity_;  // id, tag and order
  DataSource source_;
  IngestPlan plan_;
  std::unique_ptr<IngestState> state_;
  std::optional<Manifest> published_;  // found when it was reopened
};

}  // namespace plateau
