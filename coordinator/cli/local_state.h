// The state folder of a coordinator on this machine: where it says it listens, and whether its process lives.
#pragma once

#include <string>
#include <sys/types.h>

#include "common/error.h"

namespace plateau {

// Content of <state>/endpoints.json, which the coordinator writes once it listens.
struct LocalEndpoints {
  std::string http;  // "http://127.0.0.1:7080"
  std::string link;  // "tcp://127.0.0.1:7081"
  std::string zmq;   // "tcp://127.0.0.1:7082"
  pid_t pid = 0;
};

// $PLATEAU_STATE, else ~/.local/state/plateau.
std::string LocalStateFolder();

// kNotFound when the file is not there; kCorrupt when it is not what the coordinator writes.
Result<LocalEndpoints> ReadEndpoints(const std::string& state_folder);

// Whether `pid` is a living process that runs a program of this file name.
bool IsProcess(pid_t pid, const std::string& program);

// Waits until <state>/endpoints.json names `pid`, watching the folder, and returns it. kUnavailable when the process `pid` (a child
// of the caller) ends first or timeout_ms passes; an ended child is reaped and its exit status named.
Result<LocalEndpoints> AwaitEndpoints(const std::string& state_folder, pid_t pid, int timeout_ms);

// Waits until the process is gone; false when timeout_ms passed first.
bool AwaitExit(pid_t pid, int timeout_ms);

}  // namespace plateau
