// The line of waiting jobs against the free cores.
#include "coordinator/schedule/scheduler.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

namespace plateau {
namespace {

std::vector<int> TakeLowest(std::vector<bool>& free, int count) {
  std::vector<int> taken;
  for (int core = 0; core < static_cast<int>(free.size()) && static_cast<int>(taken.size()) < count; ++core) {
    if (!free[static_cast<size_t>(core)]) continue;
    free[static_cast<size_t>(core)] = false;
    taken.push_back(core);
  }
  return taken;
}

}  // namespace

Placement Place(const NodeView& node, std::vector<WaitingJob> waiting, const std::vector<RunningJob>& running, int64_t now_ms) {
  Placement placement;
  std::sort(waiting.begin(), waiting.end(), [](const WaitingJob& a, const WaitingJob& b) {
    return std::make_tuple(-a.priority, a.queued_ms, a.order) < std::make_tuple(-b.priority, b.queued_ms, b.order);
  });
  std::vector<bool> free(static_cast<size_t>(std::max(node.cores, 1)), true);
  bool node_taken = false;
  for (const auto& job : running) {
    node_taken = node_taken || job.cores.empty();
    for (const int core : job.cores)
      if (core >= 0 && core < node.cores) free[static_cast<size_t>(core)] = false;
  }
  bool empty = running.empty();
  for (const auto& job : waiting) {
    const bool larger_than_node = job.cores_needed > node.cores;
    if (larger_than_node && !node.allow_oversubscribe) {
      if (!job.held) {
        placement.holds.push_back(
            {job.id, "TOO_LARGE",
             fmt::format("it needs {} cores (workers * threads_per_worker), the node has {} and oversubscribing is switched "
                         "off; submit it with fewer workers or threads, or start the coordinator with more cores",
                         job.cores_needed, node.cores)});
      }
      continue;
    }
    const auto free_cores = static_cast<int>(std::count(free.begin(), free.end(), true));
    const bool fits = !node_taken && (larger_than_node ? empty : job.cores_needed <= free_cores);
    if (fits && job.delayed) {
      if (larger_than_node)
        node_taken = true;
      else
        TakeLowest(free, job.cores_needed);
      continue;
    }
    if (fits) {
      placement.starts.push_back({job.id, larger_than_node ? std::vector<int>() : TakeLowest(free, job.cores_needed)});
      node_taken = node_taken || larger_than_node;
      empty = false;
      continue;
    }
    if (now_ms - job.queued_ms >= kPassWindowMs) break;
  }
  return placement;
}

}  // namespace plateau
