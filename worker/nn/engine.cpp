// What engines have in common.
#include "worker/nn/trainer.h"

namespace plateau {

Result<std::unique_ptr<Trainer>> Engine::CreateTrainer(Plan&, const TrainerOptions&, Collective&) { return std::unique_ptr<Trainer>(); }

}  // namespace plateau
