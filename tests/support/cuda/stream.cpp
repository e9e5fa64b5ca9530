// How operations are queued and run.
#include "tests/support/cuda/stream.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace plateau::emulated {
namespace {

double HostMilliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool Runnable(const Operation& operation) {
  return operation.state == Operation::State::kWaiting && std::all_of(operation.before.begin(), operation.before.end(), Done) &&
         (!operation.ready || operation.ready());
}

void RunOne(Lock& lock, Operation& operation) {
  System& system = TheSystem();
  operation.state = Operation::State::kRunning;
  const auto run = std::exchange(operation.run, nullptr);
  Device& device = system.devices[static_cast<size_t>(operation.device)];
  if (run && device.planned_fault != cudaSuccess) device.fault = std::exchange(device.planned_fault, cudaSuccess);
  if (run && device.fault == cudaSuccess) {
    ++system.operations_run;
    lock.unlock();
    run();
    lock.lock();
  }
  operation.state = Operation::State::kDone;
  operation.finished_ms = HostMilliseconds();
  operation.before.clear();
  operation.ready = nullptr;
  system.changed.notify_all();
}

// What `target` still needs, itself last, each behind what it waits for.
std::vector<OperationPtr> Needed(const OperationPtr& target) {
  const uint64_t visit = ++TheSystem().visits;
  std::vector<OperationPtr> order;
  std::vector<std::pair<OperationPtr, size_t>> path{{target, 0}};
  target->visit = visit;
  while (!path.empty()) {
    const OperationPtr here = path.back().first;
    if (path.back().second == here->before.size()) {
      order.push_back(here);
      path.pop_back();
      continue;
    }
    const OperationPtr next = here->before[path.back().second++];
    if (Done(next) || next->visit == visit) continue;
    next->visit = visit;
    path.emplace_back(next, 0);
  }
  return order;
}

}  // namespace

bool Done(const OperationPtr& operation) { return operation == nullptr || operation->state == Operation::State::kDone; }

bool Force(Lock& lock, const OperationPtr& target, bool block) {
  while (!Done(target)) {
    bool moved = false;
    for (const OperationPtr& operation : Needed(target)) {
      if (!Runnable(*operation)) continue;
      RunOne(lock, *operation);
      moved = true;
    }
    if (moved) continue;
    if (!block) return false;
    TheSystem().changed.wait(lock);
  }
  return true;
}

cudaError_t Drain(Lock& lock, int device) {
  System& system = TheSystem();
  std::vector<OperationPtr> waiting = std::move(system.devices[static_cast<size_t>(device)].loose);
  system.devices[static_cast<size_t>(device)].loose.clear();
  waiting.push_back(system.devices[static_cast<size_t>(device)].legacy->last);
  for (CUstream_st* stream : system.streams)
    if (stream->device == device) waiting.push_back(stream->last);
  for (const OperationPtr& operation : waiting) Force(lock, operation, true);
  return system.devices[static_cast<size_t>(device)].fault;
}

CUstream_st* Find(cudaStream_t stream) {
  System& system = TheSystem();
  if (stream == nullptr || stream == cudaStreamLegacy) return system.devices[static_cast<size_t>(CurrentDevice())].legacy;
  return system.streams.count(stream) != 0 ? stream : nullptr;
}

OperationPtr Append(CUstream_st* stream, Work work) {
  System& system = TheSystem();
  auto operation = std::make_shared<Operation>();
  operation->device = stream->device;
  operation->run = std::move(work.run);
  const auto wait_for = [&](const OperationPtr& other) {
    if (!Done(other)) operation->before.push_back(other);
  };
  wait_for(stream->last);
  CUstream_st* const legacy = system.devices[static_cast<size_t>(stream->device)].legacy;
  if (stream == legacy) {
    for (CUstream_st* other : system.streams)
      if (other->blocking && other->device == stream->device) wait_for(other->last);
  } else if (stream->blocking) {
    wait_for(legacy->last);
  }
  if (work.attach) work.attach(operation);
  stream->last = operation;
  return operation;
}

cudaError_t QueueLocked(CUstream_st* stream, Work work) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->capture != nullptr) {
    Capture& capture = *stream->capture;
    if (!capture.valid) return cudaErrorStreamCaptureInvalidated;
    capture.nodes.push_back({std::move(work), stream->tail});
    stream->tail = {static_cast<int>(capture.nodes.size()) - 1};
    return cudaSuccess;
  }
  System& system = TheSystem();
  const bool legacy = stream == system.devices[static_cast<size_t>(stream->device)].legacy;
  const bool beside_capture = legacy && std::any_of(system.streams.begin(), system.streams.end(), [](const CUstream_st* other) {
                                return other->blocking && other->capture != nullptr;
                              });
  if (beside_capture) return cudaErrorStreamCaptureImplicit;
  Append(stream, std::move(work));
  return cudaSuccess;
}

cudaError_t Queue(cudaStream_t stream, Work work) {
  return Call("operation", [&](Lock&) { return QueueLocked(Find(stream), std::move(work)); });
}

cudaError_t Queue(cudaStream_t stream, std::function<void()> run) { return Queue(stream, Work{std::move(run)}); }

cudaError_t QueueKernel(cudaStream_t handle, std::function<void()> run) {
  return Call("kernel", [&](Lock&) {
    CUstream_st* const stream = Find(handle);
    if (stream == nullptr || stream->device != CurrentDevice()) return cudaErrorInvalidResourceHandle;
    return QueueLocked(stream, Work{std::move(run)});
  });
}

cudaError_t RefuseInCapture() {
  cudaError_t answer = cudaSuccess;
  for (Capture* capture : TheSystem().captures) {
    const bool ours = capture->owner == std::this_thread::get_id();
    const bool refuses = capture->mode == cudaStreamCaptureModeGlobal || (capture->mode == cudaStreamCaptureModeThreadLocal && ours);
    if (!refuses) continue;
    capture->valid = false;
    answer = cudaErrorStreamCaptureUnsupported;
  }
  return answer;
}

void DropAllWork(System& system) {
  std::vector<OperationPtr> chain;
  const auto drop = [&](OperationPtr& last) {
    if (!Done(last)) chain.push_back(last);
    last = nullptr;
  };
  for (Device& device : system.devices) {
    for (OperationPtr& operation : device.loose) drop(operation);
    device.loose.clear();
    drop(device.legacy->last);
  }
  for (CUstream_st* stream : system.streams) drop(stream->last);
  while (!chain.empty()) {  // one by one: a long chain of destructors would overflow the stack
    const OperationPtr operation = std::move(chain.back());
    chain.pop_back();
    for (OperationPtr& other : operation->before) chain.push_back(std::move(other));
    operation->before.clear();
    operation->run = nullptr;
    operation->state = Operation::State::kDone;
  }
}

}  // namespace plateau::emulated
