// Leases in, shards out. Nothing is written outside the lease's own folder.
#include "worker/ingest/builder.h"

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "common/log.h"
#include "dataset/ingest_result.h"

namespace plateau {
namespace {

constexpr int64_t kFarewellMs = 2'000;  // to give a shard back when the worker is told to leave

// How the building of one shard ended.
struct Built {
  ShardResult result;
  bool too_many_rejected = false;
};

class ShardBuilder {
 public:
  ShardBuilder(FileSystem& files, OpenedSources& sources, const StopSignal& stop, const TaskGranted& task, HeldLease& lease)
      : files_(files), sources_(sources), stop_(stop), task_(task), lease_(lease) {}

  // kUnavailable: stopped. kConflict: the lease is over. Others: why it cannot be built here.
  Result<Built> Build() {
    PLATEAU_ASSIGN(const auto opened, sources_.Find(task_));
    const std::string& out = opened->order.options.out;
    if (!files_.Exists(out + "/ingest/plan.json"))
      return Fail(ErrorCode::kNotFound, "{}/ingest/plan.json: is not there; every worker must see the coordinator's {}", out, out);
    if (task_.task >= opened->plan.tasks.size() || opened->plan.tasks[task_.task].folder != task_.shard)
      return Fail(ErrorCode::kInternal, "task {} of ingest {} is not {}", task_.task, task_.dataset, task_.shard);
    Built built;
    std::vector<RejectedImage> rejected;
    auto result =
        BuildShard(files_, opened->plan.Task(task_.task, task_.folder + "/shard"), [&](const RejectedImage* image) -> Status {
          lease_.images += 1;
          if (image != nullptr) {
            rejected.push_back(*image);
            lease_.rejected += 1;
          }
          if (rejected.size() > task_.reject_limit) return Fail(ErrorCode::kInvalidInput, "too many bad images");
          if (lease_.over) return Fail(ErrorCode::kConflict, "the lease is over");
          if (stop_.raised()) return Fail(ErrorCode::kUnavailable, "told to stop");
          return {};
        });
    built.too_many_rejected = rejected.size() > task_.reject_limit;
    if (!result && !built.too_many_rejected) return Fail(std::move(result.error()));
    if (result) built.result = std::move(*result);
    built.result.rejected = std::move(rejected);
    built.result.info.folder = task_.shard;
    return built;
  }

 private:
  FileSystem& files_;
  OpenedSources& sources_;
  const StopSignal& stop_;
  const TaskGranted& task_;
  HeldLease& lease_;
};

class Builder {
 public:
  Builder(FileSystem& files, IngestChannel& channel, LeaseKeeper& keeper, OpenedSources& sources, const StopSignal& stop,
          const std::string& worker, BuilderTotals& totals)
      : files_(files), channel_(channel), keeper_(keeper), sources_(sources), stop_(stop), worker_(worker), totals_(totals) {}

  Status Serve(const TaskGranted& task) {
    LogInfo("ingest {}: {} under lease {}", task.dataset, task.shard, task.lease);
    const auto lease = keeper_.Hold(worker_, task);
    const auto served = Serve(task, *lease);
    keeper_.Release(lease);
    return served;
  }

 private:
  Status Serve(const TaskGranted& task, HeldLease& lease) {
    auto built = ShardBuilder(files_, sources_, stop_, task, lease).Build();
    std::string text;
    if (built) {
      text = ShardResultText(built->result);
      if (auto written = WriteResult(task, text); !written) built = Fail(std::move(written.error()));
    }
    if (!built) return GiveUp(task, built.error());
    PLATEAU_ASSIGN(const auto reply,
                   channel_.Ask(ShardBuilt{task.dataset, task.lease, ChecksumText(Checksum(text)), built->too_many_rejected}));
    if (const auto* over = std::get_if<LeaseOver>(&reply)) {
      totals_.lost += 1;
      LogWarning("ingest {}: {}: {}", task.dataset, task.shard, over->reason);
      RemoveFolder(task);
      return {};
    }
    totals_.shards += 1;
    totals_.images += lease.images;
    return {};
  }

  Status WriteResult(const TaskGranted& task, const std::string& text) {
    PLATEAU_TRY(files_.MakeDirectories(task.folder));  // a shard that was given up at once has made none
    return WriteFileAtomic(files_, task.folder + "/result.json", text);
  }

  // The lease is over, the worker leaves, or the shard cannot be built here.
  Status GiveUp(const TaskGranted& task, const Error& error) {
    RemoveFolder(task);
    if (error.code == ErrorCode::kUnavailable && stop_.raised()) {
      if (auto reply = channel_.AskBounded(ReturnLease{task.dataset, task.lease}, kFarewellMs); !reply)
        LogInfo("{}: not given back ({}); its lease runs out by itself", task.shard, reply.error().message);
      return {};
    }
    if (error.code == ErrorCode::kConflict) {
      totals_.lost += 1;
      LogWarning("ingest {}: {}: lease {} is over", task.dataset, task.shard, task.lease);
      return {};
    }
    totals_.failed += 1;
    LogError("ingest {}: {}: {}", task.dataset, task.shard, error.message);
    PLATEAU_TRY(channel_.Ask(BuildFailed{task.dataset, task.lease, error.message}));
    return {};
  }

  void RemoveFolder(const TaskGranted& task) {
    if (auto removed = files_.RemoveAll(task.folder); !removed) LogWarning("{}", removed.error().message);
  }

  FileSystem& files_;
  IngestChannel& channel_;
  LeaseKeeper& keeper_;
  OpenedSources& sources_;
  const StopSignal& stop_;
  const std::string& worker_;
  BuilderTotals& totals_;
};

}  // namespace

Result<std::shared_ptr<const OpenedSources::Opened>> OpenedSources::Find(const TaskGranted& task) {
  const std::lock_guard lock(mutex_);  // the others wait for the first: it is the same list
  auto& known = opened_[task.dataset];
  if (known == nullptr || known->plan_checksum != task.plan_checksum) {
    known = nullptr;
    const auto json = nlohmann::json::parse(task.order, nullptr, false);
    auto opened = std::make_shared<Opened>();
    PLATEAU_ASSIGN(opened->order, IngestOrderFromJson(json, "order of ingest " + task.dataset));
    PLATEAU_ASSIGN(opened->source, OpenSource(opened->order.source));
    opened->plan = PlanIngest(opened->source, opened->order.options);
    opened->plan_checksum = ChecksumText(Checksum(opened->plan.text));
    if (opened->plan_checksum != task.plan_checksum)
      return Fail(ErrorCode::kInvalidInput,
                  "{}: is not the source that was planned (plan {} here, {} there); every worker must see the same files",
                  opened->source.description, opened->plan_checksum, task.plan_checksum);
    known = std::move(opened);
  }
  return known;
}

Status BuildShards(FileSystem& files, IngestChannel& channel, LeaseKeeper& keeper, OpenedSources& sources, const StopSignal& stop,
                   const std::string& worker, bool stay, BuilderTotals& totals) {
  Builder builder(files, channel, keeper, sources, stop, worker, totals);
  while (!stop.raised()) {
    auto reply = channel.Ask(AskTask{stay});
    if (!reply && stop.raised()) return {};
    PLATEAU_TRY(reply);
    const auto* task = std::get_if<TaskGranted>(&*reply);
    if (task == nullptr) return {};
    const auto served = builder.Serve(*task);
    if (!served && stop.raised()) return {};
    PLATEAU_TRY(served);
  }
  return {};
}

}  // namespace plateau
