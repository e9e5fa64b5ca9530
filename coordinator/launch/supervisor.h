// The supervisor of one attempt: a process that outlives the coordinator, starts mpirun in a session of its own, ends that session
// to its last process, and leaves the result on the disk.
#pragma once

#include <string>

namespace plateau {

// Runs the attempt described by <folder>/launch.json to its end. SIGTERM: ends it (mpirun gets SIGTERM, the session SIGKILL after
// the grace). SIGUSR2: it hangs; its traces are saved (logs/hang.txt, and SIGUSR2 to mpirun for the ranks' own), then likewise.
// Returns the process's exit code: 0 when exit.json tells how the attempt ended.
int RunSupervisor(const std::string& folder);

}  // namespace plateau
