// The CUDA engine: parameters on a device, and a bounded list of compiled plans that share them and one arena.
#pragma once

#include <memory>

#include "worker/nn/plan.h"

namespace plateau::cuda {

// On options.device. Errors: those of CreateCpuEngine; kUnavailable where the device does not answer or has no room for the weights.
// Compile answers kUnavailable, naming the largest batch that fits, when a plan has no room; what to do about it the caller knows.
Result<std::unique_ptr<Engine>> CreateCudaEngine(Network network, const EngineOptions& options);

}  // namespace plateau::cuda
