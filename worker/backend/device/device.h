// Which device an engine runs on: chosen at run time, with the reason. CUDA's code sits in a shared object that is opened when it is
// wanted, so that one package serves machines with and without CUDA.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/compute.h"
#include "common/error.h"
#include "worker/backend/cuda/plugin.h"
#include "worker/collective/collective.h"
#include "worker/nn/plan.h"

namespace plateau {

struct DeviceInfo {
  std::string name;          // "NVIDIA H200"
  uint64_t memory_bytes = 0;
  int capability = 0;        // 90 for sm_90
  std::string identity = {};  // of this device among those of its machine, the same for all processes
};

struct CudaAnswer {
  bool compiled_in = false;
  std::string library;   // path of the shared object that was opened, empty when none was
  std::string versions;  // "driver 13.0, CUDA 13.0, cuDNN 9.19.0, cuBLASLt 13.1, NCCL 2.28.9"
  std::vector<DeviceInfo> devices;
  std::string reason;    // why there is no device, for people, with the remedy; empty when there is one
  // The shared object that the user named, or the one that lies where it belongs, is none of this program's: no machine would do.
  bool unusable = false;
  std::vector<std::pair<std::string, std::string>> libraries;  // of CUDA: name, and the file it was loaded from
  std::vector<std::string> missing;  // optional ones that were not found
  // What the opened shared object offers, valid until the process ends; nullptr when none was opened.
  const cuda::PluginTable* table = nullptr;
};

// Opens the shared object (once a process) and asks the driver each time. Never throws.
CudaAnswer AskCuda();

// The device for `wanted` by the rule of resources.device: cuda is refused where none answers (kUnsupported, with the reason;
// kUnavailable where the launch gave this rank a GPU, common/gpus.h), auto takes CUDA when a device answers, else the CPU and says why in `reason`. `local_rank` (of this rank among those on its host) picks
// the device: ranks are spread over the devices in turn. `field`, where the wish was said ("resources.device", "--device"), stands at the
// front of the message.
struct DeviceChoice {
  bool cuda = false;
  int device = 0;
  int devices = 0;     // that this process sees
  std::string reason;  // "the CPU: no CUDA driver ...", "NVIDIA H200 (device 0 of 1)"
};
Result<DeviceChoice> ChooseDevice(DeviceKind wanted, int local_rank, const std::string& field);

// This process's number among those of its job on its host, as mpirun or srun tell it; 0 without them.
int LocalRank();

// `wanted`, else bf16 on CUDA and fp32 on the CPU; kUnsupported for what the chosen device cannot do. `field` stands at the front of
// the message ("training.precision").
Result<Precision> ChoosePrecision(const DeviceChoice& device, const std::optional<Precision>& wanted, const std::string& field);
// What an engine is made with, chosen for this process. The default is the CPU.
struct Compute {
  DeviceChoice device;
  Precision precision = Precision::kFp32;
};

// Collective: ChooseDevice and ChoosePrecision for ranks that must compute alike. With auto, a rank without a device takes all to the
// CPU; the reason is that rank's. Errors are the same on every rank.
Result<Compute> ChooseTogether(Collective& collective, DeviceKind wanted, const std::optional<Precision>& precision,
                               const std::string& device_field, const std::string& precision_field);

// Refuses NCCL on the CPU, likewise.
Status CheckCollective(const DeviceChoice& device, CollectiveKind wanted, const std::string& field);

// The engine on that device. Errors: those of CreateCpuEngine; out of memory names the largest batch that fits.
Result<std::unique_ptr<Engine>> CreateEngine(const DeviceChoice& device, Network network, EngineOptions options);

}  // namespace plateau
