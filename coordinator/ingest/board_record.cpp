// JSON texts of what the store keeps of an ingest.
#include "coordinator/ingest/board_record.h"

#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kRecordVersion = 1;

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json SplitsJson(const Dataset& dataset) {
  Json splits = Json::array();
  for (const auto& split : dataset.splits)
    splits.push_back({{"name", split.name},
                      {"sources", split.sources},
                      {"reject_limit", split.reject_limit},
                      {"records", split.records},
                      {"checksum", split.checksum}});
  return splits;
}

Json SlotsJson(const Dataset& dataset) {
  Json slots = Json::array();
  for (const auto& slot : dataset.slots)
    slots.push_back({{"number", slot.number},
                     {"attempt", slot.attempt},
                     {"alive", slot.alive},
                     {"restarts", slot.restarts},
                     {"last_exit", slot.last_exit}});
  return slots;
}

Dataset FromJson(const Json& json) {
  Dataset dataset;
  dataset.id = json.at("id");
  dataset.tag = json.at("tag");
  auto order = IngestOrderFromJson(nlohmann::json(json.at("order")), "stored order of " + dataset.id);
  if (!order) throw std::runtime_error(order.error().message);
  dataset.order = std::make_shared<const IngestOrder>(std::move(*order));
  const auto state = DatasetStateFromName(json.at("state"));
  if (!state) throw std::runtime_error("state " + json.at("state").dump() + " is not known");
  dataset.state = *state;
  dataset.reason = json.at("reason");
  dataset.message = json.at("message");
  dataset.created_ms = json.at("created_ms");
  dataset.started_ms = json.at("started_ms");
  dataset.ended_ms = json.at("ended_ms");
  dataset.last_event = json.at("last_event");
  dataset.last_lease = json.at("last_lease");
  dataset.overflow = json.at("overflow");
  dataset.overflow_lease = json.at("overflow_lease");
  dataset.plan_checksum = json.at("plan_checksum");
  for (const auto& split : json.at("splits"))
    dataset.splits.push_back(
        {split.at("name"), split.at("sources"), split.at("reject_limit"), split.at("records"), split.at("checksum")});
  for (const auto& slot : json.at("slots"))
    dataset.slots.push_back({.number = slot.at("number"),
                             .attempt = slot.at("attempt"),
                             .alive = slot.at("alive"),
                             .restarts = slot.at("restarts"),
                             .last_exit = slot.at("last_exit")});
  return dataset;
}

BoardTask TaskFromJson(const Json& json) {
  BoardTask task;
  task.split = json.at("split");
  task.folder = json.at("folder");
  task.images = json.at("images");
  const auto state = TaskStateFromName(json.at("state"));
  if (!state) throw std::runtime_error("state " + json.at("state").dump() + " is not known");
  task.state = *state;
  task.failures = json.at("failures");
  task.records = json.at("records");
  task.rejected = json.at("rejected");
  task.converted = json.at("converted");
  const Json& lease = json.at("lease");
  task.lease.number = lease.at("number");
  task.lease.worker = lease.at("worker");
  task.lease.host = lease.at("host");
  task.lease.pid = lease.at("pid");
  task.lease.slot = lease.at("slot");
  task.lease.attempt = lease.at("attempt");
  task.lease.request = lease.at("request");
  task.lease.granted_ms = lease.at("granted_ms");
  task.lease.checksum = lease.at("checksum");
  return task;
}

template <typename T, typename Read>
Result<T> Parse(std::string_view text, const char* what, Read read) {
  try {
    const Json json = Json::parse(text);
    if (json.at("v") != kRecordVersion)
      return Fail(ErrorCode::kCorrupt, "state store: {}: version {} is not known", what, json.at("v").dump());
    return read(json);
  } catch (const std::exception& error) {
    return Fail(ErrorCode::kCorrupt, "state store: {}: cannot be read: {}", what, error.what());
  }
}

}  // namespace

std::string DatasetRecordText(const Dataset& dataset) {
  return Dump({{"v", kRecordVersion},
               {"id", dataset.id},
               {"tag", dataset.tag},
               {"state", DatasetStateName(dataset.state)},
               {"reason", dataset.reason},
               {"message", dataset.message},
               {"created_ms", dataset.created_ms},
               {"started_ms", dataset.started_ms},
               {"ended_ms", dataset.ended_ms},
               {"last_event", dataset.last_event},
               {"last_lease", dataset.last_lease},
               {"overflow", dataset.overflow},
               {"overflow_lease", dataset.overflow_lease},
               {"plan_checksum", dataset.plan_checksum},
               {"splits", SplitsJson(dataset)},
               {"slots", SlotsJson(dataset)},
               {"order", IngestOrderToJson(*dataset.order)}});
}

Result<Dataset> ParseDatasetRecord(std::string_view text) { return Parse<Dataset>(text, "record of an ingest", FromJson); }

std::string TaskRecordText(const BoardTask& task) {
  return Dump({{"v", kRecordVersion},
               {"split", task.split},
               {"folder", task.folder},
               {"images", task.images},
               {"state", TaskStateName(task.state)},
               {"failures", task.failures},
               {"records", task.records},
               {"rejected", task.rejected},
               {"converted", task.converted},
               {"lease",
                {{"number", task.lease.number},
                 {"worker", task.lease.worker},
                 {"host", task.lease.host},
                 {"pid", task.lease.pid},
                 {"slot", task.lease.slot},
                 {"attempt", task.lease.attempt},
                 {"request", task.lease.request},
                 {"granted_ms", task.lease.granted_ms},
                 {"checksum", task.lease.checksum}}}});
}

Result<BoardTask> ParseTaskRecord(std::string_view text) {
  return Parse<BoardTask>(text, "record of an ingest's shard", TaskFromJson);
}

}  // namespace plateau
