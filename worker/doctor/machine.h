// What this build and this machine are, as far as training depends on it.
#pragma once

#include <string>
#include <vector>

#include "worker/backend/device/cuda_library.h"
#include "worker/backend/device/device.h"
#include "worker/doctor/finding.h"

namespace plateau {

// Versions and compilers of this program.
std::vector<Finding> DescribeBuild();
// Processor, memory and limits; those that hurt are notes.
std::vector<Finding> DescribeMachine();
// MPI and how ranks are started.
std::vector<Finding> DescribeMpi();
// The shared object, CUDA's libraries and devices. A card whose driver or libraries do not answer is kBad, and so is a shared object that
// is none. `libraries`: FindCudaLibraries where nothing was opened.
std::vector<Finding> DescribeCuda(const CudaAnswer& answer, const std::vector<FoundLibrary>& libraries);

}  // namespace plateau
