// JSON views of an ingest.
#include "coordinator/ingest/dataset_view.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/clock.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

Json Time(int64_t unix_ms) { return unix_ms > 0 ? Json(FormatUtc(unix_ms)) : Json(nullptr); }

Json SplitsJson(const Dataset& dataset) {
  Json splits = Json::object();
  for (size_t number = 0; number < dataset.splits.size(); ++number) {
    const BoardSplit& split = dataset.splits[number];
    uint64_t shards = 0, committed = 0, records = 0, rejected = 0;
    for (const auto& task : dataset.tasks) {
      if (task.split != number) continue;
      shards += 1;
      if (task.state != TaskState::kCommitted) continue;
      committed += 1, records += task.records, rejected += task.rejected;
    }
    splits[split.name] = {{"sources", split.sources},
                          {"shards", shards},
                          {"committed", committed},
                          {"records", records},
                          {"rejected", rejected},
                          {"reject_limit", split.reject_limit},
                          {"checksum", split.checksum.empty() ? Json(nullptr) : Json(split.checksum)}};
  }
  return splits;
}

Json LeasesJson(const Dataset& dataset, Moment now) {
  Json leases = Json::array();
  for (const auto& task : dataset.tasks) {
    if (task.state != TaskState::kLeased && task.state != TaskState::kCommitting) continue;
    const ShardLease& lease = task.lease;
    const bool building = task.state == TaskState::kLeased;
    leases.push_back(
        {{"lease", lease.number},
         {"shard", task.folder},
         {"state", building ? "building" : "committing"},
         {"worker", lease.worker},
         {"host", lease.host},
         {"pid", lease.pid},
         {"slot", lease.slot > 0 ? Json(lease.slot) : Json(nullptr)},
         {"images", lease.images},
         {"of", task.images},
         {"rejected", lease.rejected},
         {"heard_age_s", static_cast<double>(std::max<int64_t>(0, now.monotonic_ms - lease.heard_ms)) / 1000.0},
         {"expires_in_s", building ? Json(static_cast<double>(lease.expires_ms - now.monotonic_ms) / 1000.0) : Json(nullptr)}});
  }
  return leases;
}

Json WorkersJson(const Dataset& dataset) {
  Json workers = Json::array();
  for (const auto& slot : dataset.slots)
    workers.push_back({{"slot", slot.number},
                       {"attempt", slot.attempt},
                       {"alive", slot.alive},
                       {"restarts", slot.restarts},
                       {"last_exit", slot.last_exit.empty() ? Json(nullptr) : Json(slot.last_exit)}});
  return workers;
}

Json DatasetJson(const Dataset& dataset, Moment now, bool summary) {
  uint64_t converted = 0, reused = 0;
  for (const auto& task : dataset.tasks) {
    converted += task.converted;
    reused += task.state == TaskState::kCommitted && task.lease.number == 0 ? 1 : 0;
  }
  const uint64_t images = dataset.Images(), handled = dataset.Handled();
  const double rate = dataset.state == DatasetState::kRunning ? dataset.ImagesPerSecond().value_or(0) : 0;
  const int64_t until_ms = dataset.ended_ms > 0 ? dataset.ended_ms : now.unix_ms;
  Json json = {
      {"id", dataset.id},
      {"name", StoreName(dataset.order->options)},
      {"state", DatasetStateName(dataset.state)},
      {"reason", dataset.reason},
      {"message", dataset.message},
      {"created", Time(dataset.created_ms)},
      {"started", Time(dataset.started_ms)},
      {"ended", Time(dataset.ended_ms)},
      {"out", dataset.order->options.out},
      {"images", images},
      {"handled", handled},
      {"rejected", dataset.Rejected()},
      {"converted", converted},
      {"shards", dataset.tasks.size()},
      {"committed", dataset.Count(TaskState::kCommitted)},
      {"reused", reused},
      {"images_per_s", rate > 0 ? Json(rate) : Json(nullptr)},
      {"eta_s", rate > 0 ? Json(static_cast<double>(images - handled) / rate) : Json(nullptr)},
      {"seconds", dataset.started_ms > 0 ? Json(static_cast<double>(until_ms - dataset.started_ms) / 1000.0) : Json(nullptr)},
      {"last_lease", dataset.last_lease},
      {"last_event", dataset.last_event}};
  if (summary) return json;
  json["splits"] = SplitsJson(dataset);
  json["leases"] = LeasesJson(dataset, now);
  json["workers"] = WorkersJson(dataset);
  json["order"] = IngestOrderToJson(*dataset.order);
  return json;
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string DatasetViewText(const Dataset& dataset, Moment now, bool summary) { return Dump(DatasetJson(dataset, now, summary)); }

std::string DatasetListText(std::span<const std::shared_ptr<const Dataset>> datasets, Moment now) {
  Json list = Json::array();
  for (const auto& dataset : datasets) list.push_back(DatasetJson(*dataset, now, true));
  return Dump({{"datasets", std::move(list)}});
}

}  // namespace plateau
