// The runtime's memory: each allocation is one of the host's, so that a sanitizer sees what runs over its end; fresh bytes are 0xFF.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/support/cuda/stream.h"
#include "tests/support/cuda/system.h"

namespace plateau::emulated {
namespace {

constexpr size_t kAlignment = 256;

struct Region {
  const void* data;
  size_t pitch, width, height;  // bytes, bytes, rows
  size_t span() const { return height == 0 || width == 0 ? 0 : pitch * (height - 1) + width; }
};

struct Copy2D {
  Region to, from;
  void Run() const {
    auto* target = static_cast<char*>(const_cast<void*>(to.data));
    const auto* source = static_cast<const char*>(from.data);
    for (size_t row = 0; row < to.height; ++row) std::memmove(target + row * to.pitch, source + row * from.pitch, to.width);
  }
};

enum class Place { kDevice, kPinned, kPageable };
Place PlaceOf(const Region& region) {
  const Allocation* const found = FindAllocation(region.data, region.span());
  if (found == nullptr) return Place::kPageable;
  return found->device >= 0 ? Place::kDevice : Place::kPinned;
}

cudaError_t Allocate(void** data, size_t bytes, int device) {
  System& system = TheSystem();
  *data = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  Device& owner = system.devices[static_cast<size_t>(std::max(device, 0))];
  if (device >= 0 && owner.used_bytes + rounded > system.memory_bytes) return cudaErrorMemoryAllocation;
  // Of exactly `bytes`, not of whole lines: what lies behind is not ours.
  void* fresh = nullptr;
  if (posix_memalign(&fresh, kAlignment, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(fresh, 0xFF, bytes);
  if (device >= 0) owner.used_bytes += rounded;
  system.memory[reinterpret_cast<uintptr_t>(fresh)] = {bytes, device};
  *data = fresh;
  return cudaSuccess;
}

// Waits for the device first, as the real one does.
cudaError_t Release(Lock& lock, void* data, bool of_device) {
  System& system = TheSystem();
  if (data == nullptr) return cudaSuccess;
  const auto found = system.memory.find(reinterpret_cast<uintptr_t>(data));
  if (found == system.memory.end() || (found->second.device >= 0) != of_device) return cudaErrorInvalidValue;
  const Allocation allocation = found->second;
  if (const cudaError_t refused = RefuseInCapture()) return refused;
  Drain(lock, of_device ? allocation.device : CurrentDevice());
  if (of_device) {
    const size_t rounded = (allocation.bytes + kAlignment - 1) / kAlignment * kAlignment;
    system.devices[static_cast<size_t>(allocation.device)].used_bytes -= rounded;
  }
  system.memory.erase(reinterpret_cast<uintptr_t>(data));
  std::free(data);
  return cudaSuccess;
}

cudaError_t CheckDirection(Place to, Place from, cudaMemcpyKind kind) {
  const bool to_device = to == Place::kDevice, from_device = from == Place::kDevice;
  switch (kind) {
    case cudaMemcpyHostToHost: return !to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyHostToDevice: return to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToHost: return !to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToDevice: return to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDefault: return cudaSuccess;
    default: return cudaErrorInvalidMemcpyDirection;
  }
}

// A copy from pageable memory has read it when the call returns, one to pageable memory has written it; the others are lazy.
cudaError_t QueueCopy(Lock& lock, cudaStream_t handle, const Copy2D& copy, cudaMemcpyKind kind, bool blocking) {
  CUstream_st* const stream = Find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (copy.to.span() == 0) return cudaSuccess;
  if (copy.to.data == nullptr || copy.from.data == nullptr) return cudaErrorInvalidValue;
  const Place to = PlaceOf(copy.to), from = PlaceOf(copy.from);
  if (const cudaError_t wrong = CheckDirection(to, from, kind)) return wrong;
  if (blocking)
    if (const cudaError_t refused = RefuseInCapture()) return refused;
  const bool captured = stream->capture != nullptr;
  if (from == Place::kPageable && !captured) {
    auto staged = std::make_shared<std::vector<char>>(copy.from.span());
    std::memcpy(staged->data(), copy.from.data, staged->size());
    Copy2D later = copy;
    later.from.data = staged->data();
    if (const cudaError_t failed = QueueLocked(stream, Work{[later, staged] { later.Run(); }})) return failed;
  } else if (const cudaError_t failed = QueueLocked(stream, Work{[copy] { copy.Run(); }})) {
    return failed;
  }
  const bool wait = blocking || (to == Place::kPageable && !captured);
  if (!wait) return cudaSuccess;
  ++TheSystem().host_waits;
  Force(lock, stream->last, true);
  return TheSystem().devices[static_cast<size_t>(stream->device)].fault;
}

Copy2D Line(void* to, const void* from, size_t bytes) { return {{to, bytes, bytes, 1}, {from, bytes, bytes, 1}}; }

cudaError_t QueueFill(cudaStream_t handle, void* data, int value, size_t bytes) {
  CUstream_st* const stream = Find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (FindAllocation(data, bytes) == nullptr) return cudaErrorInvalidValue;
  return QueueLocked(stream, Work{[=] { std::memset(data, value, bytes); }});
}

}  // namespace
}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

cudaError_t cudaMalloc(void** data, size_t bytes) {
  return Call("cudaMalloc", [&](Lock&) {
    if (data == nullptr) return cudaErrorInvalidValue;
    if (const cudaError_t refused = RefuseInCapture()) return refused;
    return Allocate(data, bytes, CurrentDevice());
  });
}

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  return Call("cudaHostAlloc", [&](Lock&) {
    if (data == nullptr) return cudaErrorInvalidValue;
    if (const cudaError_t refused = RefuseInCapture()) return refused;
    return Allocate(data, bytes, -1);
  });
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  return Call("cudaMallocHost", [&](Lock&) {
    if (data == nullptr) return cudaErrorInvalidValue;
    if (const cudaError_t refused = RefuseInCapture()) return refused;
    return Allocate(data, bytes, -1);
  });
}

// Memory goes back even when its device has failed, so that a sanitizer sees no leak.
cudaError_t cudaFree(void* data) {
  Lock lock(TheSystem().mutex);
  return SetLastError(Release(lock, data, true));
}

cudaError_t cudaFreeHost(void* data) {
  Lock lock(TheSystem().mutex);
  return SetLastError(Release(lock, data, false));
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  return Call("cudaMemGetInfo", [&](Lock&) {
    const System& system = TheSystem();
    const size_t used = system.devices[static_cast<size_t>(CurrentDevice())].used_bytes;
    *total_bytes = system.memory_bytes;
    *free_bytes = used > system.memory_bytes ? 0 : system.memory_bytes - used;
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return Call("cudaMemcpy", [&](Lock& lock) { return QueueCopy(lock, nullptr, Line(to, from, bytes), kind, true); });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return Call("cudaMemcpyAsync", [&](Lock& lock) { return QueueCopy(lock, stream, Line(to, from, bytes), kind, false); });
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  return Call("cudaMemcpy2DAsync", [&](Lock& lock) {
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
    return QueueCopy(lock, stream, {{to, to_pitch, width, height}, {from, from_pitch, width, height}}, kind, false);
  });
}

// Does not wait, as with device memory on a device.
cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  return Call("cudaMemset", [&](Lock&) { return QueueFill(nullptr, data, value, bytes); });
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  return Call("cudaMemsetAsync", [&](Lock&) { return QueueFill(stream, data, value, bytes); });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  return Call("cudaPointerGetAttributes", [&](Lock&) {
    const Allocation* const found = FindAllocation(data, 1);
    *attributes = {};
    attributes->type = found == nullptr ? cudaMemoryTypeUnregistered : found->device >= 0 ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    attributes->device = found == nullptr ? -1 : std::max(found->device, 0);
    attributes->devicePointer = attributes->hostPointer = const_cast<void*>(data);
    return cudaSuccess;
  });
}
