// What workers and coordinator say to each other: versioned JSON messages over ZeroMQ (DEALER at each rank, ROUTER at the coordinator).
// The prose page is coordinator/API.md, "Worker link". Every message carries job and attempt; an attempt that is not the job's
// current one is answered by `refused` and must leave (fencing).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/error.h"
#include "common/lr_plateau.h"

namespace plateau {

inline constexpr int kLinkVersion = 2;

// Stands in front of every message from a worker.
struct Sender {
  std::string job;       // "vgg-a-tiny-1"
  int attempt = 0;
  std::string token;     // secret of this attempt, from the environment
  int rank = 0;
  std::string host;
  int64_t pid = 0;
  uint64_t request = 0;  // counts up per rank; the reply repeats it, so that a repeated question is recognised
};

// Any rank, once a second from a thread of its own; answered by HeartbeatReply.
struct Heartbeat {
  int64_t step = 0;
  // "start", "data", "forward", "backward", "reduce", "update", "step", "report", "validate", "wait-decision", "checkpoint", "done"
  std::string phase;
  int64_t progress = 0;    // pieces of work done (layers, buckets, images, parts of files); grows within an attempt, never falls
  int64_t collective = 0;  // number of the collective call in which the rank waits for the others, alike on all ranks; 0: in none
};

// Rank 0, every few steps (at most once a second): the training curve. Not answered.
struct Metrics {
  int64_t step = 0;
  double epoch = 0;            // step * global_batch / images
  double loss = 0;             // mean over the steps since the last report
  double lr = 0;
  double images_per_s = 0;
  double data_wait_share = 0;  // share of the time that the step waited for the loader
};

// Rank 0, at a validation boundary; answered by Decision (or Refused). Exact integers.
struct ValidationReport {
  int number = 0;              // 1-based
  int64_t step = 0;
  double epoch = 0;
  int64_t images = 0;
  int64_t top1_correct = 0;
  int64_t top5_correct = 0;
  double loss = 0;             // mean
  // One rounding, so that 303 of 1000 is written 0.697.
  double Top1Error() const { return images > 0 ? static_cast<double>(images - top1_correct) / static_cast<double>(images) : 1.0; }
  double Top5Error() const { return images > 0 ? static_cast<double>(images - top5_correct) / static_cast<double>(images) : 1.0; }
  // The value lr.metric names ("val_top1_error", "val_top5_error", "val_loss").
  double Metric(const std::string& name) const;
};

// Rank 0, after a checkpoint's manifest is on the disk; answered by Published. The coordinator alone deletes.
struct CheckpointReport {
  int64_t step = 0;
  int validation = 0;          // number of the last validation inside, 0 before the first
  double metric = 0;           // its value, for keep_best; meaningless when validation is 0
  std::string path;            // folder, relative to <output>/<job>: "attempt-3/step-000123"
  uint64_t bytes = 0;
  bool final = false;          // the run's last
  int64_t order = 0;           // the newest checkpoint order that it obeys (HeartbeatReply), 0 none
  int lineage = 0;             // the attempt that began this line of training (state.json)
};

// Rank 0, when the work ended by itself; answered by Published (an acknowledgement).
struct Finished {
  int64_t step = 0;
  std::string reason;          // "MAX_EPOCHS", "MAX_STEPS", "PLATEAU", "EVALUATED", "STOPPED" (a stop command was obeyed)
  std::string result = {};     // EVALUATED: result.json's document (worker/EVALUATE.md) as text; else empty
};

// Any rank, before it leaves with an error. Not answered.
struct Failed {
  std::string reason;          // "NAN_LOSS", "BAD_INPUT", "IO", "INTERNAL"
  std::string message;
  int64_t step = 0;
  std::string layer;           // NAN_LOSS: first layer whose output was not finite
  bool retry = true;           // NAN_LOSS and BAD_INPUT are not retried
};

// Rank 0 of the user's own mpirun, before anything else: makes the run a job of the coordinator. Sender::token is the coordinator's
// join token, Sender::job is empty for a new job or names the one to go on with, Sender::attempt is 0. Answered by Registered or Refused.
struct Register {
  std::string key;                 // random; a repeated message with the same key gets the same answer
  std::string spec;                // the whole specification as JSON; its resources.workers is the number of ranks
  std::vector<std::string> hosts;  // of each rank
};

using WorkerMessage = std::variant<Heartbeat, Metrics, ValidationReport, CheckpointReport, Finished, Failed, Register>;

// kStop: checkpoint at the next step boundary, then leave with Finished{STOPPED}. kCheckpoint: checkpoint there and go on.
enum class WorkerCommand { kContinue, kStop, kCheckpoint };

struct HeartbeatReply {
  WorkerCommand command = WorkerCommand::kContinue;
  // kCheckpoint: the order's number, counting up in the job. It is repeated until a CheckpointReport carries it or a larger one;
  // rank 0 obeys each number once.
  int64_t order = 0;
};
struct DecisionReply { LrDecision decision; };
struct Published { int64_t step = 0; };
struct Refused { std::string reason; };         // leave at once, write nothing more
struct Registered {                             // the ranks are now this attempt, and speak with its token
  std::string job;
  int attempt = 0;
  std::string token;
};

using CoordinatorReply = std::variant<HeartbeatReply, DecisionReply, Published, Refused, Registered>;

// JSON text <-> message. A message of another version, or with a missing field, is an error naming the field.
std::string EncodeWorkerMessage(const Sender& sender, const WorkerMessage& message);
Result<std::pair<Sender, WorkerMessage>> DecodeWorkerMessage(std::string_view text);
std::string EncodeReply(uint64_t request, const CoordinatorReply& reply);
Result<std::pair<uint64_t, CoordinatorReply>> DecodeReply(std::string_view text);

// How the launcher tells a worker where its coordinator is. Command line:
//   plateau-worker train SPEC.json --job JOB --attempt N --coordinator tcp://HOST:PORT [--resume auto]
// and in the environment, so that it never shows in a process list:
inline constexpr const char* kTokenVariable = "PLATEAU_TOKEN";
// Folder into which each rank sends stdout and stderr (rank-<n>.log) before anything else, when set.
inline constexpr const char* kLogDirectoryVariable = "PLATEAU_LOG_DIR";

}  // namespace plateau
