// What the shared object offers to the program that opens it: one C function that returns a table.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/collective/collective.h"
#include "worker/nn/plan.h"

namespace plateau::cuda {

struct PluginDevice {
  std::string name;
  uint64_t memory_bytes = 0;
  int capability = 0;
  std::string identity = {};  // the same for all processes of a machine, and for none of its other devices
};

// What a device reaches at best, in figures that benchmarks are held against.
struct DeviceRates {
  double copy_bytes_per_s = 0;  // device to device, bytes read plus bytes written
  double gemm_flops_per_s = 0;  // of one large product in the asked precision
};

struct PluginTable {
  int abi = 0;  // kPluginAbi of the shared object; another number is refused
  // Devices that answer; `reason` says why there are none; `versions` as CudaAnswer's. Never throw.
  std::vector<PluginDevice> (*devices)(std::string& reason, std::string& versions);
  Result<std::unique_ptr<Engine>> (*create_engine)(Network network, const EngineOptions& options);
  // Runs a convolution and, where there are several devices, an all-reduce over all; lines for people, or what failed.
  Result<std::vector<std::string>> (*self_test)(int device);  // self_test.h
  // Collective: sums over the ranks' devices as training does; a line for people, or what failed.
  Result<std::string> (*rank_self_test)(Collective& collective, int device);  // self_test.h
  Result<DeviceRates> (*measure_rates)(int device, Precision precision);  // device_rates.h
  Result<uint64_t> (*free_bytes)(int device);  // opens the device for this process
};

inline constexpr int kPluginAbi = 2;  // grows with this table, EngineOptions and what they name
inline constexpr const char* kPluginSymbol = "PlateauCudaPlugin";  // extern "C" const PluginTable* PlateauCudaPlugin();

}  // namespace plateau::cuda
