// Says whether a CUDA device answers, and if not, why: `device: auto` rests on it.
#pragma once

#include <string>
#include <vector>

namespace plateau {

struct CudaProbe {
  bool compiled_in = false;
  std::vector<std::string> devices;  // "NVIDIA H200, 139 GiB, sm_90"
  std::string reason;                // why there is no device, for people; empty when there is one
};

// Asks the driver each time; never throws. Works on machines without a driver.
CudaProbe ProbeCuda();

}  // namespace plateau
