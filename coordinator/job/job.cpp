// Names of the job states and what they imply.
#include "coordinator/job/job.h"

#include <array>
#include <utility>

namespace plateau {
namespace {

constexpr std::array<std::pair<JobState, const char*>, 9> kNames{{{JobState::kQueued, "QUEUED"},
                                                                  {JobState::kHeld, "HELD"},
                                                                  {JobState::kStarting, "STARTING"},
                                                                  {JobState::kRunning, "RUNNING"},
                                                                  {JobState::kStopping, "STOPPING"},
                                                                  {JobState::kPaused, "PAUSED"},
                                                                  {JobState::kCompleted, "COMPLETED"},
                                                                  {JobState::kFailed, "FAILED"},
                                                                  {JobState::kCancelled, "CANCELLED"}}};

}  // namespace

const char* JobStateName(JobState state) {
  for (const auto& [value, name] : kNames)
    if (value == state) return name;
  return "QUEUED";
}

std::optional<JobState> JobStateFromName(const std::string& name) {
  for (const auto& [value, known] : kNames)
    if (name == known) return value;
  return std::nullopt;
}

bool HasProcesses(JobState state) {
  return state == JobState::kStarting || state == JobState::kRunning || state == JobState::kStopping;
}

bool IsEnded(JobState state) {
  return state == JobState::kCompleted || state == JobState::kFailed || state == JobState::kCancelled;
}

}  // namespace plateau
