// From the launch's list to this process's environment, and whether there is what was granted.
#include "worker/backend/device/granted_gpu.h"

#include <cstdlib>
#include <cstring>

#include "common/gpus.h"
#include "worker/backend/device/device.h"
#include "worker/backend/device/launch_rank.h"

namespace plateau {

Result<std::optional<std::string>> TakeGrantedGpu() {
  const char* grant = std::getenv(kGpusVariable);
  if (grant == nullptr) return std::optional<std::string>();
  PLATEAU_ASSIGN(std::string id, GrantOf(grant, RankFrom({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})));
  ::setenv("CUDA_VISIBLE_DEVICES", id.c_str(), 1);
  return std::optional(std::move(id));
}

bool GotAGpu() {
  const char* grant = std::getenv(kGpusVariable);
  return grant != nullptr && std::strcmp(grant, kNoGpus) != 0;
}

std::string WhyGrantedGpuIsMissing() {
  if (!GotAGpu()) return "";
  const CudaAnswer answer = AskCuda();
  return answer.devices.empty() ? answer.reason : "";
}

}  // namespace plateau
