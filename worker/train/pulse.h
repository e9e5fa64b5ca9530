// What a rank tells the outside about itself, and what it is told: step and phase for heartbeats, and the wish that it stop.
#pragma once

#include <atomic>
#include <cstdint>

namespace plateau {

// Written by the training thread, read by the heartbeat thread. `phase` holds string literals only.
struct Pulse {
  std::atomic<int64_t> step{0};
  std::atomic<const char*> phase{"start"};
};

// Raised by a signal or by the coordinator; never lowered. Every rank leaves at the same step boundary, because the wish is summed
// with each step's totals.
class StopFlag {
 public:
  void Raise() { raised_.store(true); }
  bool raised() const { return raised_.load(); }

 private:
  std::atomic<bool> raised_{false};
};

// SIGTERM, SIGINT and SIGUSR1 (which mpirun hands on) raise the flag; a second SIGTERM or SIGINT ends the process at once. The flag
// must outlive the process's work. Also asks the kernel to kill this rank when the mpirun that started it dies.
void StopOnSignals(StopFlag& flag);
void DieWithLauncher();

}  // namespace plateau
