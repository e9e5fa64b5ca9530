// Finding and killing the processes of an attempt through /proc.
#include "coordinator/launch/session.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file.h"

namespace plateau {
namespace {

constexpr int kRescanMs = 50;  // a process may be born while the others die: how long until the next look

std::string ReadSmall(const std::string& path) {
  PosixFileSystem files;
  auto text = files.Read(path);
  return text ? std::move(*text) : std::string();
}

bool CarriesMarker(int pid, const std::string& marker) {
  if (marker.empty()) return false;
  const std::string environment = ReadSmall("/proc/" + std::to_string(pid) + "/environ");
  const std::string wanted = std::string(kSessionMarker) + "=" + marker;
  for (size_t at = environment.find(wanted); at != std::string::npos; at = environment.find(wanted, at + 1)) {
    const size_t end = at + wanted.size();
    if ((at == 0 || environment[at - 1] == '\0') && (end == environment.size() || environment[end] == '\0')) return true;
  }
  return false;
}

// Returns when one of the processes has ended, or after kRescanMs.
void WaitForAnyEnd(const std::vector<int>& pids) {
  std::vector<pollfd> waits;
  for (const int pid : pids) {
    const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    if (fd >= 0) waits.push_back({fd, POLLIN, 0});
  }
  ::poll(waits.data(), waits.size(), kRescanMs);
  for (const auto& wait : waits) ::close(wait.fd);
}

}  // namespace

std::optional<ProcessInfo> ReadProcess(int pid) {
  const std::string text = ReadSmall("/proc/" + std::to_string(pid) + "/stat");
  const auto after_name = text.rfind(')');  // the name may hold anything, parentheses too
  if (after_name == std::string::npos) return std::nullopt;
  ProcessInfo info;
  info.pid = pid;
  unsigned long long start = 0;
  // Fields 3.. of proc(5): state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime priority
  // nice threads itrealvalue starttime.
  if (std::sscanf(text.c_str() + after_name + 1, " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                  &info.state, &info.parent, &info.session, &start) != 4)
    return std::nullopt;
  info.start_ticks = start;
  return info;
}

std::string BootId() {
  std::string id = ReadSmall("/proc/sys/kernel/random/boot_id");
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

std::vector<int> SessionMembers(const SessionMark& mark) {
  std::vector<int> members;
  const bool same_boot = mark.boot_id == BootId();
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c); })) continue;
    const int pid = std::atoi(name.c_str());
    if (pid == ::getpid()) continue;
    const auto info = ReadProcess(pid);
    if (!info || info->state == 'Z' || info->state == 'X') continue;
    const bool in_session = same_boot && mark.session > 0 && info->session == mark.session && info->start_ticks >= mark.start_ticks;
    if (in_session || CarriesMarker(pid, mark.marker)) members.push_back(pid);
  }
  return members;
}

std::vector<int> EmptySession(const SessionMark& mark, int64_t limit_ms, bool reap) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
  for (;;) {
    if (reap)
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {
      }
    const auto members = SessionMembers(mark);
    if (members.empty() || std::chrono::steady_clock::now() >= end) return members;
    for (const int pid : members) ::kill(pid, SIGKILL);
    WaitForAnyEnd(members);
  }
}

}  // namespace plateau
