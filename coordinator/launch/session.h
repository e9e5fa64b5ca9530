// The processes of an attempt: everything in mpirun's session, and everything that carries the attempt's mark in its environment,
// so that a child that made a session of its own is found too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace plateau {

// Environment variable that marks the processes of one attempt.
inline constexpr const char* kSessionMarker = "PLATEAU_SESSION";

// What identifies an attempt's processes, also for a coordinator that did not start them. Session numbers are only believed within
// the same boot, and only for processes that are not older than the session.
struct SessionMark {
  int64_t session = 0;       // session id = mpirun's pid
  uint64_t start_ticks = 0;  // mpirun's start time, clock ticks since boot
  std::string boot_id;
  std::string marker;  // value of kSessionMarker
};

struct ProcessInfo {
  int pid = 0;
  int parent = 0;
  int session = 0;
  char state = '?';  // 'Z' is dead and not yet collected
  uint64_t start_ticks = 0;
};

std::optional<ProcessInfo> ReadProcess(int pid);
std::string BootId();

// Living processes of the attempt; zombies and the caller itself are left out.
std::vector<int> SessionMembers(const SessionMark& mark);
// Sends SIGKILL to every member, again and again, until none is left or `limit_ms` has passed. Returns the pids still there.
// `reap`: also collects the caller's dead children (a subreaper's duty).
std::vector<int> EmptySession(const SessionMark& mark, int64_t limit_ms, bool reap);

}  // namespace plateau
