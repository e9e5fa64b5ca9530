// Streams, events, captures and graphs of the emulation. A stream is a chain of operations that runs lazily; a captured stream records
// nodes instead.
#pragma once

#include <memory>
#include <vector>

#include "tests/support/cuda/system.h"

namespace plateau::emulated {

// What a call leaves on a stream, once or, in a graph, at each launch.
struct Work {
  std::function<void()> run;                            // null: a mark
  std::function<void(const OperationPtr&)> attach = {};  // under the lock, when the operation is queued: may add conditions to it
};

// Queues `work` on `stream` (null: the legacy stream of the current device): what kernels and library calls use.
cudaError_t Queue(cudaStream_t stream, Work work);
cudaError_t Queue(cudaStream_t stream, std::function<void()> run);
// As Queue, refusing a stream of another device than the current one, as a kernel launch does.
cudaError_t QueueKernel(cudaStream_t stream, std::function<void()> run);

// ---- under the lock
// The stream behind a handle; null when it is none that lives.
CUstream_st* Find(cudaStream_t stream);
cudaError_t QueueLocked(CUstream_st* stream, Work work);
OperationPtr Append(CUstream_st* stream, Work work);  // of a stream that is not captured
// Runs `target` and all it needs; gives up the lock while operations run. With `block` false it stops where it would have to wait
// for another thread. Says whether target is done.
bool Force(Lock& lock, const OperationPtr& target, bool block);
// Everything queued on `device`; answers its fault.
cudaError_t Drain(Lock& lock, int device);
bool Done(const OperationPtr& operation);
// Calls that are not allowed while a capture is under way (memory, waits): makes those captures invalid.
cudaError_t RefuseInCapture();
void DropAllWork(System& system);

struct GraphNode {
  Work work;
  std::vector<int> before;
};

struct Capture {
  std::vector<GraphNode> nodes;
  CUstream_st* origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id owner;
  bool valid = true;
  ~Capture() { TheSystem().captures.erase(this); }
};

}  // namespace plateau::emulated

struct CUstream_st {
  int device = 0;
  bool blocking = false;  // in step with the legacy stream
  plateau::emulated::OperationPtr last = nullptr;
  std::shared_ptr<plateau::emulated::Capture> capture = nullptr;
  std::vector<int> tail = {};  // nodes that the next one waits for
};

struct CUevent_st {
  int device = 0;
  bool timing = true;
  bool recorded = false;
  plateau::emulated::OperationPtr operation = nullptr;
  std::shared_ptr<plateau::emulated::Capture> capture = nullptr;  // when last recorded in one
  std::vector<int> tail = {};
};

struct CUgraph_st {
  std::vector<plateau::emulated::GraphNode> nodes;
};

struct CUgraphExec_st {
  std::vector<plateau::emulated::GraphNode> nodes;
  plateau::emulated::OperationPtr last_launch;
  int launches = 0;
};
