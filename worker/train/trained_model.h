// The weights of a checkpoint, opened for another use than going on with its run: warm starts, export, prediction.
#pragma once

#include <string>

#include "common/file.h"
#include "common/safetensors.h"
#include "worker/model/network.h"
#include "worker/nn/parameter.h"
#include "worker/train/state.h"

namespace plateau {

struct TrainedModel {
  std::string folder;  // of the checkpoint
  RunIdentity identity;
  int64_t step = 0;
  Network network;          // with the classes and input channels of the weights
  SafetensorsFile weights;  // canonical names and shapes
};

// The folder of the checkpoint that `path` means: a checkpoint's own, or the published one of a run's folder (current.json, whose
// checksum must hold). Errors: kNotFound, kCorrupt, kInvalidInput for a file or any other folder.
Result<std::string> FindCheckpoint(FileSystem& files, const std::string& path);
// Finds, reads and verifies it, and looks at every tensor: kInvalidInput names one that is missing, too many, or of another shape than
// the network's, kNumeric one that holds a NaN or infinity.
Result<TrainedModel> OpenTrainedModel(FileSystem& files, const std::string& path);
// Puts the tensors into a store whose names are among the model's (the whole network's, or its first layers').
Status FillParameters(const TrainedModel& model, ParameterStore& store);

}  // namespace plateau
