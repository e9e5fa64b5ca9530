// Opens a launched rank's line to its coordinator.
#include "worker/train/rank_link.h"

#include <cstdlib>

#include "common/log.h"
#include "worker/backend/device/granted_gpu.h"

namespace plateau {

Result<std::unique_ptr<CoordinatorLink>> OpenRankLink(const std::string& coordinator, const std::string& job, int attempt, int rank,
                                                      const Pulse& pulse, StopFlag& stop, const std::string& token) {
  if (coordinator.empty()) return std::unique_ptr<CoordinatorLink>();
  const char* inherited = std::getenv(kTokenVariable);
  const LinkOptions link{.address = coordinator,
                         .job = job,
                         .token = token.empty() && inherited != nullptr ? inherited : token,
                         .attempt = attempt,
                         .rank = rank};
  if (link.token.empty())
    return Fail(ErrorCode::kInvalidInput,
                "${} is not set, and the coordinator at {} knows attempt {} of {} by it; mpirun hands it on with -x {}",
                kTokenVariable, coordinator, attempt, job, kTokenVariable);
  return CoordinatorLink::Open(link, pulse, stop, [](const std::string& reason) {
    LogError("the coordinator refuses this attempt: {}; leaving at once, nothing more is written", reason);
    std::_Exit(1);
  });
}

std::string FailureReason(ErrorCode code) {
  if (ExitCode(code) == 2) return "BAD_INPUT";
  if (code == ErrorCode::kNumeric) return "NAN_LOSS";
  return code == ErrorCode::kIo || code == ErrorCode::kCorrupt ? "IO" : "INTERNAL";
}

Failed FailureOf(const Error& error, int64_t step) {
  const std::string reason = FailureReason(error.code);
  return {.reason = reason, .message = error.message, .step = step, .retry = reason != "NAN_LOSS" && reason != "BAD_INPUT"};
}

void TellMissingGpu(CoordinatorLink* link) {
  if (link == nullptr) return;
  const std::string why = WhyGrantedGpuIsMissing();
  if (!why.empty()) link->Fail({.reason = "NO_GPU", .message = why, .retry = false});
}

void LeaveAlone(Collective& world, std::unique_ptr<CoordinatorLink> link, const Pulse& pulse, const Error& error) {
  LogError("{}", error.message);
  if (link) link->Fail(FailureOf({error.code, fmt::format("rank {}: {}", world.rank(), error.message)}, pulse.step));
  link.reset();  // gives the message time to leave
  world.Abort(ExitCode(error.code));
  std::_Exit(ExitCode(error.code));  // not reached
}

}  // namespace plateau
