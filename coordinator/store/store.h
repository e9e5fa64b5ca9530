// The coordinator's memory: one RocksDB on local disk. The only place in the coordinator that knows RocksDB.
//
// Keys: job/<id>                       the job record
//       event/<id>/<seq, 8 bytes BE>   one event, as REST shows it
//       validation/<id>/<number, 8 bytes BE>
//       point/<id>/<step, 8 bytes BE>  one point of the curve, as REST shows it
//       node/<name>                    a host, see coordinator/node/node.h
//       idempotency/<key>              {"v","job","digest"}; job: of a pipeline, its id
//       pipeline/<id>                  coordinator/pipeline/pipeline.h
//       dataset.../...                 ingests; rows of coordinator/ingest_rows.h
// Values are JSON texts (coordinator/job/job_record.h); RocksDB's block checksums guard them.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "coordinator/job/machine.h"
#include "coordinator/node/node.h"

namespace rocksdb {
class WriteBatch;
}

namespace plateau {

struct IdempotencyRecord {
  std::string key;
  std::string job;
  std::string digest;  // of the request body
};

// What one turn of the control loop stores, all or nothing.
struct Commit {
  const Job* job = nullptr;  // always
  std::span<const EventRow> events;
  const DecidedValidation* validation = nullptr;   // may be null
  const Curve* point = nullptr;                    // may be null
  const IdempotencyRecord* idempotency = nullptr;  // may be null
  bool sync = true;                                // false: survives the process, not a power cut
};

struct StoreRow {
  std::string key, value;
};

inline constexpr size_t kMaxCurvePoints = 20'000;  // beyond it every second point is dropped, the newest thousand excepted

// Write is for one thread; everything else may be called from any.
class Store {
 public:
  static Result<std::unique_ptr<Store>> Open(const std::string& path, size_t max_points = kMaxCurvePoints);
  ~Store();

  // kIo: nothing was stored.
  Status Write(const Commit& commit) { return WriteAll(std::span(&commit, 1), {}); }
  // Of different jobs, and rows of other rooms: all or nothing. Durable when one of them is to be.
  Status WriteAll(std::span<const Commit> commits, std::span<const StoreRow> rows);
  // Every job with its validations, in the order of creation.
  Result<std::vector<Job>> LoadJobs();
  Result<std::optional<IdempotencyRecord>> FindIdempotency(const std::string& key) const;
  Status WriteNode(const Node& node);
  Status RemoveNode(const std::string& name);  // fine when it is not there
  Result<std::vector<Node>> LoadNodes() const;
  Result<std::vector<std::string>> Events(const std::string& job, int64_t after, size_t limit) const;
  Result<std::vector<std::string>> Points(const std::string& job, int64_t after_step) const;

  // Rows of other rooms, under prefixes of their own. Put: all or nothing; `sync` as in Commit.
  Status Put(std::span<const StoreRow> rows, bool sync);
  Result<std::optional<std::string>> Get(const std::string& key) const;
  // Rows whose keys start with `prefix`, from the key `first` on, in order, at most `limit`.
  Result<std::vector<StoreRow>> Rows(const std::string& prefix, const std::string& first, size_t limit) const;
  // "<kind>/<id>/<number, 8 bytes BE>"; the first two parts alone are the prefix of all numbers.
  static std::string Key(const std::string& kind, const std::string& id, uint64_t number);

 private:
  struct Database;
  struct CurveState {
    size_t points = 0;
    int64_t last_step = -1;
  };
  explicit Store(std::unique_ptr<Database> database, size_t max_points);
  Status ThinOut(const std::string& job);
  Status WriteBatch(rocksdb::WriteBatch& batch, bool sync);
  CurveState Add(rocksdb::WriteBatch& batch, const Commit& commit);

  std::unique_ptr<Database> database_;
  size_t max_points_;
  std::unordered_map<std::string, CurveState> curves_;
};

}  // namespace plateau
