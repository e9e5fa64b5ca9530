// A file read at positions by many threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/error.h"

namespace plateau {

// Owns the descriptor. All methods are thread-safe; ReadAt blocks on the disk.
class PreadFile {
 public:
  // kNotFound or kIo naming the path; a folder is refused.
  static Result<std::unique_ptr<PreadFile>> Open(const std::string& path);
  ~PreadFile();
  PreadFile(const PreadFile&) = delete;
  PreadFile& operator=(const PreadFile&) = delete;

  // Exactly bytes [offset, offset + bytes) into `out`, whose memory is kept. kCorrupt when the file ends sooner.
  Status ReadAt(uint64_t offset, uint64_t bytes, std::string& out) const;
  // Up to `bytes` from `offset` into `buffer`; fewer only at the end of the file.
  Result<uint64_t> ReadSome(uint64_t offset, char* buffer, uint64_t bytes) const;
  // Tells the kernel that this range is wanted soon. Returns at once.
  void WillRead(uint64_t offset, uint64_t bytes) const;
  uint64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  PreadFile(std::string path, int fd, uint64_t bytes) : path_(std::move(path)), fd_(fd), bytes_(bytes) {}
  std::string path_;
  int fd_;
  uint64_t bytes_;
};

}  // namespace plateau
