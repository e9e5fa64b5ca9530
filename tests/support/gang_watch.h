// Looks on at a job's processes from outside: whether two attempts ever ran at once, and what they leave behind.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "coordinator/launch/session.h"

namespace plateau::test {

// A thread that looks through /proc every few milliseconds, for as long as this lives. A process belongs to an attempt when its
// environment names the attempt's log folder, <state>/jobs/<job>/attempt-<K>/logs.
class GangWatch {
 public:
  GangWatch(const std::string& state_folder, const std::string& job)
      : prefix_(fmt::format("PLATEAU_LOG_DIR={}/jobs/{}/attempt-", state_folder, job)), thread_([this] { Run(); }) {}
  ~GangWatch() {
    ending_ = true;
    thread_.join();
  }
  GangWatch(const GangWatch&) = delete;
  GangWatch& operator=(const GangWatch&) = delete;

  struct Member {
    int pid = 0;
    std::string name;  // "plateau-worker", "mpirun"
    uint64_t start_ticks = 0;
  };
  // Living processes by attempt.
  std::map<int, std::vector<Member>> Members() const {
    std::map<int, std::vector<Member>> members;
    std::error_code error;
    for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
      const std::string name = it->path().filename().string();
      if (!std::isdigit(static_cast<unsigned char>(name[0]))) continue;
      const std::string comm = Text(it->path().string() + "/comm");
      if (comm != "plateau-worker" && comm != "mpirun") continue;
      const int attempt = AttemptOf(it->path().string());
      const auto info = ReadProcess(std::atoi(name.c_str()));
      if (attempt > 0 && info && info->state != 'Z') members[attempt].push_back({info->pid, comm, info->start_ticks});
    }
    return members;
  }
  // Any process at all, mpirun and its helpers included.
  size_t Living() const {
    size_t count = 0;
    for (const auto& [attempt, members] : Members()) count += members.size();
    return count;
  }

  // "" or which processes of two attempts lived at the same time.
  std::string Overlap() const {
    const std::lock_guard lock(mutex_);
    return overlap_;
  }
  std::set<int> AttemptsSeen() const {
    const std::lock_guard lock(mutex_);
    return attempts_;
  }
  // Files under /dev/shm that any of its processes had mapped.
  std::set<std::string> SharedMemoryFiles() const {
    const std::lock_guard lock(mutex_);
    return shared_memory_;
  }

 private:
  // By hand: a stream throws when the process ends while it is being read.
  static std::string Text(const std::string& path) {
    std::string text;
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    std::array<char, 16'384> buffer;
    for (ssize_t got = 0; fd >= 0 && (got = ::read(fd, buffer.data(), buffer.size())) > 0;)
      text.append(buffer.data(), static_cast<size_t>(got));
    if (fd >= 0) ::close(fd);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }
  int AttemptOf(const std::string& process) const {
    const std::string environment = '\0' + Text(process + "/environ");
    const size_t at = environment.find('\0' + prefix_);
    return at == std::string::npos ? 0 : std::atoi(environment.c_str() + at + 1 + prefix_.size());
  }
  static bool Lives(const Member& member) {
    const auto info = ReadProcess(member.pid);
    return info && info->state != 'Z' && info->start_ticks == member.start_ticks;
  }

  void Run() {
    while (!ending_) {
      Look();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));  // no event tells of another's processes
    }
  }
  void Look() {
    const auto members = Members();
    std::set<std::string> mapped;
    for (const auto& [attempt, list] : members)
      for (const Member& member : list) Mapped(member.pid, mapped);
    const std::lock_guard lock(mutex_);
    shared_memory_.merge(mapped);
    for (const auto& [attempt, list] : members) attempts_.insert(attempt);
    if (members.size() < 2 || !overlap_.empty()) return;
    // The newer attempt has been seen: whoever of the older one still lives now lived at the same time.
    for (const Member& old : members.begin()->second)
      if (Lives(old))
        overlap_ = fmt::format("{} {} of attempt {} lived when {} {} of attempt {} did", old.name, old.pid, members.begin()->first,
                               members.rbegin()->second.front().name, members.rbegin()->second.front().pid, members.rbegin()->first);
  }
  static void Mapped(int pid, std::set<std::string>& files) {
    std::istringstream maps(Text(fmt::format("/proc/{}/maps", pid)));
    for (std::string line; std::getline(maps, line);) {
      const size_t at = line.find("/dev/shm/");
      if (at == std::string::npos) continue;
      std::string path = line.substr(at);
      if (const size_t deleted = path.find(" (deleted)"); deleted != std::string::npos) path.resize(deleted);
      files.insert(path);
    }
  }

  std::string prefix_;
  mutable std::mutex mutex_;
  std::string overlap_;                  // guarded by mutex_
  std::set<int> attempts_;               // guarded by mutex_
  std::set<std::string> shared_memory_;  // guarded by mutex_
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace plateau::test
