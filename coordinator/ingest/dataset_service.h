// What the doors of the coordinator may ask about ingests. The ingest loop answers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "coordinator/ingest/board.h"

namespace plateau {

struct DatasetSubmission {
  std::shared_ptr<const IngestOrder> order;
  std::string idempotency_key;  // empty: none
  std::string body_digest;      // identifies the request body for the key
};

struct DatasetAnswer {
  std::shared_ptr<const Dataset> dataset;
  bool repeated = false;  // the key was known with the same body: this is the first ingest
};

// Thread-safe. Ingests are immutable snapshots. Callbacks run on the ingest loop's thread and must not block.
class DatasetService {
 public:
  virtual ~DatasetService() = default;
  // kInvalidInput: the Idempotency-Key belongs to another body, or the source is not there. kConflict: a finished store is in `out`.
  // kIo: the state cannot be written.
  virtual void SubmitDataset(DatasetSubmission submission, std::function<void(Result<DatasetAnswer>)> answer) = 0;
  // kNotFound: no such ingest. kConflict: it has ended, or its manifest is being written.
  virtual void CancelDataset(const std::string& id, std::function<void(Result<std::shared_ptr<const Dataset>>)> answer) = 0;
  virtual std::shared_ptr<const Dataset> FindDataset(const std::string& id) const = 0;  // null: no such ingest
  virtual std::vector<std::shared_ptr<const Dataset>> AllDatasets() const = 0;          // newest first
  // Stored JSON texts with sequence numbers in (after, ...], at most `limit`, oldest first.
  virtual Result<std::vector<std::string>> DatasetEventTexts(const std::string& id, int64_t after, size_t limit) const = 0;
  // `notice(id)` is called after each new event of an ingest. One listener; set before the loop runs.
  virtual void OnDatasetEvent(std::function<void(const std::string& id)> notice) = 0;
  virtual Moment Now() const = 0;
};

}  // namespace plateau
