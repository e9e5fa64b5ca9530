// Makes a run's parts from its specification: store, network, plans, and what the checkpoint says about them.
#pragma once

#include <memory>
#include <vector>

#include "common/file.h"
#include "common/job_spec.h"
#include "dataset/shard_reader.h"
#include "worker/backend/device/device.h"
#include "worker/nn/plan.h"
#include "worker/nn/recorded_choices.h"
#include "worker/train/loop.h"
#include "worker/train/state.h"
#include "worker/train/step.h"

namespace plateau {

struct PreparedRun {
  DeviceChoice device;
  Precision precision = Precision::kFp32;
  std::unique_ptr<RecordedChoices> choices;  // of an engine on a device
  std::unique_ptr<StoreReader> store;
  std::unique_ptr<Engine> engine;
  Plan* training = nullptr;
  Plan* validation = nullptr;
  std::vector<LayerShape> shapes;
  LoopOptions loop;  // spec, identity without job, attempt and lineage, lanes, steps
};

// Everything one rank needs before its first step, weights excepted. Collective; errors are the same on every rank. They are the
// user's to mend: missing store, no validation split, unknown network, more ranks than rows of a batch, a device that is not there
// or has too little memory. `recorded`: ReadRecorded's identity on rank 0, anything on the others. `pulse` and `watch`, which may
// be null, outlive the run.
Result<PreparedRun> PrepareRun(FileSystem& files, const JobSpec& spec, Collective& collective, Pulse& pulse,
                               const std::optional<RunIdentity>& recorded, StartWatch* watch);

// What runs the training plan's steps: the engine's own trainer, whose way of summing over ranks goes into the fingerprint, or the host.
// Collective; an error may be this rank's alone. Borrows all three.
Result<std::unique_ptr<Trainer>> MakeTrainer(PreparedRun& run, Collective& collective, Pulse& pulse);

}  // namespace plateau
