// The shared object's one door: devices, engine, self-test and rates, for the program that opened it.
#include "worker/backend/cuda/plugin.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "worker/backend/cuda/cuda_engine.h"
#include "worker/backend/cuda/device_rates.h"
#include "worker/backend/cuda/libraries.h"
#include "worker/backend/cuda/runtime.h"
#include "worker/backend/cuda/self_test.h"

namespace plateau::cuda {
namespace {

std::string Dotted(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }
std::string Dotted(size_t version) { return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100); }

std::string Versions() {
  int driver = 0, runtime = 0, nccl = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  ncclGetVersion(&nccl);
  return fmt::format("{}, CUDA {}, cuDNN {}, cuBLASLt {}, NCCL {}", driver == 0 ? "no driver" : "driver " + Dotted(driver),
                     Dotted(runtime), Dotted(cudnnGetVersion()), Dotted(cublasLtGetVersion()), Dotted(static_cast<size_t>(nccl)));
}

std::string WhyNoDevice(cudaError_t code) {
  if (code == cudaErrorInsufficientDriver)
    return "no CUDA driver, or one older than this build's CUDA: install a newer NVIDIA driver";
  if (code == cudaErrorNoDevice || code == cudaSuccess)
    return "the CUDA driver reports no device: look at nvidia-smi and CUDA_VISIBLE_DEVICES";
  return fmt::format("the CUDA driver says: {} ({})", cudaGetErrorString(code), cudaGetErrorName(code));
}

// Parts of a card that is cut up (MIG) have memory, and a UUID, of their own.
std::string UuidText(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (const char byte : uuid.bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

std::vector<PluginDevice> Devices(std::string& reason, std::string& versions) {
  versions = Versions();
  std::vector<PluginDevice> devices;
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess) cudaGetLastError();  // an answer, not a fault for the next call to report
  for (int device = 0; code == cudaSuccess && device < count; ++device) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) continue;
    devices.push_back({.name = properties.name,
                       .memory_bytes = properties.totalGlobalMem,
                       .capability = properties.major * 10 + properties.minor,
                       .identity = UuidText(properties.uuid)});
  }
  reason = devices.empty() ? WhyNoDevice(code) : "";
  return devices;
}

Result<uint64_t> FreeBytes(int device) {
  size_t free = 0, total = 0;
  try {
    Check(cudaSetDevice(device), "cudaSetDevice");
    Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  } catch (const Failure& failure) {
    return Fail(failure.code(), "{}", failure.what());
  }
  return free;
}

}  // namespace
}  // namespace plateau::cuda

extern "C" const plateau::cuda::PluginTable* PlateauCudaPlugin() {
  using namespace plateau::cuda;
  static constexpr PluginTable table{.abi = kPluginAbi,
                                     .devices = Devices,
                                     .create_engine = CreateCudaEngine,
                                     .self_test = SelfTest,
                                     .rank_self_test = SelfTestRanks,
                                     .measure_rates = MeasureDeviceRates,
                                     .free_bytes = FreeBytes};
  return &table;
}
