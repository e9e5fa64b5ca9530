// The runtime's calls about devices, versions and errors.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "tests/support/cuda/stream.h"
#include "tests/support/cuda/system.h"

namespace plateau::emulated {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

struct ErrorText {
  cudaError_t code;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge", "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
     "the graph update was not performed because it included changes which violated constraints specific to instantiated graph update"},
};

const ErrorText& TextOf(cudaError_t code) {
  static constexpr ErrorText kOther{cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};
  for (const ErrorText& error : kErrors)
    if (error.code == code) return error;
  return kOther;
}

bool Answers(int device) { return device >= 0 && device < TheSystem().device_count; }

int Attribute(cudaDeviceAttr attribute) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: return 9;
    case cudaDevAttrComputeCapabilityMinor: return 0;
    case cudaDevAttrMultiProcessorCount: return 132;
    case cudaDevAttrMaxThreadsPerBlock: return 1024;
    case cudaDevAttrWarpSize: return 32;
    case cudaDevAttrMaxSharedMemoryPerBlock: return 48 << 10;
    case cudaDevAttrMemoryPoolsSupported: return 0;
    case cudaDevAttrClockRate: return 1980000;
    default: return 0;
  }
}

}  // namespace

cudaError_t SetLastError(cudaError_t code) {
  if (code != cudaSuccess) last_error = code;
  return code;
}

void ForgetLastError() { last_error = cudaSuccess; }

}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

const char* cudaGetErrorName(cudaError_t code) { return TextOf(code).name; }
const char* cudaGetErrorString(cudaError_t code) { return TextOf(code).text; }

cudaError_t cudaPeekAtLastError() {
  const Lock lock(TheSystem().mutex);
  const cudaError_t fault = TheSystem().devices[static_cast<size_t>(CurrentDevice())].fault;
  return fault != cudaSuccess ? fault : last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t code = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return code;
}

cudaError_t cudaGetDeviceCount(int* count) {
  return Call("cudaGetDeviceCount", [&](Lock&) {
    *count = TheSystem().device_count;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return Call("cudaGetDevice", [&](Lock&) {
    *device = CurrentDevice();
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  const Lock lock(TheSystem().mutex);
  if (const int fault = TakeFault("cudaSetDevice")) return SetLastError(static_cast<cudaError_t>(fault));
  if (TheSystem().device_count == 0) return SetLastError(cudaErrorNoDevice);
  if (!Answers(device)) return SetLastError(cudaErrorInvalidDevice);
  CurrentDevice() = device;
  return SetLastError(TheSystem().devices[static_cast<size_t>(device)].fault);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return Call("cudaGetDeviceProperties", [&](Lock&) {
    if (!Answers(device)) return cudaErrorInvalidDevice;
    *properties = {};
    std::snprintf(properties->name, sizeof(properties->name), "Emulated device (host)");
    properties->totalGlobalMem = TheSystem().memory_bytes;
    properties->major = 9;
    properties->minor = 0;
    properties->multiProcessorCount = 132;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->sharedMemPerBlock = 48 << 10;
    properties->l2CacheSize = 50 << 20;
    properties->memoryBusWidth = 6144;
    properties->pciBusID = device + 1;
    std::memset(properties->uuid.bytes, device + 1, sizeof(properties->uuid.bytes));
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return Call("cudaDeviceGetAttribute", [&](Lock&) {
    if (!Answers(device)) return cudaErrorInvalidDevice;
    *value = Attribute(attribute);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int bytes, int device) {
  return Call("cudaDeviceGetPCIBusId", [&](Lock&) {
    if (!Answers(device)) return cudaErrorInvalidDevice;
    std::snprintf(text, static_cast<size_t>(bytes), "0000:%02X:00.0", static_cast<unsigned>(device) + 1U);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return Call("cudaDeviceCanAccessPeer", [&](Lock&) {
    if (!Answers(device) || !Answers(peer)) return cudaErrorInvalidDevice;
    *can = device != peer;
    return cudaSuccess;
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  const Lock lock(TheSystem().mutex);
  *version = TheSystem().device_count == 0 ? 0 : CUDART_VERSION;
  return SetLastError(static_cast<cudaError_t>(TakeFault("cudaDriverGetVersion")));
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  return Call("cudaDeviceSynchronize", [&](Lock& lock) {
    if (const cudaError_t refused = RefuseInCapture()) return refused;
    ++TheSystem().host_waits;
    return Drain(lock, CurrentDevice());
  });
}

cudaError_t cudaDeviceReset() {
  return Call("cudaDeviceReset", [&](Lock& lock) { return Drain(lock, CurrentDevice()); });
}
