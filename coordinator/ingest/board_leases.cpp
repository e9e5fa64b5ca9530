// Leases: granted, renewed, given back, lost; and shards: reported, committed once, by lease number.
#include <algorithm>

#include <nlohmann/json.hpp>

#include "coordinator/ingest/board_turn.h"

namespace plateau {
namespace {

constexpr int64_t kRateWindowMs = 30'000;

std::vector<std::pair<std::string, EventValue>> LeaseFields(const BoardTask& task) {
  return {{"shard", task.folder},
          {"lease", task.lease.number},
          {"worker", task.lease.worker},
          {"host", task.lease.host},
          {"pid", task.lease.pid}};
}

}  // namespace

void BoardTurn::On(const IngestSaid& said) {
  dataset().heard_hosts[said.sender.host] = now_.monotonic_ms;
  std::visit([&](const auto& message) { Said(said.sender, message); }, said.message);
}

// A host that failed at this shard leaves it to a host that has not and that was heard lately.
bool BoardTurn::MayTry(const BoardTask& task, const std::string& host) const {
  if (!task.failed_on.contains(host)) return true;
  return std::none_of(out_.dataset.heard_hosts.begin(), out_.dataset.heard_hosts.end(), [&](const auto& other) {
    return !task.failed_on.contains(other.first) && now_.monotonic_ms - other.second < limits_.lease_ms;
  });
}

// A message of a launched worker whose slot has gone on without it.
bool BoardTurn::IsOldAttempt(const IngestSender& sender) {
  if (sender.slot == 0 || sender.dataset != dataset().id) return false;
  const WorkerSlot* slot = FindSlot(sender.slot);
  return slot == nullptr || !slot->alive || slot->attempt != sender.attempt;
}

void BoardTurn::Said(const IngestSender& sender, const AskTask&) {
  if (IsOldAttempt(sender) || dataset().state > DatasetState::kRunning) return Answer(NoTask{});
  auto& tasks = dataset().tasks;
  for (size_t i = 0; i < tasks.size(); ++i)  // the same question again: its answer was lost
    if (tasks[i].state == TaskState::kLeased && tasks[i].lease.worker == sender.worker && tasks[i].lease.request == sender.request)
      return Answer(Grant(i));
  for (size_t i = 0; i < tasks.size(); ++i)  // a thread builds one shard at a time: it has forgotten what it held
    if (tasks[i].state == TaskState::kLeased && tasks[i].lease.worker == sender.worker)
      Free(i, "lease_returned", "its worker asked for another shard");
  const auto free = std::find_if(tasks.begin(), tasks.end(), [&](const auto& task) {
    return task.state == TaskState::kPending && MayTry(task, sender.host);
  });
  if (free == tasks.end()) {
    out_.no_work = true;
    return;
  }
  const auto number = static_cast<size_t>(free - tasks.begin());
  dataset().last_lease += 1;
  free->state = TaskState::kLeased;
  free->lease = {.number = dataset().last_lease,
                 .worker = sender.worker,
                 .host = sender.host,
                 .pid = sender.pid,
                 .slot = sender.slot,
                 .attempt = sender.attempt,
                 .request = sender.request,
                 .granted_ms = now_.unix_ms,
                 .expires_ms = now_.monotonic_ms + limits_.lease_ms,
                 .heard_ms = now_.monotonic_ms};
  Change(number);
  Record("lease_granted", fmt::format("{} to {} under lease {}", free->folder, sender.worker, free->lease.number),
         LeaseFields(*free));
  Answer(Grant(number));
}

TaskGranted BoardTurn::Grant(size_t task) const {
  const Dataset& dataset = out_.dataset;
  const BoardTask& granted = dataset.tasks[task];
  return {.dataset = dataset.id,
          .lease = granted.lease.number,
          .timeout_ms = limits_.lease_ms,
          .task = task,
          .shard = granted.folder,
          .folder = dataset.LeaseFolder(granted.lease.number),
          .order = IngestOrderToJson(*dataset.order).dump(),
          .plan_checksum = dataset.plan_checksum,
          .reject_limit = dataset.splits[granted.split].reject_limit};
}

// The task that stands under this lease, of this worker: a late or foreign number finds nothing.
BoardTask* BoardTurn::FindLease(int64_t lease, const IngestSender& sender) {
  if (lease <= 0) return nullptr;
  for (auto& task : dataset().tasks)
    if (task.lease.number == lease && task.lease.worker == sender.worker && task.state != TaskState::kPending) return &task;
  return nullptr;
}

void BoardTurn::Said(const IngestSender& sender, const RenewLease& message) {
  BoardTask* task = FindLease(message.lease, sender);
  if (task == nullptr || dataset().state > DatasetState::kRunning)
    return Answer(LeaseOver{message.lease, fmt::format("lease {} of ingest {} is over", message.lease, dataset().id)});
  if (task->state == TaskState::kLeased) {
    task->lease.heard_ms = now_.monotonic_ms;
    task->lease.expires_ms = now_.monotonic_ms + limits_.lease_ms;
    task->lease.images = message.images;
    task->lease.rejected = message.rejected;
    Progress();
  }
  Answer(LeaseHeld{message.lease});
}

void BoardTurn::Said(const IngestSender& sender, const ShardBuilt& message) {
  BoardTask* task = FindLease(message.lease, sender);
  if (task == nullptr || (dataset().state > DatasetState::kRunning && task->state == TaskState::kLeased)) {
    const bool late = message.lease > 0 && message.lease <= dataset().last_lease;
    if (late)
      Record("late_report",
             fmt::format("{} reported a shard under lease {}, which is over; nothing was taken", sender.worker, message.lease),
             {{"lease", message.lease}, {"worker", sender.worker}});
    return Answer(LeaseOver{
        message.lease,
        fmt::format("lease {} of ingest {} is over: another worker builds or has built its shard", message.lease, dataset().id)});
  }
  if (task->state == TaskState::kCommitted) return Answer(ShardCommitted{message.lease});
  if (task->state == TaskState::kCommitting) return;  // the answer follows the commit
  const auto number = static_cast<size_t>(task - dataset().tasks.data());
  task->lease.checksum = message.checksum;
  if (message.too_many_rejected) {
    Answer(ShardCommitted{message.lease});  // its folder is still read: the worker must leave it
    Change(number);
    return Overflow(message.lease);
  }
  task->state = TaskState::kCommitting;
  task->lease.images = task->images;
  Change(number);
  Record("shard_built", fmt::format("{} under lease {}", task->folder, message.lease), LeaseFields(*task));
  Do(PlaceShard{number, message.lease, message.checksum});
}

void BoardTurn::Said(const IngestSender& sender, const BuildFailed& message) {
  BoardTask* task = FindLease(message.lease, sender);
  Answer(LeaseOver{message.lease, "it was given back"});
  if (task == nullptr || task->state != TaskState::kLeased || dataset().state != DatasetState::kRunning) return;
  const auto number = static_cast<size_t>(task - dataset().tasks.data());
  const std::string what = fmt::format("{} on {}: {}", task->folder, sender.host, message.message);
  Free(number, "build_failed", what);
  CountFailure(number, sender.host, what);
  FailWithoutHope();
}

void BoardTurn::Said(const IngestSender& sender, const ReturnLease& message) {
  const BoardTask* task = FindLease(message.lease, sender);
  if (task != nullptr && task->state == TaskState::kLeased)
    Free(static_cast<size_t>(task - dataset().tasks.data()), "lease_returned", "its worker leaves");
  Answer(LeaseOver{message.lease, "it was given back"});
  FailWithoutHope();
}

void BoardTurn::On(const ShardPlaced& placed) {
  BoardTask& task = dataset().tasks.at(placed.task);
  if (task.state != TaskState::kCommitting || task.lease.number != placed.lease) return;
  task.state = TaskState::kCommitted;
  task.records = placed.records, task.rejected = placed.rejected, task.converted = placed.converted;
  Change(placed.task);
  auto fields = LeaseFields(task);
  fields.emplace_back("records", static_cast<int64_t>(task.records));
  fields.emplace_back("rejected", static_cast<int64_t>(task.rejected));
  Record("committed",
         fmt::format("{} under lease {}: {} records, {} rejected", task.folder, placed.lease, task.records, task.rejected),
         std::move(fields));
  Do(AnswerBuilt{placed.lease, ShardCommitted{placed.lease}});
  Progress();
  FinishWhenDone();
}

void BoardTurn::On(const ShardMisplaced& misplaced) {
  BoardTask& task = dataset().tasks.at(misplaced.task);
  if (task.state != TaskState::kCommitting || task.lease.number != misplaced.lease) return;
  Do(AnswerBuilt{misplaced.lease, LeaseOver{misplaced.lease, misplaced.message}});
  const std::string host = task.lease.host;
  Free(misplaced.task, "commit_failed", misplaced.message);
  if (dataset().state == DatasetState::kRunning) CountFailure(misplaced.task, host, misplaced.message);
  FailWithoutHope();
}

void BoardTurn::CountFailure(size_t task, const std::string& host, const std::string& message) {
  BoardTask& failed = dataset().tasks[task];
  failed.failures = std::max(failed.failures, ++failed.failed_on[host]);
  if (failed.failures < limits_.max_task_failures) return;
  End(DatasetState::kFailed, "IO",
      fmt::format("{}; it failed {} times; mend the cause and order the same ingest again: it goes on from the finished shards",
                  message, failed.failures));
}

void BoardTurn::Free(size_t number, const std::string& event, const std::string& why) {
  BoardTask& task = dataset().tasks[number];
  Record(event, fmt::format("{} under lease {}: {}", task.folder, task.lease.number, why), LeaseFields(task));
  Do(DropLease{task.lease.number});
  task.state = TaskState::kPending;
  task.lease = {};
  Change(number);
  Progress();
}

void BoardTurn::Progress() {
  auto& progress = dataset().progress;
  const uint64_t handled = dataset().Handled();
  if (!progress.empty() && handled < progress.back().second) progress.clear();  // a lost lease: the rate starts anew
  if (progress.size() >= 2 && now_.monotonic_ms - progress[progress.size() - 2].first < 200) progress.pop_back();
  progress.emplace_back(now_.monotonic_ms, handled);
  while (progress.size() > 2 && now_.monotonic_ms - progress[1].first > kRateWindowMs) progress.pop_front();
}

}  // namespace plateau
