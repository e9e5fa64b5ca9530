// The job state machine: (job, event, now) -> (job, what to record, what to do). Pure; the control loop stores the records before
// it carries out the actions.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/job/dependencies.h"
#include "coordinator/job/job.h"

namespace plateau {

// Bounds of the machine's waits, milliseconds.
struct MachineLimits {
  int64_t stop_grace_ms = 60'000;          // from a cancel or pause to the kill: the time to write a checkpoint
  int64_t finish_grace_ms = 60'000;        // from Finished to the kill: the time to leave MPI
  int64_t failure_grace_ms = 3'000;        // from a Failed that is not retried to the kill
  int64_t start_allowance_ms = 60'000;     // a rank that was never heard gets at least this long
  int64_t reconnect_allowance_ms = 15'000;  // after a restart of the coordinator a rank gets at least this long to be heard again
  int64_t start_stall_ms = 600'000;        // ranks that load and prepare may show no progress for at least this long
  int64_t first_restart_delay_ms = 1'000;  // doubled with each restart
  int64_t longest_restart_delay_ms = 32'000;
};

// --- Events ---
struct Submitted {};
struct StartGranted {
  std::string token;
  std::vector<NodeShare> shares;
  std::string external_key;  // not empty: the ranks run already and registered themselves; nothing is launched
  std::string device;        // "cpu" or "cuda"; empty when external
  std::string why;           // it is that device, where the specification left it open
};
// Ranks that the user's own mpirun started ask to be the next attempt of this job, or the first of a new one.
struct AttemptRegistered {
  std::string token;  // for the attempt
  Register run;       // its `spec` is parsed below
  std::shared_ptr<const JobSpec> spec;
};
// The scheduler: it can never start on the nodes as they are.
struct HoldPlaced {
  std::string reason, message;
};
// The scheduler: a QUEUED job waits for this.
struct WaitNoted {
  std::string reason, message;
};
// The jobs that it depends on have been looked at: it may start, waits for them, is held by one that failed, or is not needed.
struct DependenciesJudged {
  DependencyVerdict verdict;
};
struct Launched {
  int attempt = 0;
  int64_t supervisor_pid = 0;
};
struct LaunchFailed {
  int attempt = 0;
  std::string message;
  bool retry = true;  // false: the next attempt would fail alike
};
struct WorkerSaid {
  Sender sender;
  WorkerMessage message;
};
struct CheckpointVerified {
  int attempt = 0;
  CheckpointReport report;
  std::string checksum;
};
struct CheckpointRejected {
  int attempt = 0;
  CheckpointReport report;
  std::string message;
};
// An empty path: current.json could not be written; trouble: why, or which deletion failed.
struct CheckpointPublished {
  std::string path;
  std::vector<std::string> removed;
  std::string trouble;
};
struct AttemptExited {
  int attempt = 0;
  int exit_code = -1;
  int signal = 0;
  std::string message;
};
struct StopRequested {
  StopTarget target = StopTarget::kCancel;
};
struct ResumeRequested {};
// Somebody wants a checkpoint now; training goes on.
struct CheckpointRequested {};
struct TimerFired {};  // NextDeadline has passed
struct Recovered {};   // first event of a job after the coordinator's start

using JobEvent = std::variant<Submitted, StartGranted, AttemptRegistered, HoldPlaced, WaitNoted, DependenciesJudged, Launched, LaunchFailed, WorkerSaid,
                              CheckpointVerified, CheckpointRejected, CheckpointPublished, AttemptExited, StopRequested,
                              ResumeRequested, CheckpointRequested, TimerFired, Recovered>;

// --- Actions ---
struct LaunchAttempt {
  int attempt = 0;
};
// Ends its session to the last process; AttemptExited follows.
struct KillAttempt {
  int attempt = 0;
  bool save_traces = false;  // first what its processes are doing is written to its logs
};
// CheckpointVerified or CheckpointRejected follows.
struct VerifyCheckpoint {
  int attempt = 0;
  CheckpointReport report;
};
// CheckpointPublished follows.
struct PublishCheckpoint {
  CheckpointRecord checkpoint;
  std::vector<std::string> removals;
};
// Deletes what attempts below `below` left half-written, and their checkpoints that are not in `keep`. Nothing follows.
struct SweepAttempts {
  int below = 0;
  std::vector<std::string> keep;  // the record's folders, relative to the output folder
};
// To the sender of this event.
struct ReplyToWorker {
  CoordinatorReply reply;
};
// To whoever reported this checkpoint last.
struct AnswerCheckpoint {
  std::string path;
  CoordinatorReply reply;
};

// Hosts of an attempt that went wrong: to be looked at before anything is started on them. `lost`: their ranks fell silent
// together.
struct DoubtHosts {
  std::vector<std::string> nodes;
  bool lost = false;
  std::string message;
};

// Is not to be offered before its node tells another set of GPUs.
struct WithdrawGpu {
  std::string node;
  MissingGpu gpu;
};

using JobAction = std::variant<LaunchAttempt, KillAttempt, VerifyCheckpoint, PublishCheckpoint, SweepAttempts, ReplyToWorker,
                               AnswerCheckpoint, DoubtHosts, WithdrawGpu>;

// --- Records ---
using EventValue = std::variant<std::string, int64_t, double, bool>;

// One line of a job's history.
struct EventRow {
  int64_t seq = 0;      // 1-based, without gaps
  int64_t time_ms = 0;  // Unix
  std::string type;     // the list is in coordinator/API.md, "Events"
  int attempt = 0;      // 0: none
  std::string message;
  std::vector<std::pair<std::string, EventValue>> fields;
};

// What one turn led to. The control loop stores job, events, validation and point before it carries out the actions.
struct Outcome {
  Job job;
  std::vector<EventRow> events;
  std::shared_ptr<const DecidedValidation> validation;  // set when the first report of a validation came
  std::optional<Curve> point;                           // a new point of the curve
  std::vector<JobAction> actions;
  bool durable = false;  // must be on the disk before the actions run
  std::string refusal;   // a command that this state does not allow, and why; nothing changed
};

Outcome Advance(Job job, const JobEvent& event, Moment now, const MachineLimits& limits);

// Monotonic time of the job's next TimerFired; nothing when no wait is under way.
std::optional<int64_t> NextDeadline(const Job& job, const MachineLimits& limits);

}  // namespace plateau
