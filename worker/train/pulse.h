// What a rank tells the outside about itself, and what it is told: step, phase and progress for heartbeats, and the wish that it
// stop.
#pragma once

#include <atomic>
#include <cstdint>

namespace plateau {

// Written by the training thread, `progress` by any; read by the heartbeat thread. `phase` holds string literals only.
struct Pulse {
  std::atomic<int64_t> step{0};
  std::atomic<const char*> phase{"start"};
  // Counts pieces of work that are done (a layer, a bucket, an image, a part of a file), each far shorter than any hang timeout.
  std::atomic<int64_t> progress{0};
  // Number of the collective call in which this rank waits for the others, counted alike on every rank; 0: in none.
  std::atomic<int64_t> collective{0};
};

// The training thread is inside a collective call.
class InCollective {
 public:
  InCollective(Pulse& pulse, int64_t number) : pulse_(pulse) { pulse_.collective = number; }
  ~InCollective() {
    pulse_.collective = 0;
    ++pulse_.progress;
  }
  InCollective(const InCollective&) = delete;
  InCollective& operator=(const InCollective&) = delete;

 private:
  Pulse& pulse_;
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
