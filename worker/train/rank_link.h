// How a rank that a coordinator launched speaks with it, and how it leaves alone.
#pragma once

#include <memory>
#include <string>

#include "worker/collective/collective.h"
#include "worker/train/coordinator_link.h"

namespace plateau {

// How long a rank that has finished waits for a coordinator that is away: hours of work hang on its last message.
inline constexpr int64_t kFarewellMs = 600'000;

// The line of a rank; `token` of its attempt, where it is empty that of the environment (kTokenVariable), as launched ranks have
// it; kInvalidInput where neither is there. nullptr when `coordinator` is empty. A rank whose attempt is refused ends at once.
Result<std::unique_ptr<CoordinatorLink>> OpenRankLink(const std::string& coordinator, const std::string& job, int attempt, int rank,
                                                      const Pulse& pulse, StopFlag& stop, const std::string& token = "");

// Failed.reason of an error: "BAD_INPUT", "NAN_LOSS", "IO" or "INTERNAL".
std::string FailureReason(ErrorCode code);
Failed FailureOf(const Error& error, int64_t step);

// Tells the coordinator, as NO_GPU, that the GPU which the launch gave this rank does not answer: it then gives that one to nobody. Each
// rank speaks for itself; to go on without it is refused later, by all together. Nothing is said where it answers or none was given.
void TellMissingGpu(CoordinatorLink* link);

// A fault of this rank alone: the others cannot be asked, so the whole group is ended. Tells the coordinator first.
[[noreturn]] void LeaveAlone(Collective& world, std::unique_ptr<CoordinatorLink> link, const Pulse& pulse, const Error& error);

}  // namespace plateau
