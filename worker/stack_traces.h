// Stack traces of all threads on request, so that a hang can be understood after its process was killed.
#pragma once

#include <thread>

namespace plateau {

// SIGUSR2 (which mpirun hands on to every rank) writes the stack of each thread to `output`, the main thread's first, with its
// state and system call as the kernel shows them; threads that block all signals, or sleep where no signal reaches them, get only
// the latter. A thread of its own does it, so it also works when every other thread is stuck. Build it before any other thread is
// started: it blocks SIGUSR2 in the caller, and threads inherit that. One a process.
class StackTraces {
 public:
  explicit StackTraces(int output);
  ~StackTraces();
  StackTraces(const StackTraces&) = delete;
  StackTraces& operator=(const StackTraces&) = delete;

 private:
  std::thread thread_;
};

}  // namespace plateau
