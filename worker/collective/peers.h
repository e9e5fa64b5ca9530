// What every rank learns from every other in one exchange: a number of each, and who names the same thing of the same machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/collective/collective.h"

namespace plateau {

// Collective. `mine` of every rank, by rank.
std::vector<int64_t> Gather(Collective& collective, int64_t mine);

// Tells running machines apart, whatever their names: containers of one machine give the same, hosts of the same name do not. The
// kernel's boot id, or the host's name where there is none.
std::string MachineId();

// Collective. A number for each rank, the same for ranks that give the same `name` on the same machine, such as a device's.
std::vector<int64_t> GatherNames(Collective& collective, const std::string& name, const std::string& machine = MachineId());

}  // namespace plateau
