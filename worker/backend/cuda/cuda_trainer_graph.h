// Work of several streams that was captured once and is launched as one piece.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {

// Empty until captured. Owns the instantiated graph; the memory that it names belongs to others.
class StepGraph {
 public:
  StepGraph() = default;
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  bool empty() const { return exec_ == nullptr; }
  // Captures what `enqueue` queues on `stream` and on streams that it makes wait for that one; nothing runs. Replaces an earlier
  // capture. Throws Failure; what `enqueue` throws passes through, and the stream is as it was.
  void Capture(const Stream& stream, const std::function<void()>& enqueue);
  void Launch(const Stream& stream);
  // Empty again; a launch that is under way runs to its end (cudaGraphExecDestroy).
  void Clear();

 private:
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace plateau::cuda
