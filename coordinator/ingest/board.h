// The task board of an ingest: which shard is whose, under which lease, and what became of it. One value that Advance turns into
// the next one. Pure: nothing here does I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/ingest_messages.h"
#include "coordinator/job/job.h"
#include "coordinator/job/machine.h"
#include "dataset/ingest_order.h"

namespace plateau {

// PLANNING lists the source. RUNNING has shards to build. FINISHING writes rejected.jsonl and the manifest. Then three ends.
enum class DatasetState { kPlanning, kRunning, kFinishing, kCompleted, kFailed, kCancelled };
const char* DatasetStateName(DatasetState state);  // "RUNNING"
std::optional<DatasetState> DatasetStateFromName(const std::string& name);
bool IsEnded(DatasetState state);

// PENDING waits for a worker. LEASED is being built. COMMITTING: a report was accepted, no other can be any more. COMMITTED lies in
// its place and is recorded.
enum class TaskState { kPending, kLeased, kCommitting, kCommitted };
const char* TaskStateName(TaskState state);
std::optional<TaskState> TaskStateFromName(const std::string& name);

// The right to build one shard. `number` grows with every grant of the ingest and is stored before it is given away.
struct ShardLease {
  int64_t number = 0;  // 0: none; of a COMMITTED task: it was found finished when the ingest began
  std::string worker, host;
  int64_t pid = 0;
  int slot = 0, attempt = 0;  // of the launched worker; 0: by hand
  uint64_t request = 0;       // of the question that it answers
  int64_t granted_ms = 0;     // Unix
  std::string checksum;       // of result.json, once it was reported

  // In memory only: after a restart of the coordinator every lease gets its full time again.
  int64_t expires_ms = 0;  // monotonic
  int64_t heard_ms = 0;    // monotonic
  uint64_t images = 0, rejected = 0;
};

struct BoardTask {
  size_t split = 0;
  std::string folder;   // "train/00003"
  uint64_t images = 0;  // to look at
  TaskState state = TaskState::kPending;
  ShardLease lease;                                   // the current one, or the one that was committed
  int failures = 0;                                   // on the host where it failed most often
  uint64_t records = 0, rejected = 0, converted = 0;  // once committed

  // In memory only: how often building failed on which host. A host with a bad disk is not given the same shard again while
  // others ask.
  std::map<std::string, int> failed_on;
};

struct BoardSplit {
  std::string name;
  uint64_t sources = 0, reject_limit = 0;
  uint64_t records = 0;  // once the store is finished, as the checksum
  std::string checksum;
};

// A worker that the coordinator launches and replaces.
struct WorkerSlot {
  int number = 0;   // 1-based
  int attempt = 0;  // 0: not yet launched
  bool alive = false;
  int restarts = 0;
  std::string last_exit;
  int64_t not_before_ms = 0;  // monotonic, memory only
};

struct Dataset {
  std::string id;   // "<name>-<n>"
  std::string tag;  // random; makes the names of the lease folders unlike those of any other ingest
  std::shared_ptr<const IngestOrder> order;
  DatasetState state = DatasetState::kPlanning;
  std::string reason, message;
  int64_t created_ms = 0, started_ms = 0, ended_ms = 0;  // Unix; 0: not yet
  int64_t last_event = 0;
  int64_t last_lease = 0;
  int64_t overflow_lease = 0;  // FINISHING with it or with `overflow`: too many images were bad
  bool overflow = false;
  std::string plan_checksum;
  std::vector<BoardSplit> splits;
  std::vector<BoardTask> tasks;  // in rows of their own
  std::vector<WorkerSlot> slots;

  // In memory only: when each host last said anything, monotonic ms.
  std::map<std::string, int64_t> heard_hosts;
  // In memory only: (monotonic ms, images handled), newest last, for the rate.
  std::deque<std::pair<int64_t, uint64_t>> progress;

