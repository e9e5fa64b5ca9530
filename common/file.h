// Files that matter, behind an interface that a test can make fail: written beside, fsynced, renamed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace plateau {

// A file being written. One thread at a time. Destruction closes without syncing: call Sync and Close, and read their answers.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual Status Append(std::string_view bytes) = 0;
  virtual Status Sync() = 0;   // fsync: blocks until the bytes are on the disk
  virtual Status Close() = 0;
};

// The few file operations the product's formats rest on. Thread-safe. Every error names the path and the cause.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // Creates or truncates.
  virtual Result<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  virtual Result<std::string> Read(const std::string& path) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  virtual Status Remove(const std::string& path) = 0;              // a file; kNotFound when it is not there
  virtual Status RemoveAll(const std::string& path) = 0;           // a tree; fine when it is not there
  virtual Status MakeDirectories(const std::string& path) = 0;     // with parents; fine when it is there
  virtual Status SyncDirectory(const std::string& path) = 0;       // makes renames inside it durable
  virtual Result<std::vector<std::string>> List(const std::string& path) = 0;  // names, sorted, without . and ..
  virtual bool Exists(const std::string& path) = 0;
  virtual Result<uint64_t> Size(const std::string& path) = 0;      // bytes
};

// The machine's files. main builds one and passes it down.
class PosixFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  Result<std::string> Read(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  Status RemoveAll(const std::string& path) override;
  Status MakeDirectories(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Result<std::vector<std::string>> List(const std::string& path) override;
  bool Exists(const std::string& path) override;
  Result<uint64_t> Size(const std::string& path) override;
};

// Writes `bytes` to `path` so that a reader sees the old content or the new one, never a mixture, whenever the machine stops:
// path.tmp-<pid> is written, fsynced, renamed, the folder fsynced. On an error the old file stands and the temporary is removed.
Status WriteFileAtomic(FileSystem& files, const std::string& path, std::string_view bytes);

}  // namespace plateau
