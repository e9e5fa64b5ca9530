// The life of a job: queued, started, stopped, restarted, ended.
#include "coordinator/job/machine.h"

#include <algorithm>

#include "common/text.h"
#include "coordinator/job/hang.h"
#include "coordinator/job/hosts.h"
#include "coordinator/job/job_view.h"
#include "coordinator/job/turn.h"

namespace plateau {
namespace {

// True while running on is what the job does: nobody has asked it to leave, and it has neither finished nor failed.
bool LimitCounts(const Job& job) {
  return HasProcesses(job.state) && job.stop == StopTarget::kNone && job.Current()->finished.empty() &&
         job.Current()->reason.empty();
}

}  // namespace

Outcome Advance(Job job, const JobEvent& event, Moment now, const MachineLimits& limits) {
  Turn turn(std::move(job), now, limits);
  std::visit([&turn](const auto& one) { turn.On(one); }, event);
  return turn.Take();
}

std::optional<int64_t> NextDeadline(const Job& job, const MachineLimits& limits) {
  std::optional<int64_t> next;
  const auto consider = [&next](int64_t at_ms) { next = next ? std::min(*next, at_ms) : at_ms; };
  if (job.state == JobState::kQueued && job.not_before_ms > 0) consider(job.not_before_ms);
  if (HasProcesses(job.state) && job.stop_deadline_ms > 0) consider(job.stop_deadline_ms);
  if (job.limit_deadline_ms > 0 && LimitCounts(job)) consider(job.limit_deadline_ms);
  if (const auto verdict_ms = NextHangVerdictMs(job, limits)) consider(*verdict_ms);
  return next;
}

void Turn::Kill() {
  if (IsExternal()) return EndExternal("its ranks are refused from now on");
  job().kill_sent = true;
  job().stop_deadline_ms = 0;
  const std::string& reason = job().Current()->reason;
  Do(KillAttempt{job().Current()->number, reason == "HANG" || reason == "LOST_HOST"});
}

void Turn::ArmWorkers() {
  job().workers.clear();
  for (int rank = 0; rank < WorldSize(job()); ++rank)
    job().workers.push_back(WorkerView{.rank = rank, .heard_ms = now_.monotonic_ms});
}

// `already_ms`: how long the current attempt has run.
void Turn::ArmTimeLimit(int64_t already_ms) {
  const auto limit_ms = static_cast<int64_t>(job().spec->resources.time_limit_s * 1000);
  if (limit_ms > 0) job().limit_deadline_ms = now_.monotonic_ms + std::max<int64_t>(1, limit_ms - job().ran_ms - already_ms);
}

void Turn::Sweep(bool attempt_runs) {
  if (job().attempts.empty()) return;
  SweepAttempts sweep{job().Current()->number + (attempt_runs ? 0 : 1), {}};
  for (const auto& checkpoint : job().checkpoints) sweep.keep.push_back(checkpoint.path);
  // Until current.json shows the newest one it may name a checkpoint that is to be removed.
  if (job().publish_pending) sweep.keep.insert(sweep.keep.end(), job().removals_pending.begin(), job().removals_pending.end());
  Do(std::move(sweep));
}

void Turn::End(JobState state, std::string reason, std::string message) {
  job().state = state;
  job().reason = std::move(reason);
  job().message = std::move(message);
  job().ended_ms = now_.unix_ms;
  job().stop = StopTarget::kNone;
  job().checkpoint_ordered = false;
  std::string type = JobStateName(state);
  std::transform(type.begin(), type.end(), type.begin(), [](char c) { return static_cast<char>(c + ('a' - 'A')); });
  Record(type, job().message, {{"reason", job().reason}});
}

void Turn::On(const Submitted&) {
  job().state = JobState::kQueued;
  job().reason = "SUBMITTED";
  job().message = "waiting to be started";
  job().created_ms = job().queued_ms = now_.unix_ms;
  job().lr = InitialLrState(job().spec->lr);
  const std::string what = job().Trains() ? job().spec->model.network : fmt::format("evaluation ({})", EvaluationModeName(job().spec->evaluate.mode));
  Record("submitted", fmt::format("submitted: {} on {} worker(s)", what, job().spec->resources.workers));
}

void Turn::On(const StartGranted& event) {
  if (job().state != JobState::kQueued && job().state != JobState::kHeld) return;
  Attempt attempt;
  attempt.number = static_cast<int>(job().attempts.size()) + 1;
  attempt.token = event.token;
  attempt.external = !event.external_key.empty();
  attempt.key = event.external_key;
  attempt.shares = event.shares;
  attempt.device = event.device;
  attempt.device_why = event.why;
  attempt.started_ms = now_.unix_ms;
  job().attempts.push_back(attempt);
  job().state = JobState::kStarting;
  job().reason = "STARTING";
  job().message = fmt::format("attempt {} is starting", attempt.number);
  if (job().started_ms == 0) job().started_ms = now_.unix_ms;
  job().not_before_ms = job().stop_deadline_ms = 0;
  job().kill_sent = false;
  ArmWorkers();
  ArmTimeLimit(0);
  if (attempt.external) return Sweep(true);
  Record("starting",
         fmt::format("attempt {} starts {}{}{}", attempt.number, DescribeShares(attempt.shares), event.why.empty() ? "" : "; ",
                     event.why),
         {{"device", attempt.device}});
  if (job().publish_pending) Publish();
  Sweep(true);
  Do(LaunchAttempt{attempt.number});
}

void Turn::On(const Launched& event) {
  if (!IsCurrent(event.attempt)) return;
  Record("launched", fmt::format("attempt {} is under supervisor {}", event.attempt, event.supervisor_pid),
         {{"supervisor_pid", event.supervisor_pid}});
}

void Turn::On(const LaunchFailed& event) {
  if (!IsCurrent(event.attempt)) return;
  EndAttempt("LAUNCH_FAILED", event.message, -1);
  if (job().stop != StopTarget::kNone) return EndStopped(event.message);
  if (!event.retry) return End(JobState::kFailed, "LAUNCH_FAILED", event.message);
  RestartOrFail("LAUNCH_FAILED", event.message);
}

void Turn::EndAttempt(const std::string& reason, const std::string& message, int exit_code) {
  Attempt& attempt = *job().Current();
  if (attempt.finished.empty()) DoubtHostsOfEnd();
  attempt.state = "ENDED";
  if (attempt.reason.empty()) attempt.reason = reason;
  if (attempt.message.empty()) attempt.message = message;
  attempt.ended_ms = now_.unix_ms;
  attempt.exit_code = exit_code;
  job().ran_ms += std::max<int64_t>(0, attempt.ended_ms - attempt.started_ms);
  job().workers.clear();
  job().stop_deadline_ms = job().limit_deadline_ms = 0;
  job().kill_sent = false;
  job().curve.images_per_s = 0;
  Record("attempt_ended", fmt::format("attempt {} ended: {}", attempt.number, attempt.message),
         {{"reason", attempt.reason}, {"exit_code", int64_t{exit_code}}});
  if (job().publish_pending) Publish();  // no rank is left to report it again
  Sweep(false);
}

// What an exit means when no message of a rank said more (the exit codes are those of plateau-worker train).
static std::string ExitReason(const AttemptExited& event) {
  if (event.signal != 0) return fmt::format("SIGNAL_{}", event.signal);
  if (event.exit_code == 3) return "NAN_LOSS";
  if (event.exit_code == 2) return "BAD_INPUT";
  return event.exit_code < 0 ? "LOST" : fmt::format("EXIT_{}", event.exit_code);
}

// An attempt that is stopped behind a step writes a checkpoint; one that had done none, while it chose algorithms say, has nothing
// to write.
std::string Turn::StoppedHow() {
  const auto& checkpoints = job().checkpoints;
  const bool wrote =
      !checkpoints.empty() && checkpoints.back().path.starts_with(fmt::format("attempt-{}/", job().Current()->number));
  return wrote ? "a checkpoint was written" : "the attempt had not begun its first step";
}

void Turn::On(const AttemptExited& event) {
  if (!IsCurrent(event.attempt)) return;
  Attempt& attempt = *job().Current();
  const bool unexplained = attempt.reason.empty() && attempt.finished.empty();
  if (unexplained && (event.exit_code == 2 || event.exit_code == 3) && event.signal == 0) attempt.retry = false;
  const std::string finished = attempt.finished;
  const bool silent_zero = event.exit_code == 0 && event.signal == 0;
  const std::string how = event.message + (silent_zero ? ", but rank 0 had not said that training was finished" : "");
  EndAttempt(finished.empty() ? ExitReason(event) : "FINISHED", finished.empty() ? how : "finished: " + finished, event.exit_code);
  const Attempt& ended = *job().Current();
  if (!finished.empty() && finished != "STOPPED") {
    return End(JobState::kCompleted, finished, job().result.empty() ? fmt::format("training ended at step {}: {}", job().curve.step, finished)
                                                                    : EvaluationSummary(job().result));
  }
  if (job().stop != StopTarget::kNone) {
    if (!job().Trains()) return EndStopped("it begins anew when it is resumed");
    return EndStopped(finished.empty() ? "its processes were killed before they could write a last checkpoint" : StoppedHow());
  }
  if (ended.reason == kNoGpu && LostNewGpus()) return LookForOtherGpus();
  if (!ended.retry && ended.reason != kNoGpu) return End(JobState::kFailed, ended.reason, ended.message);
  RestartOrFail(ended.reason, ended.message);
}

// The state that was asked for, now that no process is left.
void Turn::EndStopped(const std::string& how) {
  switch (job().stop) {
    case StopTarget::kPause: return End(JobState::kPaused, "REQUESTED", "paused on request; " + how);
    case StopTarget::kTimeLimit:
      return End(JobState::kPaused, "TIME_LIMIT",
                 fmt::format("paused at its time limit of {} (resources.time_limit); {}; resume it for as long again",
                             HumanDuration(job().spec->resources.time_limit_s), how));
    default: return End(JobState::kCancelled, "REQUESTED", "cancelled on request; " + how);
  }
}

void Turn::RestartOrFail(const std::string& reason, const std::string& why) {
  if (IsExternal()) return LeaveExternal(reason, why);
  const double limit_s = job().spec->resources.time_limit_s;
  if (limit_s > 0 && static_cast<double>(job().ran_ms) >= limit_s * 1000) {
    job().stop = StopTarget::kTimeLimit;
    return EndStopped(why);
  }
  const int allowed = job().spec->fault.max_restarts;
  if (job().restarts >= allowed) {
    return End(
        JobState::kFailed, reason,
        fmt::format("{}; all {} restarts (fault.max_restarts) are used. Look into the logs of attempt {}, then resume the job", why,
                    allowed, job().Current()->number));
  }
  job().restarts += 1;
  const int doublings = std::min(job().restarts - 1, 20);
  const int64_t delay_ms = std::min(limits_.first_restart_delay_ms << doublings, limits_.longest_restart_delay_ms);
  job().not_before_ms = now_.monotonic_ms + delay_ms;
  job().state = JobState::kQueued;
  job().reason = "RESTARTING";
  job().message = fmt::format("{}; restart {} of {} from the newest checkpoint", why, job().restarts, allowed);
  Record("restart_scheduled", job().message,
         {{"restart", int64_t{job().restarts}}, {"delay_s", static_cast<double>(delay_ms) / 1000.0}});
}

void Turn::On(const StopRequested& event) {
  const bool pause = event.target == StopTarget::kPause;
  const JobState end = pause ? JobState::kPaused : JobState::kCancelled;
  if (IsEnded(job().state) || job().state == end)
    return Refuse(fmt::format("job {} is already {}", job().id, JobStateName(job().state)));
  if (!HasProcesses(job().state)) {
    Record("stop_requested", pause ? "pause requested" : "cancel requested");
    job().not_before_ms = 0;
    return End(end, "REQUESTED", pause ? "paused while it was not running" : "cancelled while it was not running");
  }
  if (job().stop == event.target && !pause && !job().kill_sent) {
    Record("stop_requested", "cancel requested again: its processes are killed now");
    return Kill();
  }
  AskToLeave(event.target, pause ? "PAUSE_REQUESTED" : "CANCEL_REQUESTED",
             pause ? std::string("pause requested") : std::string("cancel requested"));
  Record("stop_requested", job().message);
}

void Turn::AskToLeave(StopTarget target, std::string reason, std::string message) {
  job().stop = target;
  if (job().state != JobState::kStopping) {
    job().state = JobState::kStopping;
    job().Current()->state = "STOPPING";
    job().stop_deadline_ms = now_.monotonic_ms + limits_.stop_grace_ms;
  }
  job().reason = std::move(reason);
  job().message = fmt::format("{}: the workers {}leave, within {}", message, job().Trains() ? "write a checkpoint and " : "",
                              HumanDuration(static_cast<double>(limits_.stop_grace_ms) / 1000.0));
}

void Turn::On(const CheckpointRequested&) {
  if (!job().Trains()) return Refuse(fmt::format("job {} is an evaluation and writes no checkpoints", job().id));
  const bool trains = job().state == JobState::kStarting || job().state == JobState::kRunning;
  if (!trains || !job().Current()->finished.empty()) {
    const std::string newest = job().checkpoints.empty() ? "it has none" : "its newest is " + job().checkpoints.back().path;
    return Refuse(fmt::format("job {} is {}{}; only a job that trains writes a checkpoint on request ({})", job().id,
                              JobStateName(job().state), trains ? " and has finished training" : "", newest));
  }
  job().checkpoint_order += 1;
  job().checkpoint_ordered = true;
  Record("checkpoint_requested",
         fmt::format("checkpoint requested (order {}): it is written at the next step boundary, and training goes on",
                     job().checkpoint_order),
         {{"order", job().checkpoint_order}});
}

void Turn::On(const ResumeRequested&) {
  if (job().state == JobState::kHeld)
    return Refuse(fmt::format("job {} is HELD, not stopped: it starts by itself once what holds it is changed: {}", job().id, job().message));
  if (job().state != JobState::kFailed && job().state != JobState::kCancelled && job().state != JobState::kPaused) {
    return Refuse(
        fmt::format("job {} is {}; only a FAILED, CANCELLED or PAUSED job can be resumed", job().id, JobStateName(job().state)));
  }
  if (IsExternal()) return RefuseResume();
  if (IsNotNeeded(job())) return Refuse(fmt::format("job {} is {}; submit it as a job of its own to run it all the same", job().id, job().message));
  job().state = JobState::kQueued;
  job().reason = "RESUMED";
  job().message = job().checkpoints.empty() ? "queued again; there is no checkpoint, so it begins at step 0"
                                            : fmt::format("queued again, going on from {}", job().checkpoints.back().path);
  job().queued_ms = now_.unix_ms;
  job().ended_ms = 0;
  job().restarts = 0;
  job().ran_ms = 0;
  Record("resumed", job().message);
}

void Turn::On(const TimerFired&) {
  if (job().state == JobState::kQueued && job().not_before_ms > 0 && now_.monotonic_ms >= job().not_before_ms)
    job().not_before_ms = 0;
  if (!HasProcesses(job().state)) return;
  if (job().stop_deadline_ms > 0 && now_.monotonic_ms >= job().stop_deadline_ms) {
    Record("killing", "the processes did not leave in time and are killed");
    return Kill();
  }
  if (job().limit_deadline_ms > 0 && now_.monotonic_ms >= job().limit_deadline_ms && LimitCounts(job())) {
    AskToLeave(StopTarget::kTimeLimit, "TIME_LIMIT",
               fmt::format("it has run for its time limit of {} (resources.time_limit)",
                           HumanDuration(job().spec->resources.time_limit_s)));
    return Record("time_limit", job().message, {{"limit_s", job().spec->resources.time_limit_s}});
  }
  CheckHeartbeats();
}

void Turn::CheckHeartbeats() {
  if (!WatchesHeartbeats(job())) return;
  if (const auto lost = SilentHosts(job(), now_.monotonic_ms, limits_); !lost.empty()) {
    ConvictHosts(lost);
    return Kill();
  }
  const auto verdict = JudgeHang(job(), now_.monotonic_ms, limits_);
  if (!verdict) return;
  Attempt& attempt = *job().Current();
  attempt.reason = "HANG";
  attempt.message = verdict->message;
  attempt.state = "STOPPING";
  job().state = JobState::kStopping;
  job().reason = "HANG";
  job().message = verdict->message;
  Record("hang", verdict->message,
         {{"rank", verdict->rank},
          {"host", verdict->host},
          {"step", verdict->step},
          {"phase", verdict->phase},
          {verdict->silent ? "silent_s" : "stalled_s", verdict->seconds}});
  Kill();
}

void Turn::On(const Recovered&) {
  if (job().publish_pending || !job().removals_pending.empty()) Publish();
  if (!HasProcesses(job().state)) return;
  ArmWorkers();
  ArmTimeLimit(std::max<int64_t>(0, now_.unix_ms - job().Current()->started_ms));
  job().kill_sent = false;
  Record("recovered", fmt::format("the coordinator came back and looks after attempt {} again", job().Current()->number));
  if (job().state != JobState::kStopping) {
    if (!job().Current()->finished.empty()) job().stop_deadline_ms = now_.monotonic_ms + limits_.finish_grace_ms;
    return;
  }
  if (job().stop == StopTarget::kNone || !job().Current()->reason.empty()) return Kill();
  job().stop_deadline_ms = now_.monotonic_ms + limits_.stop_grace_ms;
}

}  // namespace plateau
