// A FileSystem that passes everything on until its n-th state-changing call, which fails, tears, or is the process's last.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/file.h"

namespace plateau::test {

enum class Fault {
  kFail,      // the call does nothing and answers as a full disk does; later calls work
  kTear,      // half of the bytes are written, half of a tree is removed, an atomic call is done; then the error; later calls work
  kDie,       // half of the bytes or of the tree, an atomic call is not done; every later call is an error: the process is gone
  kPowerCut,  // as kDie, and each file keeps only what was fsynced
};
inline constexpr Fault kEveryFault[] = {Fault::kFail, Fault::kTear, Fault::kDie, Fault::kPowerCut};

inline const char* FaultName(Fault fault) {
  constexpr const char* kNames[] = {"fail", "tear", "die", "power cut"};
  return kNames[static_cast<int>(fault)];
}

// Counts Create, Append, Sync, Close, Rename, Remove, RemoveAll, MakeDirectories and SyncDirectory. `fail_at` counts from 0; -1
// never fails. Set and read the public fields while nobody is calling. Sync and SyncDirectory only keep account of what would be
// on the disk: a matrix of faults need not wait for it.
class FaultyFiles final : public FileSystem {
 public:
  int fail_at = -1;
  Fault fault = Fault::kFail;
  int operations = 0;
  std::vector<std::string> calls;  // "append /tmp/x/model.safetensors", in order

  // A new process on the same disk, whose call number `at` goes wrong as `how`.
  void Arm(int at, Fault how) {
    fail_at = at;
    fault = how;
    operations = 0;
    calls.clear();
    synced_bytes_.clear();
    dead_ = false;
  }
  bool reached() const { return fail_at >= 0 && operations > fail_at; }
  // "23 calls: 9 append, 4 create, ..."
  std::string Summary() const {
    std::map<std::string, int> kinds;
    for (const std::string& call : calls) ++kinds[call.substr(0, call.find(' '))];
    std::string text = fmt::format("{} calls:", operations);
    for (const auto& [kind, count] : kinds) text += fmt::format("{} {} {}", text.ends_with(':') ? "" : ",", count, kind);
    return text;
  }

  Result<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    std::unique_ptr<WritableFile> file;
    PLATEAU_TRY(Call("create", path, [&]() -> Status {
      PLATEAU_ASSIGN(file, real_.Create(path));
      Synced(path, 0);
      return {};
    }));
    return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, path, std::move(file)));
  }
  Status Rename(const std::string& from, const std::string& to) override {
    return Call("rename", to, [&]() -> Status {
      PLATEAU_TRY(real_.Rename(from, to));
      Moved(from, to);
      return {};
    });
  }
  Status Remove(const std::string& path) override {
    return Call("remove", path, [&] { return real_.Remove(path); });
  }
  Status RemoveAll(const std::string& path) override {
    return Call(
        "remove_all", path, [&] { return real_.RemoveAll(path); }, [&] { RemoveHalf(path); });
  }
  Status MakeDirectories(const std::string& path) override {
    return Call("make_directories", path, [&] { return real_.MakeDirectories(path); });
  }
  Status SyncDirectory(const std::string& path) override {
    return Call("sync_directory", path, [&]() -> Status {
      if (!real_.Exists(path)) return Fail(ErrorCode::kNotFound, "{}: cannot open folder: it is not there", path);
      return {};
    });
  }
  Result<std::string> Read(const std::string& path) override {
    if (dead()) return Broken(path);
    return real_.Read(path);
  }
  Result<std::vector<std::string>> List(const std::string& path) override {
    if (dead()) return Broken(path);
    return real_.List(path);
  }
  bool Exists(const std::string& path) override { return !dead() && real_.Exists(path); }
  Result<uint64_t> Size(const std::string& path) override {
    if (dead()) return Broken(path);
    return real_.Size(path);
  }

 private:
  class File final : public WritableFile {
   public:
    File(FaultyFiles& owner, std::string path, std::unique_ptr<WritableFile> real)
        : owner_(owner), path_(std::move(path)), real_(std::move(real)) {}
    Status Append(std::string_view bytes) override {
      return owner_.Call(
          "append", path_, [&] { return real_->Append(bytes); }, [&] { (void)real_->Append(bytes.substr(0, bytes.size() / 2)); });
    }
    Status Sync() override {
      return owner_.Call("sync", path_, [&]() -> Status {
        PLATEAU_ASSIGN(const uint64_t bytes, owner_.real_.Size(path_));
        owner_.Synced(path_, bytes);
        return {};
      });
    }
    Status Close() override {
      return owner_.Call("close", path_, [&] { return real_->Close(); });
    }

   private:
    FaultyFiles& owner_;
    std::string path_;
    std::unique_ptr<WritableFile> real_;
  };

  static tl::unexpected<Error> Broken(const std::string& path) { return Fail(ErrorCode::kIo, "{}: No space left on device", path); }
  bool dead() const {
    const std::lock_guard lock(mutex_);
    return dead_;
  }

  template <typename Whole>
  Status Call(const char* what, const std::string& path, Whole whole) {
    return Call(what, path, whole, nullptr);
  }
  // `half` is nullptr for a call that is atomic.
  template <typename Whole, typename Half>
  Status Call(const char* what, const std::string& path, Whole whole, Half half) {
    bool sound = true;
    {
      const std::lock_guard lock(mutex_);
      if (dead_) return Broken(path);
      calls.push_back(std::string(what) + " " + path);
      sound = operations++ != fail_at;
      dead_ = !sound && (fault == Fault::kDie || fault == Fault::kPowerCut);
    }
    if (sound) return whole();
    if constexpr (!std::is_null_pointer_v<Half>) {
      if (fault != Fault::kFail) half();
    } else {
      if (fault == Fault::kTear) (void)whole();
    }
    if (fault == Fault::kPowerCut) LoseUnsynced();
    return Broken(path);
  }

  // Half of the entries go, the last names first: a manifest outlives what it vouches for.
  void RemoveHalf(const std::string& path) {
    const auto names = real_.List(path);
    if (!names) return;
    for (size_t i = names->size(); i > names->size() / 2; --i) (void)real_.RemoveAll(path + "/" + (*names)[i - 1]);
  }
  void Synced(const std::string& path, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    synced_bytes_[path] = bytes;
  }
  void Moved(const std::string& from, const std::string& to) {
    const std::lock_guard lock(mutex_);
    std::map<std::string, uint64_t> moved;
    for (const auto& [path, bytes] : synced_bytes_) {
      const bool inside = path == from || path.starts_with(from + "/");
      moved[inside ? to + path.substr(from.size()) : path] = bytes;
    }
    synced_bytes_ = std::move(moved);
  }
  void LoseUnsynced() {
    const std::lock_guard lock(mutex_);
    for (const auto& [path, bytes] : synced_bytes_)
      if (const auto size = real_.Size(path); size && *size > bytes) std::filesystem::resize_file(path, bytes);
  }

  PosixFileSystem real_;
  mutable std::mutex mutex_;                      // guards what follows, `operations` and `calls`
  std::map<std::string, uint64_t> synced_bytes_;  // of the files created here
  bool dead_ = false;
};

}  // namespace plateau::test
