// Positional reads with errors that name path and offset.
#include "dataset/readers/pread_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace plateau {

Result<std::unique_ptr<PreadFile>> PreadFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: cannot open: {}; check the path", path,
                std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return Fail(ErrorCode::kInvalidInput, "{}: is no regular file; give the file itself", path);
  }
  return std::unique_ptr<PreadFile>(new PreadFile(path, fd, static_cast<uint64_t>(info.st_size)));
}

PreadFile::~PreadFile() { ::close(fd_); }

Result<uint64_t> PreadFile::ReadSome(uint64_t offset, char* buffer, uint64_t bytes) const {
  uint64_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(fd_, buffer + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Fail(ErrorCode::kIo, "{}: cannot read at offset {}: {}", path_, offset + done, std::strerror(errno));
    if (got == 0) break;
    done += static_cast<uint64_t>(got);
  }
  return done;
}

Status PreadFile::ReadAt(uint64_t offset, uint64_t bytes, std::string& out) const {
  out.resize(bytes);
  PLATEAU_ASSIGN(const uint64_t got, ReadSome(offset, out.data(), bytes));
  if (got != bytes)
    return Fail(ErrorCode::kCorrupt, "{}: ends after {} of {} bytes at offset {}; it was cut off", path_, got, bytes, offset);
  return {};
}

void PreadFile::WillRead(uint64_t offset, uint64_t bytes) const {
  ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
}

}  // namespace plateau
