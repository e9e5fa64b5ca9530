// Runs that the user's own mpirun started and that ask to be jobs of this coordinator.
#include <algorithm>

#include "common/log.h"
#include "coordinator/control_loop.h"
#include "coordinator/job/turn.h"

namespace plateau {

// A repeated question, whose answer was lost, finds the attempt that the first one made.
std::shared_ptr<const Job> ControlLoop::FindRegistered(const std::string& key) const {
  for (const auto& job : All())
    if (const Attempt* attempt = job->Current(); attempt != nullptr && attempt->external && attempt->key == key) return job;
  return nullptr;
}

// The id of the job that the run asks for: a new one, or the one it names.
Result<std::string> ControlLoop::JobToRegister(const std::string& named, const JobSpec& spec) {
  if (named.empty()) return ClaimJobId(spec);
  if (Find(named) == nullptr)
    return Fail(ErrorCode::kNotFound, "job {} is not known to this coordinator; leave out --job for a new one", named);
  return named;
}

Status ControlLoop::RegisterRun(const LinkMessage& message, const Register& run, const Peer& peer) {
  if (!SameSecret(message.sender.token, options_.join_token))
    return Fail(ErrorCode::kConflict, "wrong join token; --token must name a copy of {}/join-token", options_.state_folder);
  if (run.key.empty() || run.hosts.empty())
    return Fail(ErrorCode::kInvalidInput, "a registration needs a key and the hosts of its ranks");
  if (const auto known = FindRegistered(run.key)) {
    if (hands_.link != nullptr)
      hands_.link->Reply(peer.identity, peer.request, Registered{known->id, known->Current()->number, known->Current()->token});
    return {};
  }
  PLATEAU_ASSIGN(JobSpec parsed, ParseJobSpecText(run.spec, "the registered specification", true));
  if (parsed.resources.workers != static_cast<int>(run.hosts.size()))
    return Fail(ErrorCode::kInvalidInput, "{} hosts for {} workers", run.hosts.size(), parsed.resources.workers);
  if (const auto waits = AllDependencies(parsed); !waits.empty())
    return Fail(ErrorCode::kInvalidInput, "a run that is started by hand cannot wait for job {}; give checkpoints in the place of jobs, and no "
                "depends_on", waits.front().job);
  const auto spec = std::make_shared<const JobSpec>(std::move(parsed));
  PLATEAU_ASSIGN(const std::string id, JobToRegister(message.sender.job, *spec));
  const bool fresh = message.sender.job.empty();
  if (fresh) {
    Job job;
    job.id = id;
    job.spec = spec;
    Show(std::make_shared<const Job>(job));
  }
  auto applied = Apply(id, AttemptRegistered{NewToken(), run, spec}, {clock_.NowMs(), message.heard_ms}, &peer);
  if (fresh) {
    const std::lock_guard lock(jobs_mutex_);
    if (applied)
      order_.push_back(id);
    else
      jobs_.erase(id);
  }
  return applied;
}

}  // namespace plateau
