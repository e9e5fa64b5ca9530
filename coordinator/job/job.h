// A job as the coordinator knows it: one value that the state machine turns into the next one. Nothing here does I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/job_spec.h"
#include "common/lr_plateau.h"
#include "common/messages.h"

namespace plateau {

// The two readings of the Clock, taken together. Stored times are Unix time; every wait is measured on the monotonic one.
struct Moment {
  int64_t unix_ms = 0;
  int64_t monotonic_ms = 0;
};

// QUEUED waits for cores (or for the end of a restart delay), HELD cannot start on the nodes as they are, STARTING until every rank
// has been heard, RUNNING, STOPPING until the last process of the attempt is gone, PAUSED and the three ends.
enum class JobState { kQueued, kHeld, kStarting, kRunning, kStopping, kPaused, kCompleted, kFailed, kCancelled };

const char* JobStateName(JobState state);  // "QUEUED"
std::optional<JobState> JobStateFromName(const std::string& name);
bool HasProcesses(JobState state);  // STARTING, RUNNING, STOPPING
bool IsEnded(JobState state);       // COMPLETED, FAILED, CANCELLED

// The name of the machine that the coordinator runs on, as a node.
inline constexpr const char* kLocalNode = "localhost";

// The ranks of an attempt on one node. Ranks are numbered through the shares in their order.
struct NodeShare {
  std::string node = kLocalNode;
  int workers = 1;
  std::vector<int> cores;  // logical cores granted, ascending; empty: the whole node, unbound
  std::vector<std::string> gpus{};  // ids of the GPUs granted, one a worker in the order of ranks; empty: none
  bool operator==(const NodeShare&) const = default;
};

// A GPU that did not answer a rank that it was granted to.
struct MissingGpu {
  std::string id;   // on its node
  std::string why;  // in the rank's words
  bool operator==(const MissingGpu&) const = default;
};

// One launch of the gang. Its token is the secret that every message of it carries.
struct Attempt {
  int number = 0;  // 1-based
  std::string token;
  std::string state = "STARTING";  // STARTING, RUNNING, STOPPING, ENDED
  std::string reason;              // why it ended or is being ended: "FINISHED", "HANG", "EXIT_137", "NAN_LOSS", "CANCELLED", ...
  std::string message;
  bool external = false;   // started by its user's own mpirun, which registered it: there is no supervisor
  std::string key;         // of the registration; empty when not external
  std::string finished;    // Finished.reason, empty while rank 0 has not said it
  bool retry = true;       // false: the failure would come again
  std::vector<NodeShare> shares;  // where its ranks run
  std::vector<std::string> missing_gpus;  // of these, did not answer: "n1:3"
  std::string device;      // "cpu" or "cuda", as decided at its start; empty: external, or of an earlier release
  std::string device_why;  // where the specification left it open
  int64_t started_ms = 0;  // Unix
  int64_t ended_ms = 0;    // Unix, 0 while it runs
  int exit_code = -1;      // mpirun's, -1 unknown
};

// A checkpoint that was verified and made known. The folder is relative to the job's output folder.
struct CheckpointRecord {
  int64_t step = 0;
  int validation = 0;  // the last validation inside, 0 before the first
  double metric = 0;   // its value; lower is better
  std::string path;
  std::string checksum;  // of manifest.json
  uint64_t bytes = 0;
  int lineage = 0;    // the attempt that began its line of training; 0: not known
  int64_t order = 0;  // the newest order to write a checkpoint that it, or one before it in its attempt, obeyed
  bool operator==(const CheckpointRecord&) const = default;
};

// The first report of a validation and what was decided on it. Stored once, never changed.
struct DecidedValidation {
  ValidationReport report;
  LrDecision decision;
  double value = 0;     // what the job's lr.metric read out of the report
  int64_t time_ms = 0;  // Unix
};

// The training curve's newest point.
struct Curve {
  int64_t step = 0;
  double epoch = 0;
  double loss = 0;
  double lr = 0;
  double images_per_s = 0;
};

// What a rank last said of itself. Lives in memory only: after a restart of the coordinator every rank gets its full time again.
struct WorkerView {
  int rank = 0;
  std::string host;
  int64_t pid = 0;
  int64_t step = 0;
  std::string phase;
  int64_t heard_ms = 0;    // monotonic
  bool seen = false;       // false: nothing yet in this attempt
  int64_t progress = 0;    // as its newest heartbeat has it
  int64_t collective = 0;  // the collective call in which it waits, 0 none
  int64_t moved_ms = 0;    // monotonic: when step, phase, progress or collective last changed
};

enum class StopTarget { kNone, kCancel, kPause, kTimeLimit };

struct Job {
  std::string id;  // "<name>-<n>", or "<pipeline>.<name>"
  std::string pipeline;  // id of the pipeline that it belongs to; empty: none
  std::shared_ptr<const JobSpec> spec;
  JobState state = JobState::kQueued;
  std::string reason;   // one upper-case word or two: "WAITING_FOR_CORES", "MAX_EPOCHS", "NAN_LOSS"
  std::string message;  // one sentence for people
  StopTarget stop = StopTarget::kNone;
  int64_t created_ms = 0, started_ms = 0, ended_ms = 0;  // Unix; 0: not yet
  int64_t queued_ms = 0;                                 // Unix; when it last entered the queue
  int restarts = 0;                                      // since the job was submitted or resumed by hand
  int64_t last_event = 0;                                // sequence number of the newest event
  int64_t ran_ms = 0;                                    // running time of its ended attempts since it was submitted or resumed
  int64_t checkpoint_order = 0;                          // number of the newest order to write a checkpoint, 0: none so far
  bool checkpoint_ordered = false;                       // that order is still to be obeyed
  std::vector<Attempt> attempts;
  LrState lr;
  Curve curve;
  std::vector<CheckpointRecord> checkpoints;  // published and not deleted, oldest first; the last is current
  bool publish_pending = false;               // current.json may not show checkpoints.back() yet
  std::vector<std::string> removals_pending;  // folders to delete, relative to the output folder
  std::string result;                         // of an evaluation that is over: the content of its result.json
  std::vector<std::shared_ptr<const DecidedValidation>> validations;  // [number - 1]; stored in rows of their own

  // In memory only, armed again on start.
  std::vector<WorkerView> workers;  // of the current attempt, by rank
  int64_t not_before_ms = 0;        // monotonic: QUEUED jobs do not start sooner
  int64_t stop_deadline_ms = 0;     // monotonic, 0 none: the session is killed then
  int64_t limit_deadline_ms = 0;    // monotonic, 0 none: the job has run for resources.time_limit then
  bool kill_sent = false;
  std::string last_trouble;  // of checkpoints; repeated reports are recorded once

  const Attempt* Current() const { return attempts.empty() ? nullptr : &attempts.back(); }
  Attempt* Current() { return attempts.empty() ? nullptr : &attempts.back(); }
  bool Trains() const { return spec->kind == "train"; }
  // "<output>/<id>"
  std::string OutputFolder() const { return spec->output + "/" + id; }
};

}  // namespace plateau
