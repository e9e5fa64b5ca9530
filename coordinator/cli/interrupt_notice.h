// Ctrl-C while something is followed: says what goes on without us, and leaves.
#pragma once

#include <csignal>
#include <string>
#include <thread>

namespace plateau {

// While it lives, SIGINT and SIGTERM print `message` to stderr and end the process with code 130. Built and destroyed by one
// thread, before any other thread is started by it (the signal mask is inherited).
class InterruptNotice {
 public:
  explicit InterruptNotice(std::string message);
  ~InterruptNotice();
  InterruptNotice(const InterruptNotice&) = delete;
  InterruptNotice& operator=(const InterruptNotice&) = delete;

 private:
  sigset_t signals_{};
  sigset_t before_{};
  std::jthread waiter_;
};

}  // namespace plateau
