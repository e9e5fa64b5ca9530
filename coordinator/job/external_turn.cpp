// Attempts that the user's own mpirun started: begun by a registration, ended by what the ranks say or by their silence.
#include <utility>

#include "coordinator/job/turn.h"

namespace plateau {
namespace {

std::string Advice(const Job& job) {
  return fmt::format("run the same mpirun again with --job {}: it goes on from the newest checkpoint", job.id);
}

// Ranks that follow each other on one host share it.
std::vector<NodeShare> SharesOf(const std::vector<std::string>& hosts) {
  std::vector<NodeShare> shares;
  for (const auto& host : hosts) {
    if (shares.empty() || shares.back().node != host) shares.push_back({.node = host, .workers = 0});
    shares.back().workers += 1;
  }
  return shares;
}

}  // namespace

// Empty when the registration can become the job's next attempt.
std::string Turn::WhyNotRegistered(const AttemptRegistered& event) {
  if (job().attempts.empty() && job().created_ms == 0) return "";  // a new job
  if (HasProcesses(job().state))
    return fmt::format(
        "attempt {} of job {} is {}: cancel the job, or wait for the attempt's end (silent ranks are given up after "
        "fault.hang_timeout, {:g} s)",
        job().Current()->number, job().id, JobStateName(job().state), job().spec->fault.hang_timeout_s);
  if (job().state == JobState::kCompleted) return fmt::format("job {} is COMPLETED; leave out --job to begin a new one", job().id);
  if (job().state == JobState::kQueued || job().state == JobState::kHeld)
    return fmt::format("job {} is {} and will be started by the coordinator; cancel it first", job().id, JobStateName(job().state));
  if (event.spec->name != job().spec->name || event.spec->output != job().spec->output)
    return fmt::format("job {} has the name {} and the output {}; this specification has {} and {}", job().id, job().spec->name,
                       job().spec->output, event.spec->name, event.spec->output);
  return "";
}

void Turn::On(const AttemptRegistered& event) {
  if (std::string why = WhyNotRegistered(event); !why.empty()) return Refuse(std::move(why));
  if (job().created_ms == 0) On(Submitted{});
  job().spec = event.spec;  // its user may have changed what a resume may change
  job().state = JobState::kQueued;
  job().stop = StopTarget::kNone;
  job().ended_ms = 0;
  job().restarts = 0;
  job().ran_ms = 0;
  const auto shares = SharesOf(event.run.hosts);
  Record("registered", fmt::format("its user's own mpirun runs it {}", DescribeShares(shares)));
  On(StartGranted{.token = event.token, .shares = shares, .external_key = event.run.key});
  Do(ReplyToWorker{Registered{job().id, job().Current()->number, event.token}});
}

// There are no processes of ours: whatever still runs is refused from now on, and leaves at once.
void Turn::EndExternal(const std::string& how) { On(AttemptExited{job().Current()->number, -1, 0, how}); }

// In place of a restart.
void Turn::LeaveExternal(const std::string& reason, const std::string& why) {
  if (job().Current()->finished == "STOPPED")
    return End(JobState::kPaused, "STOPPED", fmt::format("stopped by its user; {}; {}", StoppedHow(), Advice(job())));
  End(JobState::kFailed, reason, fmt::format("{}; {}", why, Advice(job())));
}

void Turn::RefuseResume() { Refuse(fmt::format("job {} runs under its user's own mpirun; {}", job().id, Advice(job()))); }

// Ranks of a finished attempt beat until they have left MPI. Refused, they would end with an error.
bool Turn::AnswerFarewell(const WorkerSaid& event) {
  const Attempt* last = job().Current();
  const bool theirs = IsExternal() && last->number == event.sender.attempt && !last->finished.empty() && last->state == "ENDED" &&
                      SameSecret(event.sender.token, last->token);
  if (!theirs) return false;
  const auto* finished = std::get_if<Finished>(&event.message);
  if (finished != nullptr) Do(ReplyToWorker{Published{finished->step}});
  if (std::holds_alternative<Heartbeat>(event.message)) Do(ReplyToWorker{HeartbeatReply{}});
  return finished != nullptr || std::holds_alternative<Heartbeat>(event.message);
}

}  // namespace plateau
