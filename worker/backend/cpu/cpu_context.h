// What the plans of one CPU engine share: device handles, options, network, parameters and the arena.
#pragma once

#include <memory>

#include <dnnl.hpp>

#include "worker/backend/cpu/cpu_parameters.h"
#include "worker/backend/cpu/huge_buffer.h"
#include "worker/nn/plan.h"

namespace plateau {

// One arena for all plans of an engine: it grows when a plan needs more, and then every plan binds anew at its next Forward.
struct Arena {
  HugeBuffer buffer;
  int generation = 0;
  const void* owner = nullptr;  // the plan whose values lie in it

  // Throws std::bad_alloc and is empty then; a later call may ask for less.
  void Reserve(size_t bytes, int threads) {
    if (bytes <= buffer.bytes()) return;
    ++generation;
    owner = nullptr;
    buffer = HugeBuffer();  // the old one goes first: two at once might not fit
    buffer = HugeBuffer(bytes);
    buffer.Touch(threads);
  }
};

// Owned by the engine, which outlives its plans.
struct CpuContext {
  dnnl::engine engine;
  dnnl::stream stream;
  EngineOptions options;
  bool has_avx512 = false;
  Network network;
  std::unique_ptr<CpuParameterStore> parameters;
  std::vector<int> first_parameter;  // number of each layer's first parameter, the others follow; -1: it has none
  std::vector<bool> learns;          // whether a layer's output depends on a parameter, so that its gradient is wanted
  Arena arena;
};

}  // namespace plateau
