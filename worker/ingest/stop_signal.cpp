// An eventfd that is written once and never read.
#include "worker/ingest/stop_signal.h"

#include <csignal>
#include <cstdint>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/check.h"

namespace plateau {
namespace {

StopSignal* stop_on_signal = nullptr;
constexpr int kSignalExit = 128;

void OnSignal(int signal) {
  if (stop_on_signal->raised()) ::_exit(kSignalExit + signal);
  stop_on_signal->Raise();
}

}  // namespace

StopSignal::StopSignal() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  PLATEAU_CHECK(fd_ >= 0, "eventfd failed; raise the limit on open files");
}

StopSignal::~StopSignal() { ::close(fd_); }

void StopSignal::Raise() {
  raised_.store(true);
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(fd_, &one, sizeof one);
}

void RaiseOnSignals(StopSignal& stop) {
  stop_on_signal = &stop;
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGTERM, SIGINT}) sigaction(signal, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

}  // namespace plateau
