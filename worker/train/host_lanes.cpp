// Cuts a rank's rows by an estimate of what they take.
#include "worker/train/host_lanes.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <utility>
#include <vector>

#include "worker/collective/peers.h"
#include "worker/model/accounting.h"

namespace plateau {
namespace {

// Of a control group. Neither file need be there, and no limit is "max" or a number beyond all memory.
uint64_t LimitIn(const std::string& path) {
  std::ifstream file(path);
  uint64_t bytes = 0;
  return file >> bytes && bytes > 0 ? bytes : UINT64_MAX;
}

// Inodes of control groups are the kernel's own numbers, whereas a container sees its group's path as "/".
std::string Inode(const std::string& folder) {
  struct stat status {};
  return stat(folder.c_str(), &status) == 0 ? std::to_string(status.st_ino) : "unknown";
}

uint64_t Sharers(Collective& collective, const std::string& name) {
  const std::vector<int64_t> names = GatherNames(collective, name);
  return static_cast<uint64_t>(std::ranges::count(names, names[static_cast<size_t>(collective.rank())]));
}

}  // namespace

HostMemory ReadHostMemory(const std::string& groups) {
  HostMemory memory{.machine_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE))};
  const std::pair<std::string, std::string> versions[] = {{groups, "/memory.max"}, {groups + "/memory", "/memory.limit_in_bytes"}};
  for (const auto& [folder, file] : versions) {
    const uint64_t limit = LimitIn(folder + file);
    if (limit >= std::min(memory.machine_bytes, memory.group_bytes)) continue;
    memory.group_bytes = limit;
    memory.group = Inode(folder);
  }
  return memory;
}

uint64_t MachineMemoryBytes() {
  const HostMemory memory = ReadHostMemory();
  return std::min(memory.machine_bytes, memory.group_bytes);
}

uint64_t PartOfMemory(Collective& collective, const HostMemory& memory) {
  const uint64_t of_machine = memory.machine_bytes / Sharers(collective, "memory");
  const uint64_t of_group = memory.group_bytes / Sharers(collective, "memory of group " + memory.group);
  return std::min(of_machine, of_group);
}

Result<int> HostLaneRows(const Network& network, int crop, int rows, uint64_t bytes) {
  PLATEAU_ASSIGN(const auto costs, CountCosts(network, crop, crop));
  const uint64_t gradients = static_cast<uint64_t>(SumCosts(network, costs).params_with_aux()) * sizeof(float);
  int least_rows = rows;
  uint64_t least = UINT64_MAX;
  for (int lanes = 1; lanes <= rows; ++lanes) {
    const int lane_rows = (rows + lanes - 1) / lanes;
    const TrainingMemory memory = EstimateTrainingMemory(network, costs, crop, crop, lane_rows, SummaryPrecision::kFp32);
    const uint64_t sums = static_cast<uint64_t>(std::bit_width(static_cast<unsigned>(lanes - 1))) * gradients;
    const uint64_t taken = static_cast<uint64_t>(memory.total()) + sums;
    if (taken <= bytes) return lane_rows;
    if (taken < least) least = taken, least_rows = lane_rows;
  }
  return least_rows;
}

int LargestLane(int recorded, int fits, int most_rows) {
  const bool all_fit = fits == 0 || fits >= most_rows;
  const bool cut = recorded > 0 && recorded < most_rows;
  if (cut && (all_fit || recorded <= fits)) return recorded;
  return all_fit ? 0 : fits;
}

}  // namespace plateau
