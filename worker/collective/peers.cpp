// Exchanges made of one sum: each rank has a place of its own in it.
#include "worker/collective/peers.h"

#include <unistd.h>

#include <fstream>

#include "common/checksum.h"

namespace plateau {

std::vector<int64_t> Gather(Collective& collective, int64_t mine) {
  std::vector<int64_t> values(static_cast<size_t>(collective.world_size()));
  values[static_cast<size_t>(collective.rank())] = mine;
  collective.AllReduceSum(std::span<int64_t>(values));
  return values;
}

std::string MachineId() {
  std::string id;
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  if (std::getline(file, id) && !id.empty()) return id;
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown host";
}

std::vector<int64_t> GatherNames(Collective& collective, const std::string& name, const std::string& machine) {
  return Gather(collective, static_cast<int64_t>(Checksum(fmt::format("{}/{}", machine, name)) >> 1));
}

}  // namespace plateau
