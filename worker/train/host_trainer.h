// Training steps on the CPU: the host drives a plan layer by layer.
#pragma once

#include <optional>

#include "worker/nn/trainer.h"
#include "worker/train/pulse.h"
#include "worker/train/reducer.h"
#include "worker/train/sgd.h"
#include "worker/train/step.h"

namespace plateau {

class HostTrainer final : public Trainer {
 public:
  // Borrows all but the options; `training` is a training plan of `engine`. `threads`: the team of the update.
  HostTrainer(Engine& engine, Plan& training, const TrainerOptions& options, int threads, Collective& collective, Pulse& pulse);

  int depth() const override { return 0; }
  void Enqueue(const StepInput& input) override;  // runs the step
  StepResult Settle() override;

 private:
  GradientReducer reducer_;
  Sgd sgd_;
  StepParts parts_;
  std::optional<StepResult> done_;
};

}  // namespace plateau
