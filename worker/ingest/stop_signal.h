// The wish that an ingest worker leaves, in a form that every wait can wait for too.
#pragma once

#include <atomic>

namespace plateau {

// Raised by SIGTERM or SIGINT; never lowered. Thread-safe.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  void Raise();  // also from a signal handler
  bool raised() const { return raised_.load(); }
  int fd() const { return fd_; }  // readable from then on

 private:
  std::atomic<bool> raised_{false};
  int fd_ = -1;
};

// SIGTERM and SIGINT raise `stop`, which must outlive the process's work; a second one ends the process at once.
void RaiseOnSignals(StopSignal& stop);

}  // namespace plateau
