// Asks the CUDA driver for devices.
#include "worker/backend/cuda/probe.h"

#include <cuda_runtime_api.h>

namespace plateau {

CudaProbe ProbeCuda() {
  CudaProbe probe;
  probe.compiled_in = true;
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    probe.reason = std::string("the CUDA driver says: ") + cudaGetErrorString(error);
    return probe;
  }
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) continue;
    probe.devices.push_back(std::string(properties.name) + ", " + std::to_string(properties.totalGlobalMem >> 30) + " GiB, sm_" +
                            std::to_string(properties.major) + std::to_string(properties.minor));
  }
  if (probe.devices.empty()) probe.reason = "the CUDA driver reports no device";
  return probe;
}

}  // namespace plateau
