// How an attempt's processes are started, watched and killed, whoever does it (mpirun here; a test's script).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"

namespace plateau {

struct LaunchRequest {
  std::string job;
  int attempt = 0;
  std::string folder;                                            // the attempt's: launch.json, supervisor.json, exit.json, logs/
  std::vector<std::string> arguments;                            // [0] is looked up on PATH
  std::vector<std::pair<std::string, std::string>> environment;  // added to the coordinator's own
  std::string hostfile;                                          // content of <folder>/hostfile; empty: none
  std::string rankfile;                                          // content of <folder>/rankfile; empty: none
  std::string scratch;                                           // memory-backed folder, made before and removed after; empty: none
  int64_t grace_ms = 5'000;                                      // from SIGTERM to SIGKILL of the session
};

// The end of an attempt: its session is empty by then.
struct ExitNotice {
  std::string job;
  int attempt = 0;
  bool launched = true;  // false: nothing of it ever ran
  int exit_code = -1;    // mpirun's; -1 unknown
  int signal = 0;        // that killed mpirun itself
  std::string message;   // one sentence for people
};

// Thread-safe. The notice function given to an implementation is called from a thread of its own, once for each attempt that was
// started or adopted, and must not block.
class Launcher {
 public:
  using Notice = std::function<void(const ExitNotice&)>;
  virtual ~Launcher() = default;
  // Starts the attempt and returns its supervisor's pid. Waits for nothing but the disk.
  virtual Result<int64_t> Start(const LaunchRequest& request) = 0;
  // Finds an attempt of an earlier coordinator again: watches it if it lives, otherwise its notice follows.
  virtual void Adopt(const std::string& job, int attempt, const std::string& folder) = 0;
  // Ends the attempt: SIGTERM, and after its grace SIGKILL to its whole session until it is empty. Its notice follows.
  // `save_traces`: before that its logs get what each of its processes and threads is doing (logs/hang.txt, and stack traces in
  // logs/rank-<n>.log), for which the ranks have a second.
  virtual void Kill(const std::string& job, int attempt, bool save_traces) = 0;
};

}  // namespace plateau
