// XXH3 of files of any size.
#include "dataset/file_digest.h"

#include <vector>

#include "common/checksum.h"
#include "dataset/readers/pread_file.h"

namespace plateau {

Result<FileDigest> DigestFile(const std::string& path) {
  PLATEAU_ASSIGN(const auto file, PreadFile::Open(path));
  std::vector<char> buffer(1 << 20);
  ChecksumStream checksum;
  FileDigest result;
  for (;;) {
    PLATEAU_ASSIGN(const uint64_t got, file->ReadSome(result.bytes, buffer.data(), buffer.size()));
    checksum.Add(buffer.data(), got);
    result.bytes += got;
    if (got < buffer.size()) break;
  }
  result.digest = ChecksumText(checksum.Value());
  return result;
}

}  // namespace plateau
