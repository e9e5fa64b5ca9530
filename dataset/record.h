// One stored image: a versioned header and the encoded bytes. Byte layout: dataset/FORMAT.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "common/error.h"

namespace plateau {

enum class Encoding : uint8_t { kJpeg = 1, kPng = 2, kRaw8 = 3 };  // on-disk values; kRaw8: height x width x channels bytes

struct RecordHeader {
  Encoding encoding = Encoding::kJpeg;
  uint8_t channels = 3;            // of the encoded image: 1 or 3
  int32_t label = 0;               // class index of the manifest
  uint32_t width = 0, height = 0;  // pixels
  uint64_t source_ordinal = 0;
  std::string source_name;  // "n01698640_1001.JPEG"
};

struct RecordView {
  RecordHeader header;
  std::string_view bytes;  // borrowed from the value
};

// 8-byte big-endian key: the slot in the shard, so that key order is number order.
std::string RecordKey(uint64_t slot);
std::string EncodeRecord(const RecordHeader& header, std::string_view bytes);
// Refuses values of another version or length, saying which field.
Result<RecordView> DecodeRecord(std::string_view value);
// For reports on damage: fills the names of those records whose header stands whole somewhere in the raw bytes of a damaged file.
// Keys are source ordinals; one pass over the bytes.
void SalvageNames(std::string_view bytes, std::map<uint64_t, std::string>& names);

}  // namespace plateau
