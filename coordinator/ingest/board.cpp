// The life of an ingest: planning, launched workers, the ends. What workers say is in board_leases.cpp.
#include "coordinator/ingest/board.h"

#include <algorithm>
#include <array>

#include "coordinator/ingest/board_turn.h"

namespace plateau {
namespace {

constexpr std::array kStateNames{"PLANNING", "RUNNING", "FINISHING", "COMPLETED", "FAILED", "CANCELLED"};
constexpr std::array kTaskStateNames{"PENDING", "LEASED", "COMMITTING", "COMMITTED"};

template <typename Enum, size_t N>
std::optional<Enum> FromName(const std::array<const char*, N>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

}  // namespace

const char* DatasetStateName(DatasetState state) { return kStateNames.at(static_cast<size_t>(state)); }
std::optional<DatasetState> DatasetStateFromName(const std::string& name) { return FromName<DatasetState>(kStateNames, name); }
bool IsEnded(DatasetState state) { return state >= DatasetState::kCompleted; }
const char* TaskStateName(TaskState state) { return kTaskStateNames.at(static_cast<size_t>(state)); }
std::optional<TaskState> TaskStateFromName(const std::string& name) { return FromName<TaskState>(kTaskStateNames, name); }

uint64_t Dataset::Images() const {
  uint64_t images = 0;
  for (const auto& task : tasks) images += task.images;
  return images;
}

uint64_t Dataset::Handled() const {
  uint64_t images = 0;
  for (const auto& task : tasks)
    images += task.state == TaskState::kCommitted ? task.images : std::min(task.images, task.lease.images);
  return images;
}

uint64_t Dataset::Rejected() const {
  uint64_t rejected = 0;
  for (const auto& task : tasks) rejected += task.state == TaskState::kCommitted ? task.rejected : task.lease.rejected;
  return rejected;
}

size_t Dataset::Count(TaskState task_state) const {
  return static_cast<size_t>(std::count_if(tasks.begin(), tasks.end(), [&](const auto& task) { return task.state == task_state; }));
}

std::optional<double> Dataset::ImagesPerSecond() const {
  if (progress.size() < 2) return std::nullopt;
  const auto [first_ms, first] = progress.front();
  const auto [last_ms, last] = progress.back();
  if (last_ms <= first_ms || last < first) return std::nullopt;
  return static_cast<double>(last - first) * 1000.0 / static_cast<double>(last_ms - first_ms);
}

std::string Dataset::LeaseFolder(int64_t lease) const {
  return fmt::format("{}/ingest/lease-{}-{}", order->options.out, tag, lease);
}

void BoardTurn::On(const Submitted&) {
  dataset().state = DatasetState::kPlanning;
  Tell("PLANNING", "the source is being listed");
  dataset().created_ms = now_.unix_ms;
  Record("submitted", fmt::format("ingest into {} ordered", dataset().order->options.out));
  Do(PlanStore{});
}

void BoardTurn::On(const DatasetPlanned& planned) {
  if (dataset().state != DatasetState::kPlanning) return;
  dataset().state = DatasetState::kRunning;
  dataset().started_ms = now_.unix_ms;
  dataset().plan_checksum = planned.plan_checksum;
  dataset().splits = planned.splits;
  size_t finished = 0;
  for (const auto& task : planned.tasks) {
    BoardTask made{.split = task.split, .folder = task.folder, .images = task.images};
    made.records = task.records, made.rejected = task.rejected, made.converted = task.converted;
    if (task.finished) made.state = TaskState::kCommitted;
    finished += task.finished ? 1 : 0;
    Change(dataset().tasks.size());
    dataset().tasks.push_back(std::move(made));
  }
  for (int number = 1; number <= dataset().order->workers; ++number) dataset().slots.push_back({.number = number});
  Record("planned",
         fmt::format("{} images in {} shards{}", dataset().Images(), dataset().tasks.size(),
                     finished > 0 ? fmt::format(", {} of them finished before", finished) : ""),
         {{"images", static_cast<int64_t>(dataset().Images())},
          {"shards", static_cast<int64_t>(dataset().tasks.size())},
          {"finished", static_cast<int64_t>(finished)}});
  Tell("RUNNING", "shards are being built");
  Progress();
  LaunchDue();
  FinishWhenDone();
}

void BoardTurn::On(const DatasetBroken& broken) {
  if (IsEnded(dataset().state)) return;
  std::string reason = dataset().overflow ? "TOO_MANY_REJECTED" : "BAD_INPUT";
  if (!dataset().overflow && broken.error.code == ErrorCode::kConflict) reason = "CONFLICT";
  if (!dataset().overflow && broken.error.code == ErrorCode::kIo) reason = "IO";
  End(DatasetState::kFailed, reason, broken.error.message);
}

void BoardTurn::On(const StoreFinished& finished) {
  if (dataset().state != DatasetState::kFinishing) return;
  dataset().splits = finished.splits;
  uint64_t records = 0;
  for (const auto& split : finished.splits) records += split.records;
  End(DatasetState::kCompleted, "FINISHED",
      fmt::format("{} records in {} shards, {} images rejected", records, dataset().tasks.size(), dataset().Rejected()));
}

void BoardTurn::On(const CancelRequested&) {
  if (IsEnded(dataset().state)) {
    out_.refusal = fmt::format("ingest {} is {}: there is nothing to cancel", dataset().id, DatasetStateName(dataset().state));
    return;
  }
  if (dataset().state == DatasetState::kFinishing && !dataset().overflow) {
    out_.refusal = fmt::format(
        "every shard of ingest {} is built and its manifest is being written: it cannot be cancelled any more", dataset().id);
    return;
  }
  End(DatasetState::kCancelled, "CANCELLED",
      "cancelled on request; finished shards stay in the folder, and the same ingest goes on from them");
}

// A slot's process is gone: what it held is free at once.
void BoardTurn::On(const IngestWorkerExited& exited) {
  WorkerSlot* slot = FindSlot(exited.slot);
  if (slot == nullptr || slot->attempt != exited.attempt || !slot->alive) return;
  slot->alive = false;
  slot->last_exit = exited.message;
  out_.durable = true;
  if (dataset().state != DatasetState::kRunning) return;  // nothing is left to build: it left in order
  Record("worker_exited", fmt::format("worker {} ended: {}", exited.slot, exited.message),
         {{"slot", int64_t{exited.slot}}, {"worker_attempt", int64_t{exited.attempt}}});
  for (size_t i = 0; i < dataset().tasks.size(); ++i) {
    const BoardTask& task = dataset().tasks[i];
    if (task.state == TaskState::kLeased && task.lease.slot == exited.slot && task.lease.attempt <= exited.attempt)
      Free(i, "lease_lost", fmt::format("worker {} ended", exited.slot));
  }
  if (slot->restarts < limits_.max_worker_restarts) {
    const int64_t delay_ms =
        std::min(limits_.longest_restart_delay_ms, limits_.first_restart_delay_ms << std::min(slot->restarts, 20));
    slot->restarts += 1;
    slot->not_before_ms = now_.monotonic_ms + delay_ms;
  }
  FailWithoutHope();
}

void BoardTurn::On(const IngestWorkerLaunched& launched) {
  Record("worker_launched", fmt::format("worker {} runs under supervisor {}", launched.slot, launched.supervisor_pid),
         {{"slot", int64_t{launched.slot}}, {"worker_attempt", int64_t{launched.attempt}}});
}

void BoardTurn::On(const TimerFired&) {
  if (dataset().state != DatasetState::kRunning) return;
  for (size_t i = 0; i < dataset().tasks.size(); ++i) {
    const BoardTask& task = dataset().tasks[i];
    if (task.state != TaskState::kLeased || task.lease.expires_ms > now_.monotonic_ms) continue;
    Free(i, "lease_expired",
         fmt::format("worker {} on {} was silent for {} s", task.lease.worker, task.lease.host,
                     (now_.monotonic_ms - task.lease.heard_ms) / 1000));
  }
  LaunchDue();
  FailWithoutHope();
}

void BoardTurn::On(const Recovered&) {
  for (auto& slot : dataset().slots) slot.not_before_ms = now_.monotonic_ms;
  if (IsEnded(dataset().state)) {
    KillWorkers();
    return;
  }
  Record("recovered", "the coordinator was started again and goes on");
  if (dataset().state == DatasetState::kPlanning) return Do(PlanStore{});
  Do(ReopenStore{});
  for (size_t i = 0; i < dataset().tasks.size(); ++i) {
    BoardTask& task = dataset().tasks[i];
    task.lease.heard_ms = now_.monotonic_ms;
    task.lease.expires_ms = now_.monotonic_ms + limits_.lease_ms;
    if (task.state == TaskState::kCommitting) Do(PlaceShard{i, task.lease.number, task.lease.checksum});
  }
  if (dataset().state == DatasetState::kFinishing) return Do(FinishStore{dataset().overflow_lease});
  Progress();
  LaunchDue();
}

void BoardTurn::LaunchDue() {
  if (dataset().state != DatasetState::kRunning) return;
  const size_t open = dataset().tasks.size() - dataset().Count(TaskState::kCommitted);
  size_t alive =
      static_cast<size_t>(std::count_if(dataset().slots.begin(), dataset().slots.end(), [](const auto& s) { return s.alive; }));
  for (auto& slot : dataset().slots) {
    const bool used_up = slot.attempt > slot.restarts;
    if (slot.alive || used_up || slot.not_before_ms > now_.monotonic_ms || alive >= open) continue;
    slot.attempt += 1;
    slot.alive = true;
    alive += 1;
    out_.durable = true;
    Do(LaunchIngestWorker{slot.number, slot.attempt});
  }
}

// Nobody is left who could build: said instead of waiting for ever. Workers started by hand keep the ingest alive by what they
// hold.
void BoardTurn::FailWithoutHope() {
  if (dataset().state != DatasetState::kRunning || dataset().slots.empty()) return;
  const bool hope = std::any_of(dataset().slots.begin(), dataset().slots.end(),
                                [](const auto& slot) { return slot.alive || slot.attempt <= slot.restarts; });
  if (hope || dataset().Count(TaskState::kLeased) + dataset().Count(TaskState::kCommitting) > 0) return;
  End(DatasetState::kFailed, "WORKERS_LOST",
      fmt::format(
          "every worker ended, {} times restarted each; the last: {}; see its log, then order the same ingest again: it goes "
          "on from the finished shards",
          limits_.max_worker_restarts, dataset().slots.back().last_exit));
}

void BoardTurn::FinishWhenDone() {
  if (dataset().state != DatasetState::kRunning) return;
  for (size_t split = 0; split < dataset().splits.size(); ++split) {
    uint64_t rejected = 0;
    for (const auto& task : dataset().tasks)
      if (task.split == split && task.state == TaskState::kCommitted) rejected += task.rejected;
    if (rejected > dataset().splits[split].reject_limit) return Overflow(0);
  }
  if (dataset().Count(TaskState::kCommitted) < dataset().tasks.size()) return;
  dataset().state = DatasetState::kFinishing;
  Tell("FINISHING", "every shard is built; the manifest is being written");
  Record("finishing", dataset().message);
  Do(FinishStore{});
}

void BoardTurn::Overflow(int64_t lease) {
  dataset().state = DatasetState::kFinishing;
  dataset().overflow = true;
  dataset().overflow_lease = lease;
  Tell("TOO_MANY_REJECTED", "more images are bad than --max-rejected allows");
  Record("too_many_rejected", dataset().message);
  for (size_t i = 0; i < dataset().tasks.size(); ++i)
    if (dataset().tasks[i].state == TaskState::kLeased && dataset().tasks[i].lease.number != lease)
      Free(i, "lease_ended", "the ingest is failing");
  KillWorkers();
  Do(FinishStore{lease});
}

void BoardTurn::End(DatasetState state, std::string reason, std::string message) {
  for (size_t i = 0; i < dataset().tasks.size(); ++i)
    if (dataset().tasks[i].state == TaskState::kLeased) Free(i, "lease_ended", "the ingest has ended");
  dataset().state = state;
  dataset().ended_ms = now_.unix_ms;
  Tell(std::move(reason), std::move(message));
  const char* type = state == DatasetState::kCompleted ? "completed" : state == DatasetState::kFailed ? "failed" : "cancelled";
  Record(type, dataset().message, {{"reason", dataset().reason}});
  KillWorkers();
  Do(CloseStore{});
}

void BoardTurn::KillWorkers() {
  for (const auto& slot : dataset().slots)
    if (slot.alive) Do(KillIngestWorker{slot.number, slot.attempt});
}

WorkerSlot* BoardTurn::FindSlot(int number) {
  for (auto& slot : dataset().slots)
    if (slot.number == number) return &slot;
  return nullptr;
}

void BoardTurn::Record(std::string type, std::string message, Fields fields) {
  EventRow row;
  row.seq = ++dataset().last_event;
  row.time_ms = now_.unix_ms;
  row.type = std::move(type);
  row.message = std::move(message);
  row.fields = std::move(fields);
  out_.events.push_back(std::move(row));
  out_.durable = true;
}

DatasetOutcome Advance(Dataset dataset, const DatasetEvent& event, Moment now, const BoardLimits& limits) {
  BoardTurn turn(std::move(dataset), now, limits);
  std::visit([&turn](const auto& one) { turn.On(one); }, event);
  return turn.Take();
}

std::optional<int64_t> NextDeadline(const Dataset& dataset) {
  if (dataset.state != DatasetState::kRunning) return std::nullopt;
  std::optional<int64_t> next;
  const auto consider = [&next](int64_t at_ms) { next = next ? std::min(*next, at_ms) : at_ms; };
  size_t open = 0, alive = 0;
  for (const auto& task : dataset.tasks) {
    if (task.state == TaskState::kLeased) consider(task.lease.expires_ms);
    open += task.state != TaskState::kCommitted ? 1 : 0;
  }
  for (const auto& slot : dataset.slots) alive += slot.alive ? 1 : 0;
  for (const auto& slot : dataset.slots)
    if (!slot.alive && slot.attempt <= slot.restarts && alive < open) consider(slot.not_before_ms);
  return next;
}

}  // namespace plateau
