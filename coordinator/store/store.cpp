// Rows in RocksDB, written in one batch a turn.
#include "coordinator/store/store.h"

#include <algorithm>

#include <nlohmann/json.hpp>
#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include "coordinator/job/job_record.h"

namespace plateau {

struct Store::Database {
  std::unique_ptr<rocksdb::DB> db;
  std::string path;
};

namespace {

std::string BigEndian(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 7; i >= 0; --i, value >>= 8) bytes[static_cast<size_t>(i)] = static_cast<char>(value & 0xff);
  return bytes;
}

std::string Row(const char* kind, const std::string& job) { return std::string(kind) + "/" + job + "/"; }
std::string Row(const char* kind, const std::string& job, int64_t number) {
  return Row(kind, job) + BigEndian(static_cast<uint64_t>(number));
}

int64_t RowNumber(const rocksdb::Slice& key) {
  uint64_t value = 0;
  for (size_t i = key.size() - 8; i < key.size(); ++i) value = value << 8 | static_cast<unsigned char>(key[i]);
  return static_cast<int64_t>(value);
}

tl::unexpected<Error> FailStore(const std::string& path, const char* doing, const rocksdb::Status& status) {
  return Fail(ErrorCode::kIo, "state store {}: cannot {}: {}; check the disk of the state folder", path, doing, status.ToString());
}

// Calls visit(key, value) for keys that start with `prefix`, from `first` on, until it answers false.
template <typename Visit>
rocksdb::Status Scan(rocksdb::DB& db, const std::string& prefix, const std::string& first, Visit visit) {
  std::unique_ptr<rocksdb::Iterator> it(db.NewIterator(rocksdb::ReadOptions()));
  for (it->Seek(first); it->Valid() && it->key().starts_with(prefix); it->Next())
    if (!visit(it->key(), it->value())) break;
  return it->status();
}

}  // namespace

Store::Store(std::unique_ptr<Database> database, size_t max_points) : database_(std::move(database)), max_points_(max_points) {}
Store::~Store() = default;

Result<std::unique_ptr<Store>> Store::Open(const std::string& path, size_t max_points) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = 8 << 20;
  options.max_total_wal_size = 32 << 20;
  options.max_open_files = 64;
  options.keep_log_file_num = 2;
  options.info_log_level = rocksdb::WARN_LEVEL;
  rocksdb::DB* db = nullptr;
  if (const auto status = rocksdb::DB::Open(options, path, &db); !status.ok()) return FailStore(path, "open", status);
  auto database = std::make_unique<Database>();
  database->db.reset(db);
  database->path = path;
  return std::unique_ptr<Store>(new Store(std::move(database), max_points));
}

// What the curve of the job is once the batch is written.
Store::CurveState Store::Add(rocksdb::WriteBatch& batch, const Commit& commit) {
  const Job& job = *commit.job;
  batch.Put("job/" + job.id, JobRecordText(job));
  for (const auto& row : commit.events) batch.Put(Row("event", job.id, row.seq), EventRowText(row));
  if (commit.validation != nullptr)
    batch.Put(Row("validation", job.id, commit.validation->report.number), DecidedValidationText(*commit.validation));
  CurveState curve = curves_[job.id];
  if (commit.point != nullptr) {
    // A resumed attempt goes back to its checkpoint's step: what the lost one had drawn beyond it is drawn anew.
    if (commit.point->step <= curve.last_step)
      batch.DeleteRange(Row("point", job.id, commit.point->step), Row("point", job.id) + std::string(9, '\xff'));
    else
      curve.points += 1;
    curve.last_step = commit.point->step;
    batch.Put(Row("point", job.id, commit.point->step), CurveText(*commit.point));
  }
  if (commit.idempotency != nullptr) {
    const nlohmann::json value{{"v", 1}, {"job", commit.idempotency->job}, {"digest", commit.idempotency->digest}};
    batch.Put("idempotency/" + commit.idempotency->key, value.dump());
  }
  return curve;
}