  uint64_t Images() const;   // of all tasks
  uint64_t Handled() const;  // committed, and so far in leases
  uint64_t Rejected() const;
  size_t Count(TaskState task_state) const;
  std::optional<double> ImagesPerSecond() const;
  // <out>/ingest/lease-<tag>-<number>
  std::string LeaseFolder(int64_t lease) const;
};

struct BoardLimits {
  int64_t lease_ms = 20'000;             // silence after which a lease is over
  int max_task_failures = 3;             // of one shard on one host, then the ingest fails
  int max_worker_restarts = 5;           // of one slot
  int64_t first_restart_delay_ms = 500;  // doubled with each restart of the slot
  int64_t longest_restart_delay_ms = 32'000;
};

// --- Events; Submitted, TimerFired, Recovered are the job machine's ---
struct PlannedTask {
  size_t split = 0;
  std::string folder;
  uint64_t images = 0;
  bool finished = false;  // found whole from an ingest that was cut off
  uint64_t records = 0, rejected = 0, converted = 0;
};
struct DatasetPlanned {
  std::string plan_checksum;
  std::vector<BoardSplit> splits;
  std::vector<PlannedTask> tasks;
};
struct DatasetBroken {  // planning, taking up again, or finishing failed
  Error error;
};
struct IngestSaid {
  IngestSender sender;
  IngestMessage message;
};
struct ShardPlaced {
  size_t task = 0;
  int64_t lease = 0;
  uint64_t records = 0, rejected = 0, converted = 0;
};
struct ShardMisplaced {  // its commit failed
  size_t task = 0;
  int64_t lease = 0;
  std::string message;
};
struct StoreFinished {
  std::vector<BoardSplit> splits;  // with records and checksums
};
struct IngestWorkerLaunched {
  int slot = 0, attempt = 0;
  int64_t supervisor_pid = 0;
};
struct IngestWorkerExited {
  int slot = 0, attempt = 0;
  std::string message;
};
struct CancelRequested {};

using DatasetEvent = std::variant<Submitted, DatasetPlanned, DatasetBroken, IngestSaid, ShardPlaced, ShardMisplaced, StoreFinished,
                                  IngestWorkerLaunched, IngestWorkerExited, CancelRequested, TimerFired, Recovered>;

// --- Actions ---
struct PlanStore {};    // DatasetPlanned or DatasetBroken follows
struct ReopenStore {};  // after a restart; DatasetBroken follows when it fails
struct PlaceShard {     // ShardPlaced or ShardMisplaced follows
  size_t task = 0;
  int64_t lease = 0;
  std::string checksum;
};
struct DropLease {  // removes its folder
  int64_t lease = 0;
};
struct FinishStore {  // StoreFinished or DatasetBroken follows; the latter for certain where too many images are bad
  int64_t overflow_lease = 0;
};
struct CloseStore {};  // releases the folder
struct LaunchIngestWorker {
  int slot = 0, attempt = 0;
};
struct KillIngestWorker {
  int slot = 0, attempt = 0;
};
struct AnswerIngest {  // to the sender of this event
  IngestReply reply;
};
struct AnswerBuilt {  // to whoever reported this lease's shard last
  int64_t lease = 0;
  IngestReply reply;
};

using DatasetAction = std::variant<PlanStore, ReopenStore, PlaceShard, DropLease, FinishStore, CloseStore, LaunchIngestWorker,
                                   KillIngestWorker, AnswerIngest, AnswerBuilt>;

struct DatasetOutcome {
  Dataset dataset;
  std::vector<EventRow> events;
  std::vector<size_t> changed_tasks;  // to be stored with the dataset
  std::vector<DatasetAction> actions;
  bool durable = false;  // must be on the disk before the actions run
  bool no_work = false;  // an AskTask that cannot be served now: ask again when something has changed
  std::string refusal;   // a command that this state does not allow; nothing changed
};

DatasetOutcome Advance(Dataset dataset, const DatasetEvent& event, Moment now, const BoardLimits& limits);

// Monotonic time of the next TimerFired; nothing when no wait is under way.
std::optional<int64_t> NextDeadline(const Dataset& dataset);

}  // namespace plateau
