// POSIX files with errors that name the path and the cause.
#include "common/file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <algorithm>
#include <sys/stat.h>
#include <unistd.h>

namespace plateau {
namespace {

std::string Remedy(int error) {
  switch (error) {
    case ENOSPC: return "; free some space and try again";
    case EROFS: return "; the file system is mounted read-only, choose another place or remount it";
    case EACCES:
    case EPERM: return "; check the permissions of the path";
    case EDQUOT: return "; the disk quota is used up";
    default: return "";
  }
}

tl::unexpected<Error> FailErrno(const std::string& path, const char* doing, int error) {
  const ErrorCode code = error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  return Fail(code, "{}: cannot {}: {}{}", path, doing, std::strerror(error), Remedy(error));
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~PosixWritableFile() override {
    if (fd_ >= 0) ::close(fd_);
  }

  Status Append(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0) {
        if (errno == EINTR) continue;
        return FailErrno(path_, "write", errno);
      }
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    return {};
  }

  Status Sync() override {
    if (::fsync(fd_) != 0) return FailErrno(path_, "fsync", errno);
    return {};
  }

  Status Close() override {
    const int fd = fd_;
    fd_ = -1;
    if (fd >= 0 && ::close(fd) != 0) return FailErrno(path_, "close", errno);
    return {};
  }

 private:
  std::string path_;
  int fd_;
};

}  // namespace

Result<std::unique_ptr<WritableFile>> PosixFileSystem::Create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FailErrno(path, "create", errno);
  return std::unique_ptr<WritableFile>(std::make_unique<PosixWritableFile>(path, fd));
}

Result<std::string> PosixFileSystem::Read(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FailErrno(path, "open", errno);
  struct stat info {};
  std::string bytes;
  if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) bytes.reserve(static_cast<size_t>(info.st_size));
  std::vector<char> buffer(1 << 20);
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int error = errno;
      ::close(fd);
      return FailErrno(path, "read", error);
    }
    if (got == 0) break;
    bytes.append(buffer.data(), static_cast<size_t>(got));
  }
  ::close(fd);
  return bytes;
}

Status PosixFileSystem::Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return FailErrno(from, ("rename to " + to).c_str(), errno);
  return {};
}

Status PosixFileSystem::Remove(const std::string& path) {
  if (::unlink(path.c_str()) != 0) return FailErrno(path, "remove", errno);
  return {};
}

Status PosixFileSystem::RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return FailErrno(path, "remove", error.value());
  return {};
}

Status PosixFileSystem::MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FailErrno(path, "create folder", error.value());
  return {};
}

Status PosixFileSystem::SyncDirectory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FailErrno(path, "open folder", errno);
  const int failed = ::fsync(fd) != 0 ? errno : 0;
  ::close(fd);
  if (failed != 0 && failed != EINVAL) return FailErrno(path, "fsync folder", failed);  // some network file systems answer EINVAL
  return {};
}

Result<std::vector<std::string>> PosixFileSystem::List(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error) return FailErrno(path, "list", error.value());
  std::sort(names.begin(), names.end());
  return names;
}

bool PosixFileSystem::Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<uint64_t> PosixFileSystem::Size(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return FailErrno(path, "stat", errno);
  return static_cast<uint64_t>(info.st_size);
}

Status WriteFileAtomic(FileSystem& files, const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp-" + std::to_string(::getpid());
  const auto write = [&]() -> Status {
    PLATEAU_ASSIGN(auto file, files.Create(temporary));
    PLATEAU_TRY(file->Append(bytes));
    PLATEAU_TRY(file->Sync());
    PLATEAU_TRY(file->Close());
    PLATEAU_TRY(files.Rename(temporary, path));
    const auto slash = path.rfind('/');
    return files.SyncDirectory(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash));
  };
  auto status = write();
  if (!status && files.Exists(temporary)) {
    if (auto removed = files.Remove(temporary); !removed) status.error().message += " (and " + removed.error().message + ")";
  }
  return status;
}

}  // namespace plateau
