// Cuts a rank's rows by an estimate of what they take.
#include "worker/train/host_lanes.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <fstream>

#include "worker/model/accounting.h"

namespace plateau {
namespace {

// Of a control group, version 2 or 1; neither need be there, and no limit is "max" or a number beyond all memory.
uint64_t LimitIn(const char* path) {
  std::ifstream file(path);
  uint64_t bytes = 0;
  return file >> bytes && bytes > 0 ? bytes : UINT64_MAX;
}

}  // namespace

uint64_t MachineMemoryBytes() {
  const uint64_t built_in = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::min({built_in, LimitIn("/sys/fs/cgroup/memory.max"), LimitIn("/sys/fs/cgroup/memory/memory.limit_in_bytes")});
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
