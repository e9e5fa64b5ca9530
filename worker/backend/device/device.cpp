// The choice between the CPU's engine and the one in the shared object.
#include "worker/backend/device/device.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "worker/backend/device/cuda_library.h"
#include "worker/backend/device/granted_gpu.h"
#include "worker/backend/device/launch_rank.h"

namespace plateau {
namespace {

constexpr bool kBuiltWithCuda = PLATEAU_BUILT_WITH_CUDA;  // by CMake

// Loading is the process's affair: what was loaded stays, and is not searched for twice.
Result<CudaLibrary> OpenedLibrary() {
  static std::mutex mutex;
  static std::map<std::string, Result<CudaLibrary>> opened;  // by $PLATEAU_CUDA_LIBRARY
  const CudaSurroundings surroundings = ProcessSurroundings();
  const std::string named = surroundings.variable("PLATEAU_CUDA_LIBRARY");
  const std::lock_guard lock(mutex);
  const auto known = opened.find(named);
  if (known != opened.end()) return known->second;
  return opened.emplace(named, OpenCudaLibrary(surroundings)).first->second;
}

}  // namespace

CudaAnswer AskCuda() {
  CudaAnswer answer;
  const auto library = OpenedLibrary();
  answer.compiled_in = kBuiltWithCuda || library.has_value();
  if (!library) {
    const ErrorCode code = library.error().code;
    const bool absent = !kBuiltWithCuda && code == ErrorCode::kNotFound;
    answer.unusable = code == ErrorCode::kInvalidInput || code == ErrorCode::kCorrupt;
    answer.reason = absent ? "this build has no CUDA (nvcc was not found when it was configured)" : library.error().message;
    return answer;
  }
  answer.library = library->path;
  answer.libraries = library->libraries;
  answer.missing = library->missing;
  answer.table = library->table;
  try {
    for (const auto& device : answer.table->devices(answer.reason, answer.versions))
      answer.devices.push_back({device.name, device.memory_bytes, device.capability, device.identity});
  } catch (const std::exception& fault) {
    answer.devices.clear();
    answer.reason = fault.what();
  }
  if (answer.devices.empty() && answer.reason.empty()) answer.reason = "the CUDA driver reports no device";
  return answer;
}

Result<DeviceChoice> ChooseDevice(DeviceKind wanted, int local_rank, const std::string& field) {
  if (wanted == DeviceKind::kCpu) return DeviceChoice{.reason = "the CPU"};
  const CudaAnswer answer = AskCuda();
  if (answer.devices.empty()) {
    if (wanted == DeviceKind::kCuda && GotAGpu())
      return Fail(ErrorCode::kUnavailable,
                  "{}: cuda cannot be had, though the coordinator gave this rank a GPU: {}; its host's GPUs have changed, or "
                  "--gpus claims one that is not there: look at `plateau-worker devices` on the host",
                  field, answer.reason);
    if (wanted == DeviceKind::kCuda)
      return Fail(ErrorCode::kUnsupported, "{}: cuda cannot be had: {}; use auto or cpu", field, answer.reason);
    return DeviceChoice{.reason = "the CPU: " + answer.reason};
  }
  const auto count = static_cast<int>(answer.devices.size());
  const int device = local_rank % count;
  return DeviceChoice{true, device, count,
                      fmt::format("{} (device {} of {})", answer.devices[static_cast<size_t>(device)].name, device, count)};
}

int LocalRank() { return RankFrom({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}); }

Result<Precision> ChoosePrecision(const DeviceChoice& device, const std::optional<Precision>& wanted, const std::string& field) {
  if (!wanted) return device.cuda ? Precision::kBf16 : Precision::kFp32;
  if (!device.cuda && *wanted != Precision::kFp32)
    return Fail(ErrorCode::kUnsupported, "{}: {} needs a CUDA device, and this runs on {}; use fp32 or auto", field,
                PrecisionName(*wanted), device.reason);
  return *wanted;
}

Result<Compute> ChooseTogether(Collective& collective, DeviceKind wanted, const std::optional<Precision>& precision,
                               const std::string& device_field, const std::string& precision_field) {
  auto mine = ChooseDevice(wanted, LocalRank(), device_field);
  const bool without = !mine || (!mine->cuda && wanted != DeviceKind::kCpu);
  // The lowest rank without a device speaks for all.
  const int ranks = collective.world_size();
  std::vector<int64_t> lacking(static_cast<size_t>(ranks));
  lacking[static_cast<size_t>(collective.rank())] = without ? 1 : 0;
  collective.AllReduceSum(std::span<int64_t>(lacking));
  Compute compute;
  const auto first = std::find(lacking.begin(), lacking.end(), 1);
  if (first != lacking.end()) {
    const int speaker = static_cast<int>(first - lacking.begin());
    const std::string own = mine ? mine->reason : mine.error().message;
    std::string reason = collective.BroadcastText(own, speaker);
    if (ranks > 1) reason += fmt::format(" (rank {})", speaker);
    if (wanted == DeviceKind::kCuda) return Fail(GotAGpu() ? ErrorCode::kUnavailable : ErrorCode::kUnsupported, "{}", reason);
    compute.device = DeviceChoice{.reason = reason};
  } else {
    compute.device = std::move(*mine);
  }
  PLATEAU_ASSIGN(compute.precision, ChoosePrecision(compute.device, precision, precision_field));
  return compute;
}

Status CheckCollective(const DeviceChoice& device, CollectiveKind wanted, const std::string& field) {
  if (device.cuda || wanted != CollectiveKind::kNccl) return {};
  return Fail(ErrorCode::kUnsupported, "{}: nccl joins CUDA devices, and this runs on {}; use mpi or auto", field, device.reason);
}

Result<std::unique_ptr<Engine>> CreateEngine(const DeviceChoice& device, Network network, EngineOptions options) {
  if (!device.cuda) {
    PLATEAU_TRY(ChoosePrecision(device, options.precision, "precision"));
    return CreateCpuEngine(std::move(network), options);
  }
  const CudaAnswer answer = AskCuda();
  if (answer.table == nullptr || answer.devices.empty())
    return Fail(ErrorCode::kUnsupported, "device: cuda is gone: {}", answer.reason);
  options.device = device.device;
  try {
    return answer.table->create_engine(std::move(network), options);
  } catch (const Failure& failure) {
    return Fail(Error{failure.code(), failure.what()});
  }
}

}  // namespace plateau
