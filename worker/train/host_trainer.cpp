// Training steps on the CPU.
#include "worker/train/host_trainer.h"

#include "common/check.h"

namespace plateau {

HostTrainer::HostTrainer(Engine& engine, Plan& training, const TrainerOptions& options, int threads, Collective& collective,
                         Pulse& pulse)
    : reducer_(engine.parameters(), training.backward_layers(), options.shape.lanes, collective),
      sgd_(engine.parameters(), {.momentum = options.momentum,
                                 .weight_decay = options.weight_decay,
                                 .decay_biases = options.decay_biases,
                                 .threads = threads}),
      parts_{.lanes = {.plan = training, .network = engine.network(), .shape = options.shape, .global_batch = options.global_batch},
             .reducer = reducer_,
             .sgd = sgd_,
             .pulse = pulse} {}

void HostTrainer::Enqueue(const StepInput& input) {
  PLATEAU_CHECK(!done_, "step {} begins before the one before it was settled", input.step);
  done_ = TrainStep(parts_, input);
}

StepResult HostTrainer::Settle() {
  PLATEAU_CHECK(done_.has_value(), "{}", "no step is unsettled");
  const StepResult result = *done_;
  done_.reset();
  return result;
}

}  // namespace plateau
