// Owners of streams, events and memory.
#include "worker/backend/cuda/runtime.h"

#include <utility>

#include "common/error.h"

namespace plateau::cuda {

void Check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  int device = -1;
  if (cudaGetDevice(&device) != cudaSuccess) device = -1;
  cudaGetLastError();  // a fault that can be outlived, such as out of memory, must not be reported again by the next call
  throw Failure(code == cudaErrorMemoryAllocation ? ErrorCode::kUnavailable : ErrorCode::kInternal,
                fmt::format("CUDA device {}: {}: {} ({})", device, what, cudaGetErrorString(code), cudaGetErrorName(code)));
}

Stream::Stream() { Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
Stream::~Stream() { cudaStreamDestroy(stream_); }
void Stream::Wait() const { Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

Event::Event(bool timing, bool sleeps) {
  const unsigned flags = (timing ? cudaEventDefault : cudaEventDisableTiming) | (sleeps ? cudaEventBlockingSync : cudaEventDefault);
  Check(cudaEventCreateWithFlags(&event_, flags), "cudaEventCreateWithFlags");
}
Event::~Event() { cudaEventDestroy(event_); }
void Event::Record(cudaStream_t stream) { Check(cudaEventRecord(event_, stream), "cudaEventRecord"); }
void Event::Block(cudaStream_t stream) const { Check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent"); }
void Event::Wait() const { Check(cudaEventSynchronize(event_), "cudaEventSynchronize"); }
bool Event::Done() const {
  const cudaError_t code = cudaEventQuery(event_);
  if (code == cudaErrorNotReady) return false;
  Check(code, "cudaEventQuery");
  return true;
}
float Event::MillisecondsSince(const Event& begin) const {
  float milliseconds = 0;
  Check(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "cudaEventElapsedTime");
  return milliseconds;
}

DeviceBuffer::DeviceBuffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  Check(cudaMalloc(&data_, bytes), fmt::format("cudaMalloc of {} bytes", bytes).c_str());
  Check(cudaMemset(data_, 0, bytes), "cudaMemset");
  Check(cudaStreamSynchronize(cudaStreamLegacy), "cudaMemset");  // our streams do not wait for the one that cudaMemset is queued on
}
DeviceBuffer::~DeviceBuffer() { cudaFree(data_); }
DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

PinnedBuffer::PinnedBuffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  Check(cudaMallocHost(&data_, bytes), fmt::format("cudaMallocHost of {} bytes", bytes).c_str());
  for (size_t i = 0; i < bytes; ++i) static_cast<char*>(data_)[i] = 0;
}
PinnedBuffer::~PinnedBuffer() { cudaFreeHost(data_); }
PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void CopyToDevice(void* device, const void* host, size_t bytes, cudaStream_t stream) {
  Check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
}
void CopyToHost(void* host, const void* device, size_t bytes, cudaStream_t stream) {
  Check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "copy to the host");
}

}  // namespace plateau::cuda
