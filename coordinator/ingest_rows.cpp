// Rows of ingests, written in one batch a turn.
#include "coordinator/ingest_rows.h"

#include <algorithm>
#include <limits>

#include <nlohmann/json.hpp>

#include "coordinator/ingest/board_record.h"
#include "coordinator/job/job_record.h"

namespace plateau {
namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();

}  // namespace

Status SaveDataset(Store& store, const DatasetOutcome& outcome, const DatasetKey* key) {
  const Dataset& dataset = outcome.dataset;
  std::vector<StoreRow> rows{{"dataset/" + dataset.id, DatasetRecordText(dataset)}};
  for (const size_t task : outcome.changed_tasks)
    rows.push_back({Store::Key("dataset-task", dataset.id, task), TaskRecordText(dataset.tasks[task])});
  for (const auto& event : outcome.events)
    rows.push_back({Store::Key("dataset-event", dataset.id, static_cast<uint64_t>(event.seq)), EventRowText(event)});
  if (key != nullptr)
    rows.push_back(
        {"dataset-idempotency/" + key->key, nlohmann::json{{"v", 1}, {"dataset", key->dataset}, {"digest", key->digest}}.dump()});
  return store.Put(rows, true);
}

Result<std::vector<Dataset>> LoadDatasets(const Store& store) {
  PLATEAU_ASSIGN(const auto rows, store.Rows("dataset/", "dataset/", kAll));
  std::vector<Dataset> datasets;
  for (const auto& row : rows) {
    PLATEAU_ASSIGN(Dataset dataset, ParseDatasetRecord(row.value));
    const std::string prefix = "dataset-task/" + dataset.id + "/";
    PLATEAU_ASSIGN(const auto tasks, store.Rows(prefix, prefix, kAll));
    for (const auto& task : tasks) {
      PLATEAU_ASSIGN(BoardTask parsed, ParseTaskRecord(task.value));
      dataset.tasks.push_back(std::move(parsed));
    }
    datasets.push_back(std::move(dataset));
  }
  std::stable_sort(datasets.begin(), datasets.end(), [](const auto& a, const auto& b) { return a.created_ms < b.created_ms; });
  return datasets;
}

Result<std::optional<DatasetKey>> FindDatasetKey(const Store& store, const std::string& key) {
  PLATEAU_ASSIGN(const auto value, store.Get("dataset-idempotency/" + key));
  if (!value) return std::optional<DatasetKey>();
  const auto json = nlohmann::json::parse(*value, nullptr, false);
  if (!json.is_object() || !json.contains("dataset") || !json.contains("digest"))
    return Fail(ErrorCode::kCorrupt, "state store: the record of Idempotency-Key '{}' of an ingest cannot be read", key);
  return std::optional(DatasetKey{key, json["dataset"], json["digest"]});
}

Result<std::vector<std::string>> DatasetEvents(const Store& store, const std::string& id, int64_t after, size_t limit) {
  PLATEAU_ASSIGN(auto rows,
                 store.Rows("dataset-event/" + id + "/", Store::Key("dataset-event", id, static_cast<uint64_t>(after) + 1), limit));
  std::vector<std::string> events;
  for (auto& row : rows) events.push_back(std::move(row.value));
  return events;
}

}  // namespace plateau