Status Store::WriteAll(std::span<const Commit> commits, std::span<const StoreRow> rows) {
  rocksdb::WriteBatch batch;
  std::vector<CurveState> curves;
  bool sync = commits.empty();
  for (const auto& commit : commits) {
    curves.push_back(Add(batch, commit));
    sync = sync || commit.sync;
  }
  for (const auto& row : rows) batch.Put(row.key, row.value);
  PLATEAU_TRY(WriteBatch(batch, sync));
  Status thinned;
  for (size_t i = 0; i < commits.size(); ++i) {
    curves_[commits[i].job->id] = curves[i];
    if (curves[i].points > max_points_ && thinned) thinned = ThinOut(commits[i].job->id);
  }
  return thinned;
}

Status Store::WriteBatch(rocksdb::WriteBatch& batch, bool sync) {
  rocksdb::WriteOptions options;
  options.sync = sync;
  auto status = database_->db->Write(options, &batch);
  if (!status.ok() && database_->db->Resume().ok())
    status = database_->db->Write(options, &batch);  // a full disk that has room again
  if (!status.ok()) return FailStore(database_->path, "write", status);
  return {};
}

Status Store::Put(std::span<const StoreRow> rows, bool sync) {
  rocksdb::WriteBatch batch;
  for (const auto& row : rows) batch.Put(row.key, row.value);
  return WriteBatch(batch, sync);
}

Result<std::optional<std::string>> Store::Get(const std::string& key) const {
  std::string value;
  const auto status = database_->db->Get(rocksdb::ReadOptions(), key, &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return FailStore(database_->path, "read", status);
  return std::optional(std::move(value));
}

Result<std::vector<StoreRow>> Store::Rows(const std::string& prefix, const std::string& first, size_t limit) const {
  std::vector<StoreRow> rows;
  const auto status = Scan(*database_->db, prefix, first, [&](const rocksdb::Slice& key, const rocksdb::Slice& value) {
    if (rows.size() >= limit) return false;
    rows.push_back({key.ToString(), value.ToString()});
    return true;
  });
  if (!status.ok()) return FailStore(database_->path, "read", status);
  return rows;
}

std::string Store::Key(const std::string& kind, const std::string& id, uint64_t number) {
  return kind + "/" + id + "/" + BigEndian(number);
}

Status Store::ThinOut(const std::string& job) {
  std::vector<std::string> keys;
  auto status = Scan(*database_->db, Row("point", job), Row("point", job), [&](const rocksdb::Slice& key, const rocksdb::Slice&) {
    keys.push_back(key.ToString());
    return true;
  });
  if (!status.ok()) return FailStore(database_->path, "read the curve", status);
  const size_t newest = std::min<size_t>(1000, keys.size() / 2);
  rocksdb::WriteBatch batch;
  size_t dropped = 0;
  for (size_t i = 1; i + newest < keys.size(); i += 2, ++dropped) batch.Delete(keys[i]);
  status = database_->db->Write(rocksdb::WriteOptions(), &batch);
  if (!status.ok()) return FailStore(database_->path, "thin out the curve", status);
  curves_[job].points = keys.size() - dropped;
  return {};
}

Result<std::vector<Job>> Store::LoadJobs() {
  std::vector<Job> jobs;
  Status parsed;
  auto status = Scan(*database_->db, "job/", "job/", [&](const rocksdb::Slice&, const rocksdb::Slice& value) {
    auto job = ParseJobRecord(value.ToStringView());
    if (job)
      jobs.push_back(std::move(*job));
    else
      parsed = Fail(std::move(job.error()));
    return parsed.has_value();
  });
  if (!parsed) return Fail(std::move(parsed.error()));
  if (!status.ok()) return FailStore(database_->path, "read the jobs", status);
  for (auto& job : jobs) {
    status = Scan(*database_->db, Row("validation", job.id), Row("validation", job.id),
                  [&](const rocksdb::Slice&, const rocksdb::Slice& value) {
                    auto record = ParseDecidedValidation(value.ToStringView());
                    if (record)
                      job.validations.push_back(std::make_shared<const DecidedValidation>(std::move(*record)));
                    else
                      parsed = Fail(std::move(record.error()));
                    return parsed.has_value();
                  });
    if (!parsed) return Fail(std::move(parsed.error()));
    if (!status.ok()) return FailStore(database_->path, "read the validations", status);
    CurveState& curve = curves_[job.id];
    curve = {};
    status =
        Scan(*database_->db, Row("point", job.id), Row("point", job.id), [&](const rocksdb::Slice& key, const rocksdb::Slice&) {
          curve.points += 1;
          curve.last_step = RowNumber(key);
          return true;
        });
    if (!status.ok()) return FailStore(database_->path, "read the curve", status);
  }
  std::stable_sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.created_ms < b.created_ms; });
  return jobs;
}

