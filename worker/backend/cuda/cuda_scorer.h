// Batches of a validation that run behind the host: the CUDA engine's Scorer.
#pragma once

#include <memory>

#include "worker/backend/cuda/cuda_plan.h"
#include "worker/nn/scorer.h"

namespace plateau::cuda {

// As Engine::CreateScorer, of whose plan `evaluation` is one. Borrows it.
Result<std::unique_ptr<Scorer>> CreateCudaScorer(CudaPlan& evaluation, bool pixels);

}  // namespace plateau::cuda
