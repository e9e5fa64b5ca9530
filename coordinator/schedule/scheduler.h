// Which waiting job starts now, and on which cores and GPUs of which nodes. Pure.
//
// The rule. Jobs stand in line by priority (higher first), then by the time they entered the queue. A job starts when there is
// room for its whole gang: a worker needs threads_per_worker free cores of one node and, with device: cuda, a free GPU of that node,
// whole and for itself. The gang goes onto as few nodes as possible, and of those to the ones where it leaves the least room over; it
// gets the lowest free cores and the first free GPUs of each. With min_workers below workers, a job for which there is no room now
// starts with as many workers as there is room for, but not fewer than that.
// Jobs behind one that does not fit may start on what it cannot use yet, until it has waited kPassWindowMs. From then on all that it
// could take of each node is kept free for it, and they may have the rest alone, which it can never use: nodes without GPUs where it
// needs them, cores beyond those of its workers. A job in its restart delay keeps its place: the cores and GPUs it is going to need are
// left free.
// Nodes that are lost or being looked at take nothing. A job for which there would be room with them waits for them, named, and keeps
// nothing from anybody. A job too large for the cores of all nodes together runs alone, unbound, when every node is ready and empty and
// it is its turn; once it has waited so long, nothing starts behind it. Where that is not allowed it is held, with the reason. One that
// needs more GPUs than all nodes have is always held: GPUs are not shared.
// device: auto takes GPUs when the nodes, empty, would have one for each of its workers, and then counts like cuda; otherwise it runs as
// cpu. It is decided when a start is looked for, and not before every node has told its GPUs or is lost.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/job/job.h"

namespace plateau {

inline constexpr int64_t kPassWindowMs = 10 * 60 * 1000;

struct WaitingJob {
  std::string id;
  int priority = 50;      // higher first
  int64_t queued_ms = 0;  // Unix
  int64_t order = 0;      // breaks ties: order of submission
  int workers = 1;
  int min_workers = 1;
  int threads_per_worker = 1;
  bool delayed = false;  // in its restart delay
  bool held = false;
  std::string held_for{};  // the message with which it is held
  DeviceKind device = DeviceKind::kCpu;
  std::string device_field{};  // of the specification, that says so: "resources.device: cuda"
};

struct RunningJob {
  std::string id;
  std::vector<NodeShare> shares;  // one without cores has all of its node's
};

// Whether work may be started on a node.
enum class NodeHealth { kReady, kChecking, kLost };

struct NodeView {
  std::string name = kLocalNode;
  int cores = 1;  // usable ones, numbered from 0
  NodeHealth health = NodeHealth::kReady;
  std::vector<std::string> gpus{};  // ids of those offered to jobs
  bool gpus_told = true;            // false: it has not been asked for them yet
  std::vector<MissingGpu> missing_gpus{};  // withdrawn: they did not answer
};

struct Cluster {
  std::vector<NodeView> nodes;
  bool allow_oversubscribe = true;
};

struct Start {
  std::string id;
  std::vector<NodeShare> shares;  // in the order of the cluster's nodes
  DeviceKind device = DeviceKind::kCpu;  // kCpu or kCuda
  std::string why{};                     // it is that one, where the job left it open; for people
};

// Why a job does not start: for good (hold) or for now (wait).
struct Verdict {
  std::string id, reason, message;
};

struct Placement {
  std::vector<Start> starts;
  std::vector<Verdict> holds;  // TOO_LARGE, NO_GPU; only jobs that are not held yet, or for something else
  std::vector<Verdict> waits;  // WAITING_FOR_HOST; of jobs on GPUs also WAITING_FOR_GPU, which says who has them, and WAITING_FOR_CORES
};

Placement Place(const Cluster& cluster, std::vector<WaitingJob> waiting, const std::vector<RunningJob>& running, int64_t now_ms);

}  // namespace plateau
