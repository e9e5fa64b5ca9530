// What the processes of a hung attempt are doing, as /proc shows it: the part of a hang's traces that a stopped process cannot write.
#pragma once

#include <string>
#include <vector>

#include "common/file.h"

namespace plateau {

// For each of `pids` on this machine its name, state and memory, and for each of its threads state, wait channel, system call and,
// where the kernel lets us read it, the kernel's stack. A process that ends meanwhile is said to be gone. Reads nothing that waits
// for a process's memory map, so that it does not hang itself.
std::string DescribeProcesses(FileSystem& files, const std::vector<int>& pids);

}  // namespace plateau
