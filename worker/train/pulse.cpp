// Signals that ask a rank to stop.
#include "worker/train/pulse.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>

#include "common/log.h"

namespace plateau {
namespace {

StopFlag* stop_on_signal = nullptr;
constexpr int kSignalExit = 128;

void OnSignal(int signal) {
  if (stop_on_signal->raised() && signal != SIGUSR1) ::_exit(kSignalExit + signal);
  stop_on_signal->Raise();
}

}  // namespace

void StopOnSignals(StopFlag& flag) {
  stop_on_signal = &flag;
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

void DieWithLauncher() {
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return;
  const pid_t launcher = getppid();
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) LogWarning("this rank will not notice at once when its mpirun dies (prctl failed)");
  if (getppid() != launcher) std::_Exit(1);  // it died before the request; in a container it may well be process 1
}

}  // namespace plateau