Result<std::optional<IdempotencyRecord>> Store::FindIdempotency(const std::string& key) const {
  std::string value;
  const auto status = database_->db->Get(rocksdb::ReadOptions(), "idempotency/" + key, &value);
  if (status.IsNotFound()) return std::optional<IdempotencyRecord>();
  if (!status.ok()) return FailStore(database_->path, "read", status);
  const auto json = nlohmann::json::parse(value, nullptr, false);
  if (json.is_discarded() || !json.contains("job") || !json.contains("digest"))
    return Fail(ErrorCode::kCorrupt, "state store {}: the record of Idempotency-Key '{}' cannot be read", database_->path, key);
  return std::optional(IdempotencyRecord{key, json["job"], json["digest"]});
}

Status Store::WriteNode(const Node& node) {
  rocksdb::WriteOptions options;
  options.sync = true;
  const auto status = database_->db->Put(options, "node/" + node.name, NodeRecordText(node));
  if (!status.ok()) return FailStore(database_->path, "write a node", status);
  return {};
}

Status Store::RemoveNode(const std::string& name) {
  rocksdb::WriteOptions options;
  options.sync = true;
  const auto status = database_->db->Delete(options, "node/" + name);
  if (!status.ok()) return FailStore(database_->path, "remove a node", status);
  return {};
}

Result<std::vector<Node>> Store::LoadNodes() const {
  std::vector<Node> nodes;
  Status parsed;
  const auto status = Scan(*database_->db, "node/", "node/", [&](const rocksdb::Slice&, const rocksdb::Slice& value) {
    auto node = ParseNodeRecord(value.ToStringView());
    if (node)
      nodes.push_back(std::move(*node));
    else
      parsed = Fail(std::move(node.error()));
    return parsed.has_value();
  });
  if (!parsed) return Fail(std::move(parsed.error()));
  if (!status.ok()) return FailStore(database_->path, "read the nodes", status);
  return nodes;
}

Result<std::vector<std::string>> Store::Events(const std::string& job, int64_t after, size_t limit) const {
  std::vector<std::string> texts;
  const auto status = Scan(*database_->db, Row("event", job), Row("event", job, after + 1),
                           [&](const rocksdb::Slice&, const rocksdb::Slice& value) {
                             texts.push_back(value.ToString());
                             return texts.size() < limit;
                           });
  if (!status.ok()) return FailStore(database_->path, "read the events", status);
  return texts;
}

Result<std::vector<std::string>> Store::Points(const std::string& job, int64_t after_step) const {
  std::vector<std::string> texts;
  const auto status = Scan(*database_->db, Row("point", job), Row("point", job, after_step + 1),
                           [&](const rocksdb::Slice&, const rocksdb::Slice& value) {
                             texts.push_back(value.ToString());
                             return true;
                           });
  if (!status.ok()) return FailStore(database_->path, "read the curve", status);
  return texts;
}

}  // namespace plateau
