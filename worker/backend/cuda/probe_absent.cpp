// The answer of a build without CUDA.
#include "worker/backend/cuda/probe.h"

namespace plateau {

CudaProbe ProbeCuda() { return {false, {}, "this build has no CUDA (nvcc was not found when it was configured)"}; }

}  // namespace plateau
