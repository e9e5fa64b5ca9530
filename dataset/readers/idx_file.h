// IDX files of unsigned bytes (the format of MNIST), plain or gzip.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/error.h"

namespace plateau {

// IDX: two bytes 0, a type (8: unsigned byte), the number of dimensions, each dimension as 4 bytes big-endian, then the values.
struct IdxFile {
  std::vector<uint64_t> sizes;  // of each dimension, at least 1 each
  uint64_t data = 0;            // offset of the first value in `bytes`
  std::string bytes;            // the whole unpacked file
};

// Reads a file of `dimensions` dimensions (3: images, 1: labels); gzip is recognised by its first bytes and its checksum verified.
// kInvalidInput names path, field and value: another magic number, sizes of 0 or beyond a billion bytes, a cut-off or too long
// file.
Result<IdxFile> ReadIdx(const std::string& path, int dimensions);

}  // namespace plateau
