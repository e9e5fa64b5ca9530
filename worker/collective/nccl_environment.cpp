// Names NCCL's algorithm and protocol in the environment.
#include "worker/collective/nccl_environment.h"

#include <cstdlib>

namespace plateau {
namespace {

constexpr const char* kAlgorithm = "NCCL_ALGO";
constexpr const char* kProtocol = "NCCL_PROTO";

}  // namespace

void FixNcclAlgorithm() {
  setenv(kAlgorithm, "Ring", 0);
  setenv(kProtocol, "Simple", 0);
}

bool NcclAlgorithmIsFixed() { return std::getenv(kAlgorithm) != nullptr && std::getenv(kProtocol) != nullptr; }

}  // namespace plateau
