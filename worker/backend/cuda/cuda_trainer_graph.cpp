// Capturing and launching.
#include "worker/backend/cuda/cuda_trainer_graph.h"

#include <utility>

namespace plateau::cuda {

StepGraph::~StepGraph() { Clear(); }

void StepGraph::Clear() {
  if (exec_ != nullptr) cudaGraphExecDestroy(std::exchange(exec_, nullptr));
}

// Only this thread is held to what may be captured: another one may wait for the step before, and NCCL's own threads do as they like.
void StepGraph::Capture(const Stream& stream, const std::function<void()>& enqueue) {
  Clear();
  Check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  try {
    enqueue();
  } catch (...) {
    if (cudaStreamEndCapture(stream.get(), &graph) == cudaSuccess) cudaGraphDestroy(graph);
    cudaGetLastError();  // of the capture that was given up
    throw;
  }
  Check(cudaStreamEndCapture(stream.get(), &graph), "cudaStreamEndCapture");
  const cudaError_t made = cudaGraphInstantiate(&exec_, graph, 0);
  cudaGraphDestroy(graph);
  Check(made, "cudaGraphInstantiate");
}

void StepGraph::Launch(const Stream& stream) { Check(cudaGraphLaunch(exec_, stream.get()), "cudaGraphLaunch"); }

}  // namespace plateau::cuda
