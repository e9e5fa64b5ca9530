// Judging dependencies one by one, and finding checkpoints of other jobs.
#include "coordinator/job/dependencies.h"

#include <cmath>

#include "common/text.h"

namespace plateau {
namespace {

constexpr const char* kWaiting = "WAITING_FOR_JOBS";
constexpr const char* kFailed = "DEPENDENCY_FAILED";
constexpr const char* kHeld = "DEPENDENCY_HELD";
constexpr const char* kNotNeeded = "NOT_NEEDED";

DependencyVerdict Blocked(const char* reason, std::string message) { return {Readiness::kBlocked, reason, std::move(message)}; }

DependencyVerdict Never(std::string message) { return {Readiness::kNever, kNotNeeded, std::move(message)}; }

DependencyVerdict Judge(const Dependency& dependency, const Job* other) {
  const std::string& id = dependency.job;
  if (other == nullptr) return Blocked(kFailed, fmt::format("it depends on job {}, which does not exist; cancel this job", id));
  const char* state = JobStateName(other->state);
  const bool held = other->state == JobState::kHeld && IsDependencyReason(other->reason);
  if (held) return Blocked(kHeld, fmt::format("it depends on job {}, which is held: {}", id, other->message));
  const bool completed = other->state == JobState::kCompleted, failed = other->state == JobState::kFailed;
  switch (dependency.condition) {
    case DependencyCondition::kCompleted:
      if (completed) return {};
      if (IsNotNeeded(*other)) return Never(fmt::format("not needed: it was to follow job {}, which was not needed", id));
      if (IsEnded(other->state))
        return Blocked(kFailed, fmt::format("it depends on job {}, which is {} ({}); `plateau resume {}` releases this job when that one "
                                            "completes", id, state, other->reason, id));
      break;
    case DependencyCondition::kEnded:
      if (IsEnded(other->state)) return {};
      break;
    case DependencyCondition::kFailed:
      if (failed) return {};
      if (completed || IsNotNeeded(*other)) return Never(fmt::format("not needed: it was to run only if job {} failed, and that one is {}", id, state));
      if (IsEnded(other->state))
        return Blocked(kFailed, fmt::format("it is to run only if job {} fails, and that one is {}; cancel this job", id, state));
      break;
  }
  return {Readiness::kWaits, kWaiting, id};
}

// The folder of the checkpoint that `pick` means.
Result<std::string> CheckpointOf(const std::string& id, CheckpointPick pick, const JobLookup& find) {
  const Job* job = find(id);
  if (job == nullptr) return Fail(ErrorCode::kNotFound, "job {}, whose checkpoint is wanted, does not exist", id);
  const CheckpointRecord* chosen = nullptr;
  for (const auto& one : job->checkpoints) {
    if (pick == CheckpointPick::kFinal) chosen = &one;  // the last is current
    else if (one.validation > 0 && !std::isnan(one.metric) && (chosen == nullptr || one.metric < chosen->metric)) chosen = &one;
  }
  if (chosen == nullptr)
    return Fail(ErrorCode::kNotFound, "job {} has no {}checkpoint to start from; {}resume job {} and then this one", id,
                pick == CheckpointPick::kBest ? "validated " : "", pick == CheckpointPick::kBest ? "use pick: final in a new job, or " : "", id);
  return job->OutputFolder() + "/" + chosen->path;
}

}  // namespace

bool IsDependencyReason(const std::string& reason) { return reason == kWaiting || reason == kFailed || reason == kHeld; }

bool IsNotNeeded(const Job& job) { return job.state == JobState::kCancelled && job.reason == kNotNeeded; }

DependencyVerdict JudgeDependencies(const JobSpec& spec, const JobLookup& find) {
  std::vector<std::string> waits;
  DependencyVerdict blocked;
  for (const auto& dependency : AllDependencies(spec)) {
    DependencyVerdict verdict = Judge(dependency, find(dependency.job));
    if (verdict.readiness == Readiness::kNever) return verdict;
    if (verdict.readiness == Readiness::kWaits) waits.push_back(verdict.message);
    // The failure itself says more than a job that is held by one.
    const bool tells_more = blocked.readiness == Readiness::kReady || (blocked.reason == kHeld && verdict.reason == kFailed);
    if (verdict.readiness == Readiness::kBlocked && tells_more) blocked = std::move(verdict);
  }
  if (blocked.readiness == Readiness::kBlocked) return blocked;
  if (waits.empty()) return {};
  return {Readiness::kWaits, kWaiting, "waiting for " + JoinNames(waits)};
}

Result<JobSpec> ResolveSources(const JobSpec& spec, const JobLookup& find) {
  JobSpec resolved = spec;
  if (auto& from = resolved.model.init_from; from && !from->job.empty()) {
    PLATEAU_ASSIGN(from->checkpoint, CheckpointOf(from->job, from->pick, find));
    from->job.clear();
    from->pick = CheckpointPick::kFinal;
  }
  if (auto& test = resolved.evaluate; !test.job.empty()) {
    PLATEAU_ASSIGN(test.checkpoint, CheckpointOf(test.job, test.pick, find));
    test.job.clear();
    test.pick = CheckpointPick::kFinal;
  }
  return resolved;
}

}  // namespace plateau
