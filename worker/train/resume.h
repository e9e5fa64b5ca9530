// Where a run begins: fresh weights, or a checkpoint that rank 0 finds and shares.
#pragma once

#include <optional>
#include <string>

#include "common/file.h"
#include "worker/collective/collective.h"
#include "worker/nn/parameter.h"
#include "worker/train/state.h"
#include "worker/train/warm_start.h"

namespace plateau {

struct ResumeOptions {
  std::string run_folder;
  std::string resume = "auto";  // "auto", "none", or the folder of a checkpoint
  InitScheme init;
  uint64_t seed = 1;
  LrPolicy lr;
  std::optional<JobSpec::InitFrom> init_from;  // of fresh weights: which a trained model replaces
  const Network* network = nullptr;            // of `parameters`
};

struct Beginning {
  TrainState state;
  bool unpublished = false;  // it stands on a checkpoint that current.json does not name
  std::optional<WarmStart> warm_start;  // rank 0, when the run begins from a trained model
};

// Collective. Sets weights and momentum of every rank and returns the state to go on from; fills identity.lineage. Errors are the
// same on every rank: no such checkpoint, one of another network, batch, data set or preprocessing, a warm start that does not fit.
Result<Beginning> BeginOrResume(FileSystem& files, Collective& collective, ParameterStore& parameters, const ResumeOptions& options,
                                RunIdentity& identity);

}  // namespace plateau
