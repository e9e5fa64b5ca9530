// The line of waiting jobs against the free cores of the nodes.
#include "coordinator/schedule/scheduler.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "common/text.h"

namespace plateau {
namespace {

// What is free while jobs are placed one after the other.
class Room {
 public:
  Room(const Cluster& cluster, const std::vector<RunningJob>& running) : nodes_(cluster.nodes) {
    for (const auto& node : nodes_) free_.emplace_back(static_cast<size_t>(std::max(node.cores, 1)), true);
    busy_.resize(nodes_.size(), false);
    for (const auto& job : running) Take(job.shares);
  }

  // Workers of that many threads for which there is room now on a node.
  int Capacity(size_t node, int threads) const {
    if (nodes_[node].health != NodeHealth::kReady) return 0;
    return static_cast<int>(std::count(free_[node].begin(), free_[node].end(), true)) / threads;
  }
  int Capacity(int threads) const {
    int sum = 0;
    for (size_t node = 0; node < nodes_.size(); ++node) sum += Capacity(node, threads);
    return sum;
  }
  bool AllReadyAndEmpty() const {
    for (size_t node = 0; node < nodes_.size(); ++node)
      if (nodes_[node].health != NodeHealth::kReady || busy_[node]) return false;
    return true;
  }

  void Take(const std::vector<NodeShare>& shares) {
    for (const auto& share : shares) {
      const auto found = std::find_if(nodes_.begin(), nodes_.end(), [&](const NodeView& one) { return one.name == share.node; });
      if (found == nodes_.end()) continue;  // removed since
      const auto node = static_cast<size_t>(found - nodes_.begin());
      busy_[node] = true;
      if (share.cores.empty()) free_[node].assign(free_[node].size(), false);
      for (const int core : share.cores)
        if (core >= 0 && core < static_cast<int>(free_[node].size())) free_[node][static_cast<size_t>(core)] = false;
    }
  }

  // Room for the whole gang on as few nodes as possible. The caller has seen that there is enough.
  std::vector<NodeShare> Pack(int workers, int threads) const {
    std::vector<size_t> order(nodes_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return Capacity(a, threads) > Capacity(b, threads); });
    std::vector<int> taken(nodes_.size(), 0);
    size_t next = 0;
    for (int left = workers; left > 0; ++next) {
      if (Capacity(order[next], threads) < left) {
        taken[order[next]] = Capacity(order[next], threads);
      } else {  // the rest fits on one: of those on which it does, the fullest
        size_t fitting = next;
        while (fitting + 1 < order.size() && Capacity(order[fitting + 1], threads) >= left) ++fitting;
        while (fitting > next && Capacity(order[fitting - 1], threads) == Capacity(order[fitting], threads)) --fitting;
        taken[order[fitting]] = left;
      }
      left -= std::min(left, Capacity(order[next], threads));
    }
    std::vector<NodeShare> shares;
    for (size_t node = 0; node < nodes_.size(); ++node)
      if (taken[node] > 0) shares.push_back({nodes_[node].name, taken[node], LowestFree(node, taken[node] * threads)});
    return shares;
  }

 private:
  std::vector<int> LowestFree(size_t node, int count) const {
    std::vector<int> cores;
    for (int core = 0; static_cast<int>(cores.size()) < count; ++core)
      if (free_[node][static_cast<size_t>(core)]) cores.push_back(core);
    return cores;
  }

