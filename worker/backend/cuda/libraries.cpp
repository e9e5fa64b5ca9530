// Finds the device, makes it current, and opens the libraries on it.
#include "worker/backend/cuda/libraries.h"

#include <array>

#include "common/error.h"
#include "common/text.h"

namespace plateau::cuda {
namespace {

constexpr int kOldestCapability = 80;  // machine code begins there, and bf16 in tensor cores
constexpr int kScratchByte = 0x3c;     // 0x3c3c is 0.0115 as bf16, 0x3c3c3c3c is 0.0115 as float
constexpr size_t kComplaintBytes = 512;

[[noreturn]] void Refuse(const std::string& text) { throw Failure(ErrorCode::kUnsupported, text); }

// Makes `device` current; "NVIDIA H200, sm_90".
std::string OpenDevice(int device) {
  int count = 0;
  const cudaError_t answer = cudaGetDeviceCount(&count);
  if (answer == cudaErrorInsufficientDriver)
    Refuse(fmt::format(
        "the CUDA driver is missing or older than CUDA {}.{}, which this was built with: install a newer driver, or take "
        "device: cpu",
        CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10));
  if (answer == cudaErrorNoDevice || (answer == cudaSuccess && count == 0))
    Refuse("the CUDA driver reports no device: look at nvidia-smi and CUDA_VISIBLE_DEVICES, or take device: cpu");
  Check(answer, "cudaGetDeviceCount");
  if (device < 0 || device >= count)
    Refuse(fmt::format("CUDA device {} is not there: this process sees {} ({}); look at CUDA_VISIBLE_DEVICES", device, count,
                       count == 1 ? "number 0" : fmt::format("numbers 0 to {}", count - 1)));
  Check(cudaSetDevice(device), "cudaSetDevice");
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  if (properties.major * 10 + properties.minor < kOldestCapability)
    Refuse(fmt::format("CUDA device {}, {}, is of capability {}.{}: this is built for {}.{} and newer", device, properties.name,
                       properties.major, properties.minor, kOldestCapability / 10, kOldestCapability % 10));
  return fmt::format("{}, sm_{}{}", properties.name, properties.major, properties.minor);
}

std::string CudnnVersion() {
  const size_t found = cudnnGetVersion();
  // A newer one runs what was compiled for an older one, not the other way round.
  if (found / 100 < static_cast<size_t>(CUDNN_VERSION) / 100)
    Refuse(
        fmt::format("cuDNN {}.{}.{} is older than {}.{}, which this was built with: install a newer one, or put it first in "
                    "LD_LIBRARY_PATH",
                    found / 10000, found % 10000 / 100, found % 100, CUDNN_MAJOR, CUDNN_MINOR));
  return fmt::format("cuDNN {}.{}.{}", found / 10000, found % 10000 / 100, found % 100);
}

std::string CublasVersion() {
  const size_t found = cublasLtGetVersion();
  return fmt::format("cuBLASLt {}.{}.{}", found / 10000, found % 10000 / 100, found % 100);
}

}  // namespace

Libraries::Libraries(int device, Precision precision, bool deterministic, AlgorithmChoices& choices)
    : device_(device), precision_(precision), deterministic_(deterministic), choices_(choices), device_name_(OpenDevice(device)) {
  int runtime = 0;
  Check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  cudnn_version_ = CudnnVersion();
  cublas_version_ = CublasVersion();
  versions_ = fmt::format("CUDA {}.{}, {}, {}", runtime / 1000, runtime % 1000 / 10, cudnn_version_, cublas_version_);
  Check(cublasLtCreate(&cublas_), "cublasLtCreate");
  try {
    Check(cudnnCreate(&cudnn_), "cudnnCreate");
    Check(cudnnSetStream(cudnn_, stream_.get()), "cudnnSetStream");
  } catch (...) {
    Close();
    throw;
  }
}

Libraries::~Libraries() { Close(); }

void Libraries::Close() {
  if (cudnn_ != nullptr) cudnnDestroy(cudnn_);
  if (cublas_ != nullptr) cublasLtDestroy(cublas_);
}

void Libraries::GoOn() const {
  if (watch_ != nullptr && watch_->WantsStop()) throw StartStopped(kChoosing);
}

std::string Libraries::TimedOnce(const std::string& key, const std::function<std::string()>& time) {
  const auto known = timed_.find(key);
  if (known != timed_.end()) return known->second;
  return timed_[key] = time();
}

void* Libraries::TimingScratch(size_t bytes) {
  if (scratch_.bytes() < bytes) {
    ReleaseScratch();
    scratch_ = DeviceBuffer(bytes);
  }
  Check(cudaMemsetAsync(scratch_.data(), kScratchByte, bytes, stream_.get()), "cudaMemsetAsync");
  return scratch_.data();
}

void Libraries::ReleaseScratch() {
  if (scratch_.bytes() == 0) return;
  stream_.Wait();
  scratch_ = DeviceBuffer();
}

std::string Describe(cudnnStatus_t code) {
  std::array<char, kComplaintBytes> complaint{};
  cudnnGetLastErrorString(complaint.data(), complaint.size() - 1);
  const std::string words = cudnnGetErrorString(code);
  return complaint[0] == '\0' ? words : fmt::format("{}, {}", words, complaint.data());
}

std::string Describe(cublasStatus_t code) { return cublasLtGetStatusName(code); }

void Check(cudnnStatus_t code, const char* what) {
  if (code == CUDNN_STATUS_SUCCESS) return;
  const bool memory =
      code == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED || code == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
  throw Failure(memory ? ErrorCode::kUnavailable : ErrorCode::kInternal, fmt::format("cuDNN: {}: {}", what, Describe(code)));
}

void Check(cublasStatus_t code, const char* what) {
  if (code == CUBLAS_STATUS_SUCCESS) return;
  throw Failure(code == CUBLAS_STATUS_ALLOC_FAILED ? ErrorCode::kUnavailable : ErrorCode::kInternal,
                fmt::format("cuBLASLt: {}: {}", what, Describe(code)));
}

}  // namespace plateau::cuda
