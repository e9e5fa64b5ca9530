// One turn of an ingest's board under construction: what board.cpp and board_leases.cpp share.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "coordinator/ingest/board.h"

namespace plateau {

class BoardTurn {
 public:
  BoardTurn(Dataset dataset, Moment now, const BoardLimits& limits) : now_(now), limits_(limits) {
    out_.dataset = std::move(dataset);
  }

  // board.cpp: the life of the ingest.
  void On(const Submitted&);
  void On(const DatasetPlanned&);
  void On(const DatasetBroken&);
  void On(const StoreFinished&);
  void On(const IngestWorkerLaunched&);
  void On(const IngestWorkerExited&);
  void On(const CancelRequested&);
  void On(const TimerFired&);
  void On(const Recovered&);
  // board_leases.cpp: what workers say, and their shards.
  void On(const IngestSaid&);
  void On(const ShardPlaced&);
  void On(const ShardMisplaced&);

  DatasetOutcome Take() { return std::move(out_); }

 private:
  using Fields = std::vector<std::pair<std::string, EventValue>>;

  Dataset& dataset() { return out_.dataset; }
  void Record(std::string type, std::string message, Fields fields = {});
  void Do(DatasetAction action) { out_.actions.push_back(std::move(action)); }
  void Change(size_t task) { out_.changed_tasks.push_back(task); }
  void Tell(std::string reason, std::string message) {
    dataset().reason = std::move(reason);
    dataset().message = std::move(message);
  }
  void Answer(IngestReply reply) { Do(AnswerIngest{std::move(reply)}); }
  WorkerSlot* FindSlot(int number);
  BoardTask* FindLease(int64_t lease, const IngestSender& sender);
  // The task goes back to the queue.
  void Free(size_t task, const std::string& event, const std::string& why);
  void Progress();
  void LaunchDue();
  void FailWithoutHope();
  void FinishWhenDone();
  void Overflow(int64_t lease);
  void End(DatasetState state, std::string reason, std::string message);
  void KillWorkers();
  bool IsOldAttempt(const IngestSender& sender);
  TaskGranted Grant(size_t task) const;
  bool MayTry(const BoardTask& task, const std::string& host) const;
  void CountFailure(size_t task, const std::string& host, const std::string& message);

  void Said(const IngestSender& sender, const AskTask& message);
  void Said(const IngestSender& sender, const RenewLease& message);
  void Said(const IngestSender& sender, const ShardBuilt& message);
  void Said(const IngestSender& sender, const BuildFailed& message);
  void Said(const IngestSender& sender, const ReturnLease& message);

  DatasetOutcome out_;
  Moment now_;
  const BoardLimits& limits_;
};

}  // namespace plateau
