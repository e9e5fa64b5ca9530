// Training steps that the device runs as one piece: the CUDA engine's Trainer.
#pragma once

#include <memory>

#include "worker/backend/cuda/cuda_plan.h"
#include "worker/collective/collective.h"
#include "worker/nn/trainer.h"

namespace plateau::cuda {

// As Engine::CreateTrainer, of whose plan `training` is one; sums over ranks by plan.engine_options().collective. Borrows all three.
Result<std::unique_ptr<Trainer>> CreateCudaTrainer(CudaPlan& training, const TrainerOptions& options, Collective& collective);

}  // namespace plateau::cuda
