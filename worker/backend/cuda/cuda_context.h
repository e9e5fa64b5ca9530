// What the plans of one CUDA engine share: the device's handles, options, network, parameters, the arena and the workspace.
#pragma once

#include <memory>
#include <vector>

#include "worker/backend/cuda/cuda_parameters.h"
#include "worker/backend/cuda/libraries.h"
#include "worker/nn/plan.h"

namespace plateau::cuda {

// Memory for all plans of an engine. It grows when a plan needs more; then every plan finds its buffers anew, and work that was
// captured with the old addresses is void.
struct Arena {
  DeviceBuffer buffer, workspace;
  int generation = 0;           // changes when an address does
  const void* owner = nullptr;  // the plan whose values lie in it

  // Waits for `stream` before memory goes. Throws Failure (kUnavailable); what did not grow is empty then, and a later call may ask
  // for less.
  void Reserve(size_t bytes, size_t workspace_bytes, const Stream& stream);
};

// Owned by the engine, which outlives its plans.
struct CudaContext {
  std::unique_ptr<AlgorithmChoices> own_choices;  // null where the caller brought some
  std::unique_ptr<Libraries> libraries;
  EngineOptions options;
  Network network;
  std::unique_ptr<CudaParameterStore> parameters;
  std::vector<int> first_parameter;  // number of each layer's first parameter, the others follow; -1: it has none
  Arena arena;
  // Memory of scorers that have gone. To free it waits for the device, which may be waiting for a rank that died until the trainer gives
  // up its sums: it goes with the engine, which outlives the trainer, or when another plan or scorer is made.
  std::vector<std::shared_ptr<void>> left;
  void FreeLeft() {
    if (left.empty()) return;
    libraries->stream().Wait();
    left.clear();
  }
};

}  // namespace plateau::cuda
