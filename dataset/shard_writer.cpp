// SstFileWriter in key order, then IngestExternalFile: no write-ahead log, no compaction, every byte is written once.
#include "dataset/shard_writer.h"

#include <rocksdb/db.h>
#include <rocksdb/sst_file_writer.h>

#include "common/check.h"
#include "common/checksum.h"
#include "dataset/file_digest.h"
#include "dataset/record.h"
#include "dataset/shard_options.h"

namespace plateau {
namespace {

bool IsDataFile(const std::string& name) { return name == "CURRENT" || name.starts_with("MANIFEST-") || name.ends_with(".sst"); }

class SstShardWriter final : public ShardWriter {
 public:
  SstShardWriter(FileSystem& files, std::string folder, uint64_t file_bytes)
      : files_(files),
        folder_(std::move(folder)),
        incoming_(folder_ + "/incoming"),
        file_bytes_(file_bytes),
        options_(ShardOptions()) {}

  Status Add(uint64_t slot, std::string_view value) override {
    PLATEAU_CHECK(info_.records == 0 || slot > last_slot_, "slot {} after {}", slot, last_slot_);
    if (!table_) PLATEAU_TRY(OpenTable());
    const std::string key = RecordKey(slot);
    if (const auto status = table_->Put(key, rocksdb::Slice(value.data(), value.size())); !status.ok())
      return Fail(ShardError(status, paths_.back()));
    checksum_.Add(key.data(), key.size());
    checksum_.Add(value.data(), value.size());
    last_slot_ = slot;
    ++info_.records;
    info_.bytes += key.size() + value.size();
    return table_->FileSize() >= file_bytes_ ? CloseTable() : Status{};
  }

  Result<ShardInfo> Finish() override {
    if (table_) PLATEAU_TRY(CloseTable());
    PLATEAU_TRY(MoveIntoDatabase());
    PLATEAU_TRY(KeepDataOnly());
    info_.checksum = ChecksumText(checksum_.Value());
    return info_;
  }

 private:
  Status OpenTable() {
    table_ = std::make_unique<rocksdb::SstFileWriter>(rocksdb::EnvOptions(), options_);
    paths_.push_back(fmt::format("{}/{:06}.sst", incoming_, paths_.size()));
    if (const auto status = table_->Open(paths_.back()); !status.ok()) return Fail(ShardError(status, paths_.back()));
    return {};
  }

  Status CloseTable() {
    const auto status = table_->Finish();  // fsyncs
    table_.reset();
    if (!status.ok()) return Fail(ShardError(status, paths_.back()));
    return {};
  }

  Status MoveIntoDatabase() {
    rocksdb::Options options = options_;
    options.create_if_missing = true;
    options.error_if_exists = true;
    rocksdb::DB* opened = nullptr;
    if (const auto status = rocksdb::DB::Open(options, folder_, &opened); !status.ok()) return Fail(ShardError(status, folder_));
    const std::unique_ptr<rocksdb::DB> database(opened);
    if (!paths_.empty()) {
      rocksdb::IngestExternalFileOptions ingest;
      ingest.move_files = true;
      ingest.failed_move_fall_back_to_copy = false;
      ingest.snapshot_consistency = false;
      ingest.write_global_seqno = false;
      if (const auto status = database->IngestExternalFile(paths_, ingest); !status.ok()) return Fail(ShardError(status, folder_));
    }
    if (const auto status = database->Close(); !status.ok()) return Fail(ShardError(status, folder_));
    return {};
  }

  // Leaves CURRENT, the MANIFEST it names and the SSTs: what a read-only open needs.
  Status KeepDataOnly() {
    PLATEAU_TRY(files_.RemoveAll(incoming_));
    PLATEAU_ASSIGN(const auto current, files_.Read(folder_ + "/CURRENT"));
    PLATEAU_ASSIGN(const auto names, files_.List(folder_));
    for (const auto& name : names) {
      const bool old_manifest = name.starts_with("MANIFEST-") && current != name + "\n";
      if (!IsDataFile(name) || old_manifest) {
        PLATEAU_TRY(files_.Remove(folder_ + "/" + name));
        continue;
      }
      PLATEAU_ASSIGN(const auto digest, DigestFile(folder_ + "/" + name));
      info_.files.push_back({name, digest.bytes, digest.digest});
    }
    return files_.SyncDirectory(folder_);
  }

  FileSystem& files_;
  std::string folder_, incoming_;
  uint64_t file_bytes_;
  rocksdb::Options options_;
  std::unique_ptr<rocksdb::SstFileWriter> table_;
  std::vector<std::string> paths_;
  uint64_t last_slot_ = 0;
  ChecksumStream checksum_;
  ShardInfo info_;
};

}  // namespace

Result<std::unique_ptr<ShardWriter>> ShardWriter::Create(FileSystem& files, const std::string& folder, uint64_t file_bytes) {
  PLATEAU_TRY(files.RemoveAll(folder));
  PLATEAU_TRY(files.MakeDirectories(folder + "/incoming"));
  return std::unique_ptr<ShardWriter>(std::make_unique<SstShardWriter>(files, folder, file_bytes));
}

}  // namespace plateau
