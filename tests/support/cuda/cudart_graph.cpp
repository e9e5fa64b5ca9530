// The runtime's captures and graphs. A launch turns the nodes into operations whose order is not that of the recording where
// dependencies leave a choice, and changes from launch to launch.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "tests/support/cuda/stream.h"
#include "tests/support/cuda/system.h"

namespace plateau::emulated {
namespace {

// Nodes that `tail` waits for, itself included.
std::vector<bool> Reached(const std::vector<GraphNode>& nodes, const std::vector<int>& tail) {
  std::vector<bool> reached(nodes.size());
  for (const int node : tail) reached[static_cast<size_t>(node)] = true;
  for (size_t node = nodes.size(); node-- > 0;) {
    if (!reached[node]) continue;
    for (const int before : nodes[node].before) reached[static_cast<size_t>(before)] = true;
  }
  return reached;
}

cudaError_t EndCapture(CUstream_st* stream, cudaGraph_t* graph) {
  System& system = TheSystem();
  *graph = nullptr;
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return cudaErrorIllegalState;
  if (capture->origin != stream) {
    capture->valid = false;
    return cudaErrorStreamCaptureUnmatched;
  }
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->owner != std::this_thread::get_id())
    return cudaErrorStreamCaptureWrongThread;
  const std::vector<bool> reached = Reached(capture->nodes, stream->tail);
  bool joined = true;
  for (CUstream_st* other : system.streams) {
    if (other->capture != capture) continue;
    for (const int node : other->tail) joined = joined && reached[static_cast<size_t>(node)];
    other->capture = nullptr;
    other->tail.clear();
  }
  capture->origin = nullptr;
  system.captures.erase(capture.get());
  if (!capture->valid || !joined) {
    capture->nodes.clear();
    return capture->valid ? cudaErrorStreamCaptureUnjoined : cudaErrorStreamCaptureInvalidated;
  }
  *graph = new CUgraph_st{std::exchange(capture->nodes, {})};  // an event may keep the capture, but not what it held
  return cudaSuccess;
}

OperationPtr NewOperation(int device, std::vector<OperationPtr> before) {
  auto operation = std::make_shared<Operation>();
  operation->device = device;
  operation->before = std::move(before);
  return operation;
}

cudaError_t Launch(CUgraphExec_st* exec, CUstream_st* stream) {
  if (exec == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->capture != nullptr) {
    stream->capture->valid = false;
    return cudaErrorStreamCaptureUnsupported;
  }
  const bool reverse = exec->launches++ % 2 == 0;
  const OperationPtr entry = Append(stream, {});
  if (!Done(exec->last_launch)) entry->before.push_back(exec->last_launch);
  std::vector<OperationPtr> operations;
  std::vector<bool> is_leaf(exec->nodes.size(), true);
  for (const GraphNode& node : exec->nodes) {
    std::vector<OperationPtr> before;
    for (const int other : node.before) {
      before.push_back(operations[static_cast<size_t>(other)]);
      is_leaf[static_cast<size_t>(other)] = false;
    }
    if (before.empty()) before.push_back(entry);
    if (reverse) std::reverse(before.begin(), before.end());
    operations.push_back(NewOperation(stream->device, std::move(before)));
    operations.back()->run = node.work.run;
    if (node.work.attach) node.work.attach(operations.back());
  }
  std::vector<OperationPtr> leaves{entry};
  for (size_t i = 0; i < operations.size(); ++i)
    if (is_leaf[i]) leaves.push_back(operations[i]);
  if (reverse) std::reverse(leaves.begin(), leaves.end());
  stream->last = exec->last_launch = NewOperation(stream->device, std::move(leaves));
  return cudaSuccess;
}

cudaError_t Instantiate(cudaGraphExec_t* exec, cudaGraph_t graph) {
  if (graph == nullptr || exec == nullptr) return cudaErrorInvalidValue;
  *exec = new CUgraphExec_st{graph->nodes, nullptr};
  return cudaSuccess;
}

}  // namespace
}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return Call("cudaStreamBeginCapture", [&](Lock&) {
    CUstream_st* const stream = Find(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream == TheSystem().devices[static_cast<size_t>(CurrentDevice())].legacy) return cudaErrorStreamCaptureUnsupported;
    if (stream->capture != nullptr) return cudaErrorIllegalState;
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = stream;
    stream->capture->mode = mode;
    stream->capture->owner = std::this_thread::get_id();
    stream->tail.clear();
    TheSystem().captures.insert(stream->capture.get());
    return cudaSuccess;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return Call("cudaStreamEndCapture", [&](Lock&) { return EndCapture(Find(stream), graph); });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return Call("cudaStreamIsCapturing", [&](Lock&) {
    const CUstream_st* const stream = Find(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
              : stream->capture->valid   ? cudaStreamCaptureStatusActive
                                         : cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return Call("cudaGraphInstantiate", [&](Lock&) { return Instantiate(exec, graph); });
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return Call("cudaGraphInstantiateWithFlags", [&](Lock&) { return Instantiate(exec, graph); });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream) {
  return Call("cudaGraphUpload", [&](Lock&) { return Find(stream) == nullptr ? cudaErrorInvalidResourceHandle : cudaSuccess; });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return Call("cudaGraphLaunch", [&](Lock&) { return Launch(exec, Find(stream)); });
}

// Graphs of as many nodes with the same edges count as the same.
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo* info) {
  return Call("cudaGraphExecUpdate", [&](Lock&) {
    const bool same = std::equal(exec->nodes.begin(), exec->nodes.end(), graph->nodes.begin(), graph->nodes.end(),
                                 [](const GraphNode& a, const GraphNode& b) { return a.before == b.before; });
    if (info != nullptr) info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    if (!same) return cudaErrorGraphExecUpdateFailure;
    exec->nodes = graph->nodes;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return Call("cudaGraphGetNodes", [&](Lock&) {
    if (nodes != nullptr) return cudaErrorNotSupported;  // only their number is kept
    *count = graph->nodes.size();
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Lock lock(TheSystem().mutex);
  delete graph;
  TheSystem().changed.notify_all();  // NCCL may wait for it
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const Lock lock(TheSystem().mutex);
  delete exec;
  TheSystem().changed.notify_all();
  return cudaSuccess;
}