  const std::vector<NodeView>& nodes_;
  std::vector<std::vector<bool>> free_;  // by node and core
  std::vector<bool> busy_;               // something runs on the node
};

// Workers for which there would be room on empty nodes for which `counts` holds.
template <typename Counts>
int EmptyCapacity(const Cluster& cluster, int threads, Counts counts) {
  int sum = 0;
  for (const auto& node : cluster.nodes)
    if (counts(node)) sum += node.cores / threads;
  return sum;
}

// More workers than cores: each node gets its share by its number of cores, unbound.
std::vector<NodeShare> SpreadUnbound(const Cluster& cluster, int workers) {
  int cores = 0;
  for (const auto& node : cluster.nodes) cores += node.cores;
  std::vector<NodeShare> shares;
  int cores_before = 0, placed = 0;
  for (const auto& node : cluster.nodes) {
    cores_before += node.cores;
    const auto until = static_cast<int>(int64_t{workers} * cores_before / std::max(cores, 1));
    if (until > placed) shares.push_back({node.name, until - placed, {}});
    placed = until;
  }
  return shares;
}

Verdict TooLarge(const WaitingJob& job, const Cluster& cluster) {
  int cores = 0;
  for (const auto& node : cluster.nodes) cores += node.cores;
  const std::string nodes = cluster.nodes.size() == 1 ? fmt::format("the node has {}", cores)
                                                      : fmt::format("the {} nodes have {}", cluster.nodes.size(), cores);
  return {job.id, "TOO_LARGE",
          fmt::format("it needs {} cores ({} workers of {} threads, all threads of a worker on one node), {} and oversubscribing is "
                      "switched off; submit it with fewer workers or threads, or add nodes with `plateau node add`",
                      job.min_workers * job.threads_per_worker, job.min_workers, job.threads_per_worker, nodes)};
}

Verdict WaitsForHosts(const WaitingJob& job, const Cluster& cluster, int room) {
  std::vector<std::string> lost;
  for (const auto& node : cluster.nodes)
    if (node.health == NodeHealth::kLost) lost.push_back(node.name);
  return {job.id, "WAITING_FOR_HOST",
          fmt::format("waiting for {} {}, which does not answer: it needs {} workers of {} threads, and the nodes that answer have "
                      "room for {}",
                      lost.size() == 1 ? "host" : "hosts", JoinNames(lost), job.min_workers, job.threads_per_worker, room)};
}

}  // namespace

Placement Place(const Cluster& cluster, std::vector<WaitingJob> waiting, const std::vector<RunningJob>& running, int64_t now_ms) {
  Placement placement;
  std::sort(waiting.begin(), waiting.end(), [](const WaitingJob& a, const WaitingJob& b) {
    return std::make_tuple(-a.priority, a.queued_ms, a.order) < std::make_tuple(-b.priority, b.queued_ms, b.order);
  });
  Room room(cluster, running);
  const auto any = [](const NodeView&) { return true; };
  const auto ready = [](const NodeView& node) { return node.health == NodeHealth::kReady; };
  const bool some_lost = std::any_of(cluster.nodes.begin(), cluster.nodes.end(),
                                     [](const NodeView& node) { return node.health == NodeHealth::kLost; });
  const bool all_ready = std::all_of(cluster.nodes.begin(), cluster.nodes.end(), ready);
  for (const auto& job : waiting) {
    const int threads = job.threads_per_worker;
    const bool too_large = EmptyCapacity(cluster, threads, any) < job.min_workers;
    if (too_large && !cluster.allow_oversubscribe) {
      if (!job.held) placement.holds.push_back(TooLarge(job, cluster));
      continue;
    }
    const int capacity = room.Capacity(threads);
    if (too_large ? room.AllReadyAndEmpty() : capacity >= job.min_workers) {
      const auto shares =
          too_large ? SpreadUnbound(cluster, job.workers) : room.Pack(std::min(job.workers, capacity), threads);
      room.Take(shares);
      if (!job.delayed) placement.starts.push_back({job.id, shares});
      continue;
    }
    const int ready_capacity = EmptyCapacity(cluster, threads, ready);
    if (too_large ? !all_ready : ready_capacity < job.min_workers) {
      if (some_lost && !job.delayed) placement.waits.push_back(WaitsForHosts(job, cluster, ready_capacity));
      continue;
    }
    if (now_ms - job.queued_ms >= kPassWindowMs) break;
  }
  return placement;
}

}  // namespace plateau
