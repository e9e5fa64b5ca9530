// The digest of a file as manifests hold it.
#pragma once

#include <cstdint>
#include <string>

#include "common/error.h"

namespace plateau {

struct FileDigest {
  uint64_t bytes = 0;
  std::string digest;  // XXH3-64 of the content, 16 hexadecimal digits
};

// Reads the file in pieces; blocks on the disk.
Result<FileDigest> DigestFile(const std::string& path);

}  // namespace plateau
