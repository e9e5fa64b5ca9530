// A FileSystem that passes everything on until its n-th writing operation, which fails as a full disk does.
#pragma once

#include <memory>
#include <string>

#include "common/file.h"

namespace plateau::test {

// Counts Create, Append, Sync, Close, Rename, MakeDirectories and SyncDirectory. `fail_at` counts from 0; -1 never fails.
class FaultyFiles final : public FileSystem {
 public:
  int fail_at = -1;
  int operations = 0;

  Result<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    PLATEAU_TRY(Step(path));
    PLATEAU_ASSIGN(auto file, real_.Create(path));
    return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, path, std::move(file)));
  }
  Result<std::string> Read(const std::string& path) override { return real_.Read(path); }
  Status Rename(const std::string& from, const std::string& to) override {
    PLATEAU_TRY(Step(to));
    return real_.Rename(from, to);
  }
  Status Remove(const std::string& path) override { return real_.Remove(path); }
  Status RemoveAll(const std::string& path) override { return real_.RemoveAll(path); }
  Status MakeDirectories(const std::string& path) override {
    PLATEAU_TRY(Step(path));
    return real_.MakeDirectories(path);
  }
  Status SyncDirectory(const std::string& path) override {
    PLATEAU_TRY(Step(path));
    return real_.SyncDirectory(path);
  }
  Result<std::vector<std::string>> List(const std::string& path) override { return real_.List(path); }
  bool Exists(const std::string& path) override { return real_.Exists(path); }
  Result<uint64_t> Size(const std::string& path) override { return real_.Size(path); }

 private:
  class File final : public WritableFile {
   public:
    File(FaultyFiles& owner, std::string path, std::unique_ptr<WritableFile> real)
        : owner_(owner), path_(std::move(path)), real_(std::move(real)) {}
    Status Append(std::string_view bytes) override {
      PLATEAU_TRY(owner_.Step(path_));
      return real_->Append(bytes);
    }
    Status Sync() override {
      PLATEAU_TRY(owner_.Step(path_));
      return real_->Sync();
    }
    Status Close() override {
      PLATEAU_TRY(owner_.Step(path_));
      return real_->Close();
    }

   private:
    FaultyFiles& owner_;
    std::string path_;
    std::unique_ptr<WritableFile> real_;
  };

  Status Step(const std::string& path) {
    if (operations++ == fail_at) return Fail(ErrorCode::kIo, "{}: No space left on device", path);
    return {};
  }

  PosixFileSystem real_;
};

}  // namespace plateau::test
