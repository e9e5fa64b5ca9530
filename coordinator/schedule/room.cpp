// Counting, taking and packing.
#include "coordinator/schedule/room.h"

#include <algorithm>
#include <limits>

namespace plateau {

int FitsInto(int cores, int gpus, const WorkerNeed& need) {
  const int by_cores = need.threads > 0 ? cores / need.threads : std::numeric_limits<int>::max();
  return need.gpu ? std::min(by_cores, gpus) : by_cores;
}

Room::Room(const Cluster& cluster, const std::vector<RunningJob>& running) : nodes_(cluster.nodes) {
  for (const auto& node : nodes_) {
    free_.emplace_back(static_cast<size_t>(std::max(node.cores, 1)), true);
    free_gpus_.push_back(node.gpus);
  }
  busy_.resize(nodes_.size(), false);
  for (const auto& job : running) Take(job.shares);
}

int Room::CapacityOf(size_t node, const WorkerNeed& need) const {
  if (nodes_[node].health != NodeHealth::kReady) return 0;
  const auto cores = static_cast<int>(std::count(free_[node].begin(), free_[node].end(), true));
  return FitsInto(cores, static_cast<int>(free_gpus_[node].size()), need);
}

int Room::Capacity(const WorkerNeed& need) const {
  int sum = 0;
  for (size_t node = 0; node < nodes_.size(); ++node) sum += CapacityOf(node, need);
  return sum;
}

bool Room::AllReadyAndEmpty() const {
  for (size_t node = 0; node < nodes_.size(); ++node)
    if (nodes_[node].health != NodeHealth::kReady || busy_[node]) return false;
  return true;
}

void Room::Take(const std::vector<NodeShare>& shares) {
  for (const auto& share : shares) {
    const auto found = std::find_if(nodes_.begin(), nodes_.end(), [&](const NodeView& one) { return one.name == share.node; });
    if (found == nodes_.end()) continue;  // removed since
    const auto node = static_cast<size_t>(found - nodes_.begin());
    busy_[node] = true;
    if (share.cores.empty()) free_[node].assign(free_[node].size(), false);
    for (const int core : share.cores)
      if (core >= 0 && core < static_cast<int>(free_[node].size())) free_[node][static_cast<size_t>(core)] = false;
    for (const std::string& gpu : share.gpus) std::erase(free_gpus_[node], gpu);
  }
}

std::vector<NodeShare> Room::Pack(int workers, const WorkerNeed& need) const {
  std::vector<size_t> order(nodes_.size());
  std::vector<int> fits(nodes_.size());
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
    fits[i] = CapacityOf(i, need);
  }
  const auto capacity = [&](size_t place) { return fits[order[place]]; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return fits[a] > fits[b]; });
  std::vector<int> taken(nodes_.size(), 0);
  size_t next = 0;
  for (int left = workers; left > 0; ++next) {
    if (capacity(next) < left) {
      taken[order[next]] = capacity(next);
    } else {  // the rest fits on one: of those on which it does, the fullest
      size_t fitting = next;
      while (fitting + 1 < order.size() && capacity(fitting + 1) >= left) ++fitting;
      while (fitting > next && capacity(fitting - 1) == capacity(fitting)) --fitting;
      taken[order[fitting]] = left;
    }
    left -= std::min(left, capacity(next));
  }
  std::vector<NodeShare> shares;
  for (size_t node = 0; node < nodes_.size(); ++node) {
    if (taken[node] == 0) continue;
    NodeShare share{nodes_[node].name, taken[node], LowestFree(node, taken[node] * need.threads)};
    if (need.gpu) share.gpus.assign(free_gpus_[node].begin(), free_gpus_[node].begin() + taken[node]);
    shares.push_back(std::move(share));
  }
  return shares;
}

std::vector<NodeShare> Room::Reach(int workers, const WorkerNeed& need) const {
  std::vector<NodeShare> shares;
  for (size_t node = 0; node < nodes_.size(); ++node) {
    const int fits = std::min(workers, FitsInto(nodes_[node].cores, static_cast<int>(nodes_[node].gpus.size()), need));
    if (fits == 0) continue;
    NodeShare share{nodes_[node].name, fits, LowestFree(node, fits * need.threads)};
    const auto gpus = need.gpu ? std::min(free_gpus_[node].size(), static_cast<size_t>(fits)) : 0;
    share.gpus.assign(free_gpus_[node].begin(), free_gpus_[node].begin() + static_cast<std::ptrdiff_t>(gpus));
    if (!share.cores.empty() || !share.gpus.empty()) shares.push_back(std::move(share));
  }
  return shares;
}

void Room::TakeAll() {
  for (size_t node = 0; node < nodes_.size(); ++node) {
    free_[node].assign(free_[node].size(), false);
    free_gpus_[node].clear();
    busy_[node] = true;
  }
}

std::vector<int> Room::LowestFree(size_t node, int count) const {
  std::vector<int> cores;
  const auto all = static_cast<int>(free_[node].size());
  for (int core = 0; core < all && static_cast<int>(cores.size()) < count; ++core)
    if (free_[node][static_cast<size_t>(core)]) cores.push_back(core);
  return cores;
}

}  // namespace plateau
