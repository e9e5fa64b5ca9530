// Reads SST files directly, so that one damaged block or file does not hide the others.
#include "dataset/shard_check.h"

#include <algorithm>
#include <memory>

#include <rocksdb/db.h>
#include <rocksdb/sst_file_reader.h>

#include "dataset/record.h"
#include "dataset/shard_options.h"

namespace plateau {
namespace {

uint64_t SlotOf(const rocksdb::Slice& key) {
  uint64_t slot = 0;
  for (size_t i = 0; i < key.size() && i < 8; ++i) slot = slot << 8 | static_cast<uint8_t>(key[i]);
  return slot;
}

bool IsTable(const std::string& name) { return name.ends_with(".sst"); }

// Tries each of `pending` in one file; slots found good or damaged are taken out of it.
void SearchFile(const std::string& path, std::vector<uint64_t>& pending, FileDamage& damage) {
  rocksdb::SstFileReader reader(ShardOptions());
  if (const auto status = reader.Open(path); !status.ok()) {
    damage.whole = true;
    damage.what = status.ToString();
    return;
  }
  const std::unique_ptr<rocksdb::Iterator> iterator(reader.NewIterator(ShardReadOptions()));
  std::vector<uint64_t> left;
  for (const uint64_t slot : pending) {
    if (!iterator->Valid() || SlotOf(iterator->key()) != slot) iterator->Seek(RecordKey(slot));
    if (!iterator->status().ok()) {
      damage.what = iterator->status().ToString();
      damage.slots.push_back(slot);
    } else if (iterator->Valid() && SlotOf(iterator->key()) == slot &&
               DecodeRecord({iterator->value().data(), iterator->value().size()})) {
      iterator->Next();
    } else {
      left.push_back(slot);
    }
  }
  pending = std::move(left);
}

// First slot of a readable file; none otherwise.
bool FirstSlot(const std::string& path, uint64_t& slot) {
  rocksdb::SstFileReader reader(ShardOptions());
  if (!reader.Open(path).ok()) return false;
  rocksdb::ReadOptions options = ShardReadOptions();
  options.verify_checksums = false;
  const std::unique_ptr<rocksdb::Iterator> iterator(reader.NewIterator(options));
  iterator->SeekToFirst();
  if (!iterator->Valid()) return false;
  slot = SlotOf(iterator->key());
  return true;
}

}  // namespace

Status WalkShard(const std::string& folder, const RecordVisitor& visit) {
  rocksdb::DB* opened = nullptr;
  if (const auto status = rocksdb::DB::OpenForReadOnly(ShardOptions(), folder, &opened); !status.ok())
    return Fail(ShardError(status, folder));
  const std::unique_ptr<rocksdb::DB> database(opened);
  rocksdb::ReadOptions options = ShardReadOptions();
  options.readahead_size = 2 << 20;
  const std::unique_ptr<rocksdb::Iterator> iterator(database->NewIterator(options));
  for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) {
    if (iterator->key().size() != 8)
      return Fail(ErrorCode::kCorrupt, "{}: a key has {} bytes instead of 8", folder, iterator->key().size());
    PLATEAU_TRY(visit(SlotOf(iterator->key()), {iterator->value().data(), iterator->value().size()}));
  }
  if (!iterator->status().ok()) return Fail(ShardError(iterator->status(), folder));
  return {};
}

std::vector<FileDamage> FindDamage(const std::string& folder, const std::vector<ShardFileInfo>& files,
                                   const std::vector<uint64_t>& expected, std::vector<uint64_t>& missing) {
  std::vector<FileDamage> found;
  std::vector<uint64_t> pending = expected;
  for (const auto& file : files) {
    if (!IsTable(file.name)) continue;
    FileDamage damage{file.name, {}, false, {}};
    SearchFile(folder + "/" + file.name, pending, damage);
    if (!damage.what.empty()) found.push_back(std::move(damage));
  }
  // What no file answered for lies in the files that do not open: SSTs of a shard hold consecutive ranges in the order of their
  // names.
  for (size_t i = 0; i < files.size() && !pending.empty(); ++i) {
    const auto damage =
        std::find_if(found.begin(), found.end(), [&](const FileDamage& d) { return d.whole && d.file == files[i].name; });
    if (damage == found.end()) continue;
    uint64_t end = UINT64_MAX;
    for (size_t next = i + 1; next < files.size(); ++next)
      if (IsTable(files[next].name) && FirstSlot(folder + "/" + files[next].name, end)) break;
    const auto last = std::lower_bound(pending.begin(), pending.end(), end);
    damage->slots.assign(pending.begin(), last);
    pending.erase(pending.begin(), last);
  }
  missing = std::move(pending);
  return found;
}

std::string SalvageValue(const std::string& path, uint64_t slot) {
  rocksdb::SstFileReader reader(ShardOptions());
  if (!reader.Open(path).ok()) return {};
  rocksdb::ReadOptions options = ShardReadOptions();
  options.verify_checksums = false;
  const std::unique_ptr<rocksdb::Iterator> iterator(reader.NewIterator(options));
  iterator->Seek(RecordKey(slot));
  if (!iterator->Valid() || SlotOf(iterator->key()) != slot) return {};
  return iterator->value().ToString();
}

}  // namespace plateau
