// Ingests in the coordinator's store.
//
// Keys: dataset/<id>                            the ingest's record
//       dataset-task/<id>/<number, 8 bytes BE>  one shard
//       dataset-event/<id>/<seq, 8 bytes BE>    one event, as REST shows it
//       dataset-idempotency/<key>               {"v","dataset","digest"}
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/ingest/board.h"
#include "coordinator/store/store.h"

namespace plateau {

struct DatasetKey {
  std::string key, dataset, digest;
};

// kIo: nothing was stored.
Status SaveDataset(Store& store, const DatasetOutcome& outcome, const DatasetKey* key);
// Every ingest with its tasks, in the order of creation.
Result<std::vector<Dataset>> LoadDatasets(const Store& store);
Result<std::optional<DatasetKey>> FindDatasetKey(const Store& store, const std::string& key);
Result<std::vector<std::string>> DatasetEvents(const Store& store, const std::string& id, int64_t after, size_t limit);

}  // namespace plateau
