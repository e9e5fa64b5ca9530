// Opens every shard of a store read-only and reads records by source ordinal.
#include "dataset/shard_reader.h"

#include <rocksdb/db.h>

#include "dataset/shard_options.h"
#include "dataset/store_layout.h"

namespace plateau {
namespace {

struct OpenSplit {
  StoreLayout layout;
  std::vector<std::unique_ptr<rocksdb::DB>> shards;
};

class RocksStoreReader final : public StoreReader {
 public:
  RocksStoreReader(std::string store, Manifest manifest) : store_(std::move(store)), manifest_(std::move(manifest)) {}

  Status OpenShards() {
    const rocksdb::Options options = ShardOptions();
    for (const auto& split : manifest_.splits) {
      OpenSplit open{StoreLayout(manifest_.store_seed, splits_.size(), split.sources, split.shards.size()), {}};
      for (const auto& shard : split.shards) {
        rocksdb::DB* database = nullptr;
        const std::string folder = store_ + "/" + shard.folder;
        if (const auto status = rocksdb::DB::OpenForReadOnly(options, folder, &database); !status.ok())
          return Fail(ShardError(status, folder));
        open.shards.emplace_back(database);
      }
      splits_.push_back(std::move(open));
    }
    return {};
  }

  const Manifest& manifest() const override { return manifest_; }

  Status Read(const SplitInfo& split, uint64_t source_ordinal, RecordBuffer& out) const override {
    const size_t number = SplitNumber(split.name);
    if (number == splits_.size()) return Fail(ErrorCode::kNotFound, "{}: has no split {}", store_, split.name);
    if (source_ordinal >= split.sources)
      return Fail(ErrorCode::kNotFound, "{}: {} has source ordinals 0..{}, asked for {}", store_, split.name, split.sources - 1,
                  source_ordinal);
    const OpenSplit& open = splits_[number];
    const Location at = open.layout.Of(source_ordinal);
    const auto where = [&] {
      return fmt::format("{}/{}: key {} (source ordinal {})", store_, split.shards[at.shard].folder, at.slot, source_ordinal);
    };
    auto& database = *open.shards[at.shard];
    rocksdb::PinnableSlice value;
    const auto status = database.Get(ShardReadOptions(), database.DefaultColumnFamily(), RecordKey(at.slot), &value);
    if (!status.ok()) return Fail(ShardError(status, where()));
    out.value.assign(value.data(), value.size());
    auto record = DecodeRecord(out.value);
    if (!record) return Fail(record.error().code, "{}: {}", where(), record.error().message);
    out.record = std::move(*record);
    if (out.record.header.source_ordinal != source_ordinal)
      return Fail(ErrorCode::kCorrupt, "{}: holds the record of source ordinal {}; shard and manifest do not belong together",
                  where(), out.record.header.source_ordinal);
    return {};
  }

 private:
  size_t SplitNumber(const std::string& name) const {
    size_t number = 0;
    while (number < manifest_.splits.size() && manifest_.splits[number].name != name) ++number;
    return number;
  }

  std::string store_;
  Manifest manifest_;
  std::vector<OpenSplit> splits_;
};

}  // namespace

Result<std::unique_ptr<StoreReader>> StoreReader::Open(FileSystem& files, const std::string& store) {
  PLATEAU_ASSIGN(auto manifest, LoadManifest(files, store));
  auto reader = std::make_unique<RocksStoreReader>(store, std::move(manifest));
  PLATEAU_TRY(reader->OpenShards());
  return std::unique_ptr<StoreReader>(std::move(reader));
}

}  // namespace plateau
