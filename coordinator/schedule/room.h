// What is free on the nodes while jobs are placed one after the other.
#pragma once

#include <string>
#include <vector>

#include "coordinator/schedule/scheduler.h"

namespace plateau {

// Of one worker.
struct WorkerNeed {
  int threads = 1;   // cores of one node; 0: they do not count
  bool gpu = false;  // and a GPU of that node
};

// Workers that fit into so many cores and GPUs.
int FitsInto(int cores, int gpus, const WorkerNeed& need);

class Room {
 public:
  // `cluster` outlives it.
  Room(const Cluster& cluster, const std::vector<RunningJob>& running);

  // Workers for which there is room now, on nodes that are ready.
  int Capacity(const WorkerNeed& need) const;
  bool AllReadyAndEmpty() const;
  void Take(const std::vector<NodeShare>& shares);
  // Room for the whole gang on as few nodes as possible. The caller has seen that there is enough. Without threads the shares have no
  // cores.
  std::vector<NodeShare> Pack(int workers, const WorkerNeed& need) const;
  // What is free now of all that so many workers could ever take of each node. Once it is taken for them, what others start on the rest
  // cannot delay them.
  std::vector<NodeShare> Reach(int workers, const WorkerNeed& need) const;
  // Everything, of all nodes.
  void TakeAll();

 private:
  int CapacityOf(size_t node, const WorkerNeed& need) const;
  std::vector<int> LowestFree(size_t node, int count) const;

  const std::vector<NodeView>& nodes_;
  std::vector<std::vector<bool>> free_;                 // by node and core
  std::vector<std::vector<std::string>> free_gpus_;  // by node, in the order in which it offers them
  std::vector<bool> busy_;                              // something runs on the node
};

}  // namespace plateau
