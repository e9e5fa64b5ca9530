// What a job waits for: the ends of others, and their checkpoints. Pure.
#pragma once

#include <functional>
#include <string>

#include "coordinator/job/job.h"

namespace plateau {

// kBlocked: it cannot start as things are, a resumed job can change that. kNever: it waits for what can no longer come.
enum class Readiness { kReady, kWaits, kBlocked, kNever };

struct DependencyVerdict {
  Readiness readiness = Readiness::kReady;
  std::string reason;   // "WAITING_FOR_JOBS", "DEPENDENCY_FAILED", "DEPENDENCY_HELD", "NOT_NEEDED"; empty when ready
  std::string message;  // names the jobs, and what to do
};

// Null: no such job.
using JobLookup = std::function<const Job*(const std::string& id)>;

// A job that is held by its own dependencies holds its dependants too; one that is not needed makes those that want it to complete
// or to fail not needed.
DependencyVerdict JudgeDependencies(const JobSpec& spec, const JobLookup& find);
// Whether `reason` is one of a job that waits for others or is held by them.
bool IsDependencyReason(const std::string& reason);
// CANCELLED because it was to run only if another job failed, which did not.
bool IsNotNeeded(const Job& job);

// The specification with the folders of checkpoints in the place of jobs (model.init_from, evaluate): <output of the job>/<path>.
// kNotFound names a job that is unknown or has no published checkpoint (pick: best: none with a validation).
Result<JobSpec> ResolveSources(const JobSpec& spec, const JobLookup& find);

}  // namespace plateau
