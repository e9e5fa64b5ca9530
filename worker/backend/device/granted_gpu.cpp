// From the launch's list to this process's environment.
#include "worker/backend/device/granted_gpu.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "common/gpus.h"

namespace plateau {
namespace {

int WorldRank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    const char* text = std::getenv(name);
    int rank = 0;
    if (text == nullptr) continue;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), rank);
    if (error == std::errc() && *end == '\0' && rank >= 0) return rank;
  }
  return 0;
}

}  // namespace

Result<std::optional<std::string>> TakeGrantedGpu() {
  const char* grant = std::getenv(kGpusVariable);
  if (grant == nullptr) return std::optional<std::string>();
  PLATEAU_ASSIGN(std::string id, GrantOf(grant, WorldRank()));
  ::setenv("CUDA_VISIBLE_DEVICES", id.c_str(), 1);
  return std::optional(std::move(id));
}

}  // namespace plateau
