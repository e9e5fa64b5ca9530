// Makes a run's parts from its specification: store, network, plans, and what the checkpoint says about them.
#pragma once

#include <memory>
#include <vector>

#include "common/file.h"
#include "common/job_spec.h"
#include "dataset/shard_reader.h"
#include "worker/nn/plan.h"
#include "worker/train/loop.h"
#include "worker/train/state.h"
#include "worker/train/step.h"

namespace plateau {

struct PreparedRun {
  std::unique_ptr<StoreReader> store;
  std::unique_ptr<Engine> engine;
  Plan* training = nullptr;
  Plan* validation = nullptr;
  std::vector<LayerShape> shapes;
  LoopOptions loop;  // spec, identity without job, attempt and lineage, lanes, steps
};

// Everything one rank of `world_size` needs before its first step, weights excepted. Errors are the user's to mend: missing store,
// no validation split, unknown network, more ranks than rows of a batch, a device that is not there. `pulse` outlives the run.
Result<PreparedRun> PrepareRun(FileSystem& files, const JobSpec& spec, int rank, int world_size, Pulse& pulse);

// What runs the training plan's steps: the engine's own trainer, or the host. Collective. Borrows all three.
Result<std::unique_ptr<Trainer>> MakeTrainer(PreparedRun& run, Collective& collective, Pulse& pulse);

}  // namespace plateau
