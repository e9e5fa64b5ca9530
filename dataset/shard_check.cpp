// Reads SST files directly, so that one damaged block or file does not hide the others.
#include "dataset/shard_check.h"

#include <algorithm>
#include <memory>

#include <rocksdb/db.h>
#include <rocksdb/sst_file_reader.h>

#include "dataset/readers/pread_file.h"
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

// RocksDB parses a table's properties before it checks them, and its Debian build aborts when the count that ends that block claims
// a hash index. So that a single flipped bit does not end the program, this looks at the bit first: the properties lie before the
// block whose offset begins the footer's handles (a varint; RocksDB's format.h, version 5: 53 bytes), followed by a 5-byte trailer.
bool PropertiesCanBeParsed(const std::string& path) {
  constexpr uint64_t kFooterBytes = 53, kTrailerBytes = 5;
  const auto file = PreadFile::Open(path);
  std::string footer, last;
  if (!file || (*file)->bytes() < kFooterBytes) return true;  // RocksDB says what is wrong
  if (!(*file)->ReadAt((*file)->bytes() - kFooterBytes, kFooterBytes, footer)) return true;
  uint64_t offset = 0;
  for (int digit = 0; digit < 9; ++digit) {
    const auto byte = static_cast<uint8_t>(footer[1 + digit]);
    offset |= static_cast<uint64_t>(byte & 0x7F) << (7 * digit);
    if (byte < 0x80) break;
  }
  if (offset <= kTrailerBytes || offset > (*file)->bytes()) return true;
  if (!(*file)->ReadAt(offset - kTrailerBytes - 1, 1, last)) return true;
  return static_cast<uint8_t>(last[0]) < 0x80;
}

// Tries each of `pending` in one file; slots found good or damaged are taken out of it. Returns the lowest of them, or UINT64_MAX.
uint64_t SearchFile(const std::string& path, std::vector<uint64_t>& pending, FileDamage& damage) {
  rocksdb::SstFileReader reader(ShardOptions());
  const auto status = PropertiesCanBeParsed(path) ? reader.Open(path) : rocksdb::Status::Corruption("table properties");
  if (!status.ok()) {
    damage.whole = true;
    damage.what = status.ToString();
    return UINT64_MAX;
  }
  const std::unique_ptr<rocksdb::Iterator> iterator(reader.NewIterator(ShardReadOptions()));
  uint64_t first = UINT64_MAX;
  std::vector<uint64_t> left;
  for (const uint64_t slot : pending) {
    if (!iterator->Valid() || SlotOf(iterator->key()) != slot) iterator->Seek(RecordKey(slot));
    const bool damaged = !iterator->status().ok();
    const bool good = !damaged && iterator->Valid() && SlotOf(iterator->key()) == slot;
    if (damaged || good) first = std::min(first, slot);
    if (damaged) {
      damage.what = iterator->status().ToString();
      damage.slots.push_back(slot);
    } else if (good) {
      iterator->Next();
    } else {
      left.push_back(slot);
    }
  }
  pending = std::move(left);
  return first;
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
  std::vector<uint64_t> first(files.size(), UINT64_MAX);
  for (size_t i = 0; i < files.size(); ++i) {
    if (!IsTable(files[i].name)) continue;
    FileDamage damage{files[i].name, {}, false, {}};
    first[i] = SearchFile(folder + "/" + files[i].name, pending, damage);
    if (!damage.what.empty()) found.push_back(std::move(damage));
  }
  // What no file answered for lies in the files that do not open: SSTs of a shard hold consecutive ranges in the order of their
  // names.
  for (size_t i = 0; i < files.size() && !pending.empty(); ++i) {
    const auto damage =
        std::find_if(found.begin(), found.end(), [&](const FileDamage& d) { return d.whole && d.file == files[i].name; });
    if (damage == found.end()) continue;
    const uint64_t end = *std::min_element(first.begin() + static_cast<std::ptrdiff_t>(i), first.end());
    const auto last = std::lower_bound(pending.begin(), pending.end(), end);
    damage->slots.assign(pending.begin(), last);
    pending.erase(pending.begin(), last);
  }
  missing = std::move(pending);
  return found;
}

}  // namespace plateau
