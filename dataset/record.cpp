// Packs and unpacks one stored image; the byte layout is dataset/FORMAT.md, "Records".
#include "dataset/record.h"

#include <bit>
#include <cstring>

#include "common/check.h"

namespace plateau {
namespace {

constexpr uint8_t kRecordVersion = 1;
constexpr size_t kFixedBytes = 32;

static_assert(std::endian::native == std::endian::little,
              "records are little-endian; this machine needs byte swaps in Put and Get");

template <typename T>
void Put(std::string& out, size_t offset, T value) {
  std::memcpy(out.data() + offset, &value, sizeof(value));
}

template <typename T>
T Get(std::string_view in, size_t offset) {
  T value;
  std::memcpy(&value, in.data() + offset, sizeof(value));
  return value;
}

bool KnownEncoding(uint8_t encoding) { return encoding >= 1 && encoding <= 3; }

}  // namespace

std::string RecordKey(uint64_t slot) {
  std::string key(8, '\0');
  for (int byte = 0; byte < 8; ++byte) key[byte] = static_cast<char>(slot >> (56 - 8 * byte));
  return key;
}

std::string EncodeRecord(const RecordHeader& header, std::string_view bytes) {
  PLATEAU_CHECK(header.source_name.size() <= UINT16_MAX, "name of {} bytes", header.source_name.size());
  PLATEAU_CHECK(bytes.size() <= UINT32_MAX, "image of {} bytes", bytes.size());
  std::string out;
  out.reserve(kFixedBytes + header.source_name.size() + bytes.size());
  out.resize(kFixedBytes, '\0');
  Put<uint8_t>(out, 0, kRecordVersion);
  Put<uint8_t>(out, 1, static_cast<uint8_t>(header.encoding));
  Put<uint8_t>(out, 2, header.channels);
  Put<int32_t>(out, 4, header.label);
  Put<uint32_t>(out, 8, header.width);
  Put<uint32_t>(out, 12, header.height);
  Put<uint64_t>(out, 16, header.source_ordinal);
  Put<uint32_t>(out, 24, static_cast<uint32_t>(bytes.size()));
  Put<uint16_t>(out, 28, static_cast<uint16_t>(header.source_name.size()));
  out += header.source_name;
  out += bytes;
  return out;
}

Result<RecordView> DecodeRecord(std::string_view value) {
  if (value.size() < kFixedBytes)
    return Fail(ErrorCode::kCorrupt, "record of {} bytes is shorter than its {}-byte header", value.size(), kFixedBytes);
  if (const auto version = Get<uint8_t>(value, 0); version != kRecordVersion)
    return Fail(ErrorCode::kCorrupt, "record has version {}, this program reads version {}", version, kRecordVersion);
  const auto encoding = Get<uint8_t>(value, 1);
  if (!KnownEncoding(encoding)) return Fail(ErrorCode::kCorrupt, "record field `encoding` is {}, known are 1 to 3", encoding);
  RecordView view;
  view.header.encoding = static_cast<Encoding>(encoding);
  view.header.channels = Get<uint8_t>(value, 2);
  if (view.header.channels != 1 && view.header.channels != 3)
    return Fail(ErrorCode::kCorrupt, "record field `channels` is {}, known are 1 and 3", view.header.channels);
  view.header.label = Get<int32_t>(value, 4);
  view.header.width = Get<uint32_t>(value, 8);
  view.header.height = Get<uint32_t>(value, 12);
  view.header.source_ordinal = Get<uint64_t>(value, 16);
  const size_t image_bytes = Get<uint32_t>(value, 24);
  const size_t name_bytes = Get<uint16_t>(value, 28);
  if (Get<uint8_t>(value, 3) != 0 || Get<uint16_t>(value, 30) != 0)
    return Fail(ErrorCode::kCorrupt, "record's reserved bytes are not 0");
  if (kFixedBytes + name_bytes + image_bytes != value.size())
    return Fail(ErrorCode::kCorrupt, "record of {} bytes, but its header says {} + name {} + image {}", value.size(), kFixedBytes,
                name_bytes, image_bytes);
  view.header.source_name = std::string(value.substr(kFixedBytes, name_bytes));
  view.bytes = value.substr(kFixedBytes + name_bytes);
  return view;
}

void SalvageNames(std::string_view bytes, std::map<uint64_t, std::string>& names) {
  constexpr char kVersionByte = static_cast<char>(kRecordVersion);
  for (size_t at = bytes.find(kVersionByte); at != std::string_view::npos; at = bytes.find(kVersionByte, at + 1)) {
    const std::string_view value = bytes.substr(at);
    if (value.size() < kFixedBytes) return;
    if (!KnownEncoding(Get<uint8_t>(value, 1)) || Get<uint8_t>(value, 3) != 0) continue;
    const auto named = names.find(Get<uint64_t>(value, 16));
    const size_t record_bytes = kFixedBytes + Get<uint16_t>(value, 28) + size_t{Get<uint32_t>(value, 24)};
    if (named == names.end() || record_bytes > value.size()) continue;
    if (const auto record = DecodeRecord(value.substr(0, record_bytes))) named->second = record->header.source_name;
  }
}

}  // namespace plateau
