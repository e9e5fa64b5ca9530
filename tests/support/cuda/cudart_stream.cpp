// The runtime's streams, events and functions of the host on a stream.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "tests/support/cuda/stream.h"
#include "tests/support/cuda/system.h"

namespace plateau::emulated {
namespace {

CUevent_st* FindEvent(cudaEvent_t event) { return TheSystem().events.count(event) != 0 ? event : nullptr; }

// What a wait for `operation` of `device` answers, blocking or not. One that does not wait moves what can move and answers "not
// ready" this once, so that a poll sees both answers.
cudaError_t WaitFor(Lock& lock, const OperationPtr& operation, int device, bool block) {
  if (block) ++TheSystem().host_waits;
  const bool was_done = Done(operation);
  const OperationPtr held = operation;
  Force(lock, held, block);
  if (const cudaError_t fault = TheSystem().devices[static_cast<size_t>(device)].fault) return fault;
  return block || was_done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t WaitStream(const char* function, cudaStream_t handle, bool block) {
  return Call(function, [&](Lock& lock) {
    CUstream_st* const stream = Find(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) {
      stream->capture->valid = false;
      return cudaErrorStreamCaptureUnsupported;
    }
    if (const cudaError_t refused = RefuseInCapture()) return refused;
    return WaitFor(lock, stream->last, stream->device, block);
  });
}

cudaError_t WaitEvent(const char* function, cudaEvent_t handle, bool block) {
  return Call(function, [&](Lock& lock) {
    CUevent_st* const event = FindEvent(handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    if (event->capture != nullptr) {
      event->capture->valid = false;
      return cudaErrorCapturedEvent;
    }
    if (const cudaError_t refused = RefuseInCapture()) return refused;
    return WaitFor(lock, event->operation, event->device, block);
  });
}

cudaError_t Create(cudaStream_t* stream, unsigned flags) {
  *stream = new CUstream_st{.device = CurrentDevice(), .blocking = (flags & cudaStreamNonBlocking) == 0};
  TheSystem().streams.insert(*stream);
  return cudaSuccess;
}

void RecordNow(CUevent_st* event, CUstream_st* stream) {
  event->operation = Append(stream, {});
  event->capture = nullptr;
}

cudaError_t Record(CUevent_st* event, CUstream_st* stream, unsigned flags) {
  if (event == nullptr || stream == nullptr || event->device != stream->device) return cudaErrorInvalidResourceHandle;
  event->recorded = true;
  if (stream->capture == nullptr) {
    RecordNow(event, stream);
    return cudaSuccess;
  }
  if (!stream->capture->valid) return cudaErrorStreamCaptureInvalidated;
  if ((flags & cudaEventRecordExternal) != 0) {  // a node that records the event at each launch
    event->capture = nullptr;
    return QueueLocked(stream, Work{nullptr, [event](const OperationPtr& operation) { event->operation = operation; }});
  }
  event->capture = stream->capture;
  event->tail = stream->tail;
  return cudaSuccess;
}

// The stream joins the event's capture, or waits for one more branch of it.
cudaError_t JoinCapture(CUstream_st* stream, const CUevent_st& event) {
  if (TheSystem().captures.count(event.capture.get()) == 0 || event.capture->origin == nullptr) return cudaErrorCapturedEvent;
  if (!event.capture->valid) return cudaErrorStreamCaptureInvalidated;
  if (stream == TheSystem().devices[static_cast<size_t>(stream->device)].legacy) return cudaErrorStreamCaptureImplicit;
  if (stream->capture != nullptr && stream->capture != event.capture) {
    stream->capture->valid = event.capture->valid = false;
    return cudaErrorStreamCaptureMerge;
  }
  if (stream->capture == nullptr) stream->tail.clear();
  stream->capture = event.capture;
  for (const int node : event.tail)
    if (std::find(stream->tail.begin(), stream->tail.end(), node) == stream->tail.end()) stream->tail.push_back(node);
  return cudaSuccess;
}

cudaError_t Block(CUstream_st* stream, const CUevent_st* event, unsigned flags) {
  if (event == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (event->capture != nullptr) return JoinCapture(stream, *event);
  if (stream->capture != nullptr && (flags & cudaEventWaitExternal) != 0)  // at each launch the event's latest record
    return QueueLocked(stream, Work{nullptr, [event](const OperationPtr& operation) { operation->before.push_back(event->operation); }});
  if (!event->recorded) return cudaSuccess;
  if (stream->capture != nullptr) {
    stream->capture->valid = false;
    return cudaErrorStreamCaptureIsolation;
  }
  if (!Done(event->operation)) Append(stream, {})->before.push_back(event->operation);
  return cudaSuccess;
}

}  // namespace
}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return Call("cudaStreamCreate", [&](Lock&) { return Create(stream, cudaStreamDefault); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return Call("cudaStreamCreateWithFlags", [&](Lock&) { return Create(stream, flags); });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return Call("cudaStreamCreateWithPriority", [&](Lock&) { return Create(stream, flags); });
}

// What is queued still runs, when the device is waited for.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  System& system = TheSystem();
  const Lock lock(system.mutex);
  if (system.streams.erase(stream) == 0) return SetLastError(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) stream->capture->valid = false;
  if (!Done(stream->last)) system.devices[static_cast<size_t>(stream->device)].loose.push_back(stream->last);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return WaitStream("cudaStreamSynchronize", stream, true); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return WaitStream("cudaStreamQuery", stream, false); }

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return Call("cudaStreamWaitEvent", [&](Lock&) { return Block(Find(stream), FindEvent(event), flags); });
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  return Call("cudaStreamGetDevice", [&](Lock&) {
    const CUstream_st* const stream = Find(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    *device = stream->device;
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return Call("cudaEventCreateWithFlags", [&](Lock&) {
    *event = new CUevent_st{.device = CurrentDevice(), .timing = (flags & cudaEventDisableTiming) == 0};
    TheSystem().events.insert(*event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(TheSystem().mutex);
  if (TheSystem().events.erase(event) == 0) return SetLastError(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return Call("cudaEventRecord", [&](Lock&) { return Record(FindEvent(event), Find(stream), cudaEventRecordDefault); });
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return Call("cudaEventRecordWithFlags", [&](Lock&) { return Record(FindEvent(event), Find(stream), flags); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) { return WaitEvent("cudaEventSynchronize", event, true); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return WaitEvent("cudaEventQuery", event, false); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin_handle, cudaEvent_t end_handle) {
  return Call("cudaEventElapsedTime", [&](Lock&) {
    const CUevent_st* const begin = FindEvent(begin_handle);
    const CUevent_st* const end = FindEvent(end_handle);
    if (begin == nullptr || end == nullptr || !begin->recorded || !end->recorded || !begin->timing || !end->timing)
      return cudaErrorInvalidResourceHandle;
    if (begin->capture != nullptr || end->capture != nullptr) return cudaErrorCapturedEvent;
    if (!Done(begin->operation) || !Done(end->operation)) return cudaErrorNotReady;
    *milliseconds = static_cast<float>(end->operation->finished_ms - begin->operation->finished_ms);
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* user) {
  return Call("cudaLaunchHostFunc", [&](Lock&) { return QueueLocked(Find(stream), Work{[=] { function(user); }}); });
}
