// A thread that waits for the signals, so that no handler runs inside other code.
#include "coordinator/cli/interrupt_notice.h"

#include <cstdio>
#include <cstdlib>
#include <pthread.h>

namespace plateau {
namespace {
constexpr int kInterruptedExit = 130;
}

InterruptNotice::InterruptNotice(std::string message) {
  sigemptyset(&signals_);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&signals_, signal);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  waiter_ = std::jthread([this, message = std::move(message)] {
    int signal = 0;
    if (sigwait(&signals_, &signal) != 0 || signal == SIGUSR1) return;
    std::fflush(stdout);
    std::fprintf(stderr, "\n%s\n", message.c_str());
    std::fflush(stderr);
    std::_Exit(kInterruptedExit);
  });
}

InterruptNotice::~InterruptNotice() {
  pthread_kill(waiter_.native_handle(), SIGUSR1);
  waiter_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace plateau
