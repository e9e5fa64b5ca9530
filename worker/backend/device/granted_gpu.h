// The GPU that a launch granted this rank, as the only one that CUDA shows it.
#pragma once

#include <optional>
#include <string>

#include "common/error.h"

namespace plateau {

// Sets CUDA_VISIBLE_DEVICES by PLATEAU_GPUS (common/gpus.h) and this rank's number, as mpirun or srun tell it, and returns it: the id of
// one device, or empty under a launch for the CPU. Nothing, and nothing is set, without PLATEAU_GPUS. Call it before the first thread and
// the first call of CUDA. kInvalidInput: the variable names no device for this rank.
Result<std::optional<std::string>> TakeGrantedGpu();

// Whether the launch gave this rank one.
bool GotAGpu();
// Why the one that it gave does not answer; empty where it does, or where none was given. Asks the driver.
std::string WhyGrantedGpuIsMissing();

}  // namespace plateau
