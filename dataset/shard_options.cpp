// One set of RocksDB settings for every shard.
#include "dataset/shard_options.h"

#include <rocksdb/table.h>

namespace plateau {
namespace {

// Swallows RocksDB's own log: a store holds data only.
class NullLogger final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

}  // namespace

rocksdb::Options ShardOptions() {
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;
  rocksdb::Options options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = rocksdb::kNoCompression;
  options.info_log = std::make_shared<NullLogger>();
  options.max_open_files = -1;
  options.max_file_opening_threads = 1;
  options.disable_auto_compactions = true;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.db_host_id = "";
  return options;
}

rocksdb::ReadOptions ShardReadOptions() {
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;
  return options;
}

Error ShardError(const rocksdb::Status& status, const std::string& where) {
  const bool space = status.IsNoSpace() || status.ToString().find("No space left") != std::string::npos;
  if (space) return {ErrorCode::kIo, where + ": " + status.ToString() + "; free some space and run the command again"};
  if (status.IsCorruption() || status.IsNotFound())
    return {ErrorCode::kCorrupt, where + ": " + status.ToString() + "; `plateau dataset verify` lists what is damaged"};
  return {ErrorCode::kIo, where + ": " + status.ToString()};
}

}  // namespace plateau
