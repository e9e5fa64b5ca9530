// Owners of streams, events and memory, and the check around every call of the CUDA runtime.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>

namespace plateau::cuda {

// Throws Failure (kInternal; kUnavailable for out of memory) naming `what`, the device and CUDA's own words, unless `code` is
// success.
void Check(cudaError_t code, const char* what);

// A stream that does not wait for the legacy default stream.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  void Wait() const;  // blocks the host until all that was queued is done

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  // `sleeps`: Wait gives up the core instead of spinning on it, for waits that are long.
  explicit Event(bool timing = false, bool sleeps = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void Record(cudaStream_t stream);
  void Block(cudaStream_t stream) const;  // work queued on `stream` from now on waits for the last Record
  void Wait() const;                      // blocks the host
  bool Done() const;                      // whether Wait would return at once
  float MillisecondsSince(const Event& begin) const;  // both with timing, both done

 private:
  cudaEvent_t event_ = nullptr;
};

// Device memory; aligned to 256 bytes at least. Zeroed.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  void* data() const { return data_; }
  std::byte* at(size_t offset) const { return static_cast<std::byte*>(data_) + offset; }
  template <class T>
  T* as(size_t offset_bytes = 0) const { return reinterpret_cast<T*>(at(offset_bytes)); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Page-locked host memory: copies to and from the device run beside the host. Zeroed.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;
  void* data() const { return data_; }
  template <class T>
  T* as(size_t offset_bytes = 0) const { return reinterpret_cast<T*>(static_cast<std::byte*>(data_) + offset_bytes); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

void CopyToDevice(void* device, const void* host, size_t bytes, cudaStream_t stream);
void CopyToHost(void* host, const void* device, size_t bytes, cudaStream_t stream);

}  // namespace plateau::cuda
