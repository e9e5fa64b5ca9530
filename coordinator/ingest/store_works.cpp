// Plan, place, finish: each step can be repeated after a crash.
#include "coordinator/ingest/store_works.h"

#include <algorithm>
#include <mutex>

#include "common/checksum.h"
#include "common/log.h"
#include "dataset/file_digest.h"
#include "dataset/ingest_finish.h"
#include "dataset/ingest_result.h"
#include "dataset/task_pool.h"

namespace plateau {

StoreWorks::StoreWorks(FileSystem& files, const Clock& clock, const Dataset& dataset, const std::atomic<bool>& stop)
    : files_(files), clock_(clock), stop_(stop) {
  identity_.id = dataset.id;
  identity_.tag = dataset.tag;
  identity_.order = dataset.order;
}

Status StoreWorks::OpenSourceAndPlan() {
  PLATEAU_ASSIGN(source_, OpenSource(identity_.order->source));
  plan_ = PlanIngest(source_, identity_.order->options);
  return {};
}

Result<DatasetPlanned> StoreWorks::Plan() {
  const IngestOptions& options = identity_.order->options;
  PLATEAU_TRY(OpenSourceAndPlan());
  PLATEAU_ASSIGN(state_, IngestState::Open(files_, options.out, plan_.text, options.overwrite));
  DatasetPlanned planned;
  planned.plan_checksum = ChecksumText(Checksum(plan_.text));
  for (const auto& split : plan_.splits) {
    const uint64_t sources = split.source->images().size();
    planned.splits.push_back({.name = split.source->split(), .sources = sources, .reject_limit = options.max_rejected.Of(sources)});
  }
  for (const auto& task : plan_.tasks)
    planned.tasks.push_back({task.split, task.folder, plan_.splits[task.split].layout.Slots(task.shard)});
  PLATEAU_TRY(RunTasks(plan_.tasks.size(), options.jobs, [&](uint64_t number) -> Status {
    if (stop_) return Fail(ErrorCode::kUnavailable, "the coordinator is leaving");
    PlannedTask& task = planned.tasks[number];
    const auto kept = state_->Load(task.folder);
    if (!kept) return state_->Forget(task.folder);
    task.finished = true;
    task.records = kept->info.records, task.rejected = kept->rejected.size(), task.converted = kept->converted;
    return {};
  }));
  return planned;
}

Status StoreWorks::Reopen(const std::string& plan_checksum, bool finishing) {
  const std::string& out = identity_.order->options.out;
  if (finishing && files_.Exists(out + "/manifest.json")) {  // it was written just before the coordinator died
    PLATEAU_ASSIGN(published_, LoadManifest(files_, out));
    PLATEAU_TRY(files_.RemoveAll(out + "/ingest"));
    return files_.SyncDirectory(out);
  }
  PLATEAU_TRY(OpenSourceAndPlan());
  if (ChecksumText(Checksum(plan_.text)) != plan_checksum)
    return Fail(ErrorCode::kInvalidInput,
                "{}: is not what it was when the ingest was planned; nothing was published; order the ingest again",
                source_.description);
  PLATEAU_ASSIGN(state_, IngestState::OpenPlanned(files_, out, plan_.text));
  return {};
}

// The files of a shard are there, in the sizes that its record says: whoever built it wrote to the folder that is seen here.
Status StoreWorks::CheckBuilt(const std::string& folder, const ShardResult& result) const {
  for (const auto& file : result.info.files) {
    const auto bytes = files_.Size(folder + "/" + file.name);
    if (!bytes || *bytes != file.bytes)
      return Fail(ErrorCode::kCorrupt,
                  "{}/{}: {} bytes were reported, {} are there; every worker and the coordinator must see the same {}", folder,
                  file.name, file.bytes, bytes ? std::to_string(*bytes) : "none", identity_.order->options.out);
  }
  return {};
}

Result<ShardPlaced> StoreWorks::Place(const PlaceShard& place) {
  if (state_ == nullptr) return Fail(ErrorCode::kConflict, "ingest {} does not hold its folder", identity_.id);
  const std::string& shard = plan_.tasks.at(place.task).folder;
  const std::string folder = identity_.LeaseFolder(place.lease), path = folder + "/result.json";
  const auto placed = [&](const ShardResult& result) {
    return ShardPlaced{place.task, place.lease, result.info.records, result.rejected.size(), result.converted};
  };
  if (!files_.Exists(path)) {  // it was placed before a crash, and only that was not noted any more
    auto recorded = state_->Record(shard);
    if (!recorded)
      return Fail(ErrorCode::kNotFound, "{}: is not there; every worker and the coordinator must see the same {}", path,
                  identity_.order->options.out);
    Drop(place.lease);  // what is left of its folder
    return placed(*recorded);
  }
  PLATEAU_ASSIGN(const auto text, files_.Read(path));
  if (ChecksumText(Checksum(text)) != place.checksum)
    return Fail(ErrorCode::kCorrupt, "{}: is not what its worker reported (checksum {}, expected {})", path,
                ChecksumText(Checksum(text)), place.checksum);
  PLATEAU_ASSIGN(auto result, ParseShardResult(text, path));
  const bool moved = !files_.Exists(folder + "/shard");  // before a crash
  PLATEAU_TRY(CheckBuilt(moved ? state_->Place(shard) : folder + "/shard", result));
  PLATEAU_TRY(moved ? state_->Note(shard, result) : state_->Save(shard, folder + "/shard", result));
  Drop(place.lease);
  return placed(result);
}

void StoreWorks::Drop(int64_t lease) {
  if (auto removed = files_.RemoveAll(identity_.LeaseFolder(lease)); !removed) LogWarning("{}", removed.error().message);
}

Result<StoreFinished> StoreWorks::Describe(const Manifest& manifest) const {
  StoreFinished finished;
  for (const auto& split : manifest.splits)
    finished.splits.push_back({.name = split.name,
                               .sources = split.sources,
                               .reject_limit = identity_.order->options.max_rejected.Of(split.sources),
                               .records = split.records,
                               .checksum = split.checksum});
  return finished;
}

Result<StoreFinished> StoreWorks::Finish(bool overflow, int64_t overflow_lease) {
  if (published_) return Describe(*published_);
  if (state_ == nullptr) return Fail(ErrorCode::kConflict, "ingest {} does not hold its folder", identity_.id);
  const IngestOptions& options = identity_.order->options;
  RejectLog rejects = MakeRejectLog(plan_, options.max_rejected);
  std::vector<ShardResult> results(plan_.tasks.size());
  for (size_t number = 0; number < plan_.tasks.size(); ++number) {
    auto result = state_->Record(plan_.tasks[number].folder);
    if (!result && overflow) continue;
    PLATEAU_TRY(result);
    for (const auto& image : result->rejected) rejects.Add(plan_.tasks[number].split, image);
    results[number] = std::move(*result);
  }
  if (overflow) {
    const std::string path = identity_.LeaseFolder(overflow_lease) + "/result.json";
    if (overflow_lease > 0) {
      PLATEAU_ASSIGN(const auto text, files_.Read(path));
      PLATEAU_ASSIGN(const auto result, ParseShardResult(text, path));
      const auto split = std::find_if(plan_.splits.begin(), plan_.splits.end(), [&](const SplitPlan& one) {
        return result.info.folder.starts_with(one.source->split() + "/");
      });
      if (split == plan_.splits.end()) return Fail(ErrorCode::kCorrupt, "{}: names no split of the plan", path);
      for (const auto& image : result.rejected) rejects.Add(static_cast<size_t>(split - plan_.splits.begin()), image);
    }
    PLATEAU_TRY(WriteRejected(files_, rejects, options.out));
    PLATEAU_TRY(rejects.Check(options.out));
    return Fail(ErrorCode::kInternal, "ingest {}: too many bad images were counted, but not found again", identity_.id);
  }
  PLATEAU_ASSIGN(const Manifest manifest, FinishIngest(files_, clock_, source_, plan_, options, results, rejects));
  if (auto closed = state_->Close(); !closed)
    LogWarning("{}; the store is whole, the folder may be removed", closed.error().message);
  return Describe(manifest);
}

void StoreWorks::Close() {
  if (state_ != nullptr)
    if (const auto names = files_.List(identity_.order->options.out + "/ingest"))
      for (const auto& name : *names)
        if (name.starts_with("lease-" + identity_.tag + "-"))
          if (auto removed = files_.RemoveAll(identity_.order->options.out + "/ingest/" + name); !removed)
            LogWarning("{}", removed.error().message);
  state_.reset();
}

}  // namespace plateau
