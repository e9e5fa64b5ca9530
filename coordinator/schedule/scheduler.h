// Which waiting job starts now, and on which cores of the local node. Pure.
//
// The rule. Jobs stand in line by priority (higher first), then by the time they entered the queue. A job starts when its
// workers * threads_per_worker cores are free; it gets the lowest free ones. The first job that does not fit closes the line for
// good once it has waited kPassWindowMs; until then smaller jobs behind it may start on the cores it cannot use yet. A job in its
// restart delay keeps its place: the cores it is going to need are left free. A job that needs more cores than the node has runs
// alone, unbound, when the node is empty and it is its turn; where that is not allowed it is held, with the reason.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plateau {

inline constexpr int64_t kPassWindowMs = 10 * 60 * 1000;

struct WaitingJob {
  std::string id;
  int priority = 50;      // higher first
  int64_t queued_ms = 0;  // Unix
  int64_t order = 0;      // breaks ties: order of submission
  int cores_needed = 1;
  bool delayed = false;  // in its restart delay
  bool held = false;
};

struct RunningJob {
  std::string id;
  std::vector<int> cores;  // empty: it has the whole node
};

struct NodeView {
  int cores = 1;  // usable ones, numbered from 0
  bool allow_oversubscribe = true;
};

struct Start {
  std::string id;
  std::vector<int> cores;  // empty: the whole node, unbound
};

struct Hold {
  std::string id, reason, message;
};

struct Placement {
  std::vector<Start> starts;
  std::vector<Hold> holds;  // only jobs that are not held yet
};

Placement Place(const NodeView& node, std::vector<WaitingJob> waiting, const std::vector<RunningJob>& running, int64_t now_ms);

}  // namespace plateau
