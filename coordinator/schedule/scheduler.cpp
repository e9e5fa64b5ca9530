// The line of waiting jobs against the free cores and GPUs of the nodes.
#include "coordinator/schedule/scheduler.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/text.h"
#include "coordinator/schedule/room.h"

namespace plateau {
namespace {

constexpr size_t kMostNamed = 5;  // in one message
constexpr WorkerNeed kGpuAlone{.threads = 0, .gpu = true};

bool IsReady(const NodeView& node) { return node.health == NodeHealth::kReady; }
bool IsAny(const NodeView&) { return true; }

// Workers for which there would be room on empty nodes for which `counts` holds.
int EmptyCapacity(const Cluster& cluster, const WorkerNeed& need, bool (*counts)(const NodeView&)) {
  int sum = 0;
  for (const auto& node : cluster.nodes)
    if (counts(node)) sum += FitsInto(node.cores, static_cast<int>(node.gpus.size()), need);
  return sum;
}

int AllCores(const Cluster& cluster) {
  int cores = 0;
  for (const auto& node : cluster.nodes) cores += node.cores;
  return cores;
}

int AllGpus(const Cluster& cluster) { return EmptyCapacity(cluster, kGpuAlone, IsAny); }

// Of many, kMostNamed and how many more there are.
std::string FirstFew(const std::vector<std::string>& texts) {
  const size_t named = std::min(texts.size(), kMostNamed);
  const std::string text = fmt::format("{}", fmt::join(texts.begin(), texts.begin() + static_cast<std::ptrdiff_t>(named), "; "));
  return named == texts.size() ? text : fmt::format("{}; and {} more", text, texts.size() - named);
}

// "the node has 2"; "the 3 nodes have 6"
std::string NodesHave(const Cluster& cluster, int count) {
  return cluster.nodes.size() == 1 ? fmt::format("the node has {}", count)
                                   : fmt::format("the {} nodes have {}", cluster.nodes.size(), count);
}

// More workers than cores: each node gets its share by its number of cores, unbound.
std::vector<NodeShare> SpreadUnbound(const Cluster& cluster, int workers) {
  const int cores = AllCores(cluster);
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

Verdict TooFewCores(const WaitingJob& job, const Cluster& cluster, const WorkerNeed& need) {
  const std::string workers = fmt::format("{} workers of {} threads", job.min_workers, job.threads_per_worker);
  const std::string needs =
      need.gpu ? fmt::format("{} and a GPU each ({}), all of a worker on one node, {} room for {}", workers, job.device_field,
                             cluster.nodes.size() == 1 ? "the node has" : fmt::format("the {} nodes have", cluster.nodes.size()),
                             EmptyCapacity(cluster, need, IsAny))
               : fmt::format("{} cores ({}, all threads of a worker on one node), {}", job.min_workers * job.threads_per_worker,
                             workers, NodesHave(cluster, AllCores(cluster)));
  return {job.id, "TOO_LARGE",
          fmt::format("it needs {} and oversubscribing is switched off; submit it with fewer workers or threads, or add nodes with "
                      "`plateau node add`",
                      needs)};
}

int MissingGpus(const Cluster& cluster) {
  size_t missing = 0;
  for (const auto& node : cluster.nodes) missing += node.missing_gpus.size();
  return static_cast<int>(missing);
}

// "GPU 0 of n1 does not (no CUDA driver)"
std::string WhichDoNot(const Cluster& cluster) {
  std::vector<std::string> each;
  for (const auto& node : cluster.nodes)
    for (const auto& gpu : node.missing_gpus) each.push_back(fmt::format("GPU {} of {} does not ({})", gpu.id, node.name, gpu.why));
  return FirstFew(each);
}

Verdict TooFewGpus(const WaitingJob& job, const Cluster& cluster) {
  const std::string needs =
      job.min_workers == 1 ? "a GPU for its worker" : fmt::format("{0} GPUs, one for each of {0} workers", job.min_workers);
  if (AllGpus(cluster) + MissingGpus(cluster) >= job.min_workers)
    return {
        job.id, "NO_GPU",
        fmt::format("it needs {} ({}), and {} that answer: {}; offer only GPUs that are there (`plateau node add NODE --gpus`, or "
                    "--gpus of the coordinator for its own machine; `plateau-worker devices` lists them), or mend it and have it "
                    "tried again with `plateau node add NODE` and the --cores and --gpus that it had",
                    needs, job.device_field, NodesHave(cluster, AllGpus(cluster)), WhichDoNot(cluster))};
  return {
      job.id, "TOO_LARGE",
      fmt::format("it needs {} ({}), and {}; submit it with fewer workers or another device, or add nodes with `plateau node add` "
                  "(`plateau node list` says why a node has none)",
                  needs, job.device_field, NodesHave(cluster, AllGpus(cluster)))};
}

Verdict WaitsForHosts(const WaitingJob& job, const Cluster& cluster, bool gpu, int room) {
  std::vector<std::string> lost;
  for (const auto& node : cluster.nodes)
    if (node.health == NodeHealth::kLost) lost.push_back(node.name);
  return {
      job.id, "WAITING_FOR_HOST",
      fmt::format("waiting for {} {}, which does not answer: it needs {} workers of {} threads{}, and the nodes that answer have "
                  "room for {}",
                  lost.size() == 1 ? "host" : "hosts", JoinNames(lost), job.min_workers, job.threads_per_worker,
                  gpu ? " and a GPU each" : "", room)};
}

// "n1:0,1 and n2:3": GPUs of `shares` that a job could be given now if nobody had them; empty when there are none.
std::string GpusThere(const std::vector<NodeShare>& shares, const Cluster& cluster) {
  std::vector<std::string> each;
  for (const auto& share : shares) {
    const auto node = std::find_if(cluster.nodes.begin(), cluster.nodes.end(), [&](const NodeView& one) { return one.name == share.node; });
    if (node == cluster.nodes.end() || !IsReady(*node)) continue;
    std::vector<std::string> ids;
    std::copy_if(share.gpus.begin(), share.gpus.end(), std::back_inserter(ids),
                 [&](const std::string& id) { return std::find(node->gpus.begin(), node->gpus.end(), id) != node->gpus.end(); });
    if (!ids.empty()) each.push_back(fmt::format("{}:{}", share.node, fmt::join(ids, ",")));
  }
  return fmt::format("{}", fmt::join(each, " and "));
}

// What device: auto comes to on these nodes. Where it would have to share cores anyway, GPUs alone count.
bool AutoTakesGpus(const WaitingJob& job, const Cluster& cluster) {
  if (EmptyCapacity(cluster, {job.threads_per_worker, true}, IsAny) >= job.workers) return true;
  const bool cores_suffice = EmptyCapacity(cluster, {job.threads_per_worker, false}, IsAny) >= job.workers;
  return !cores_suffice && AllGpus(cluster) >= job.workers;
}

std::string WhyAuto(const WaitingJob& job, const Cluster& cluster, bool gpus) {
  const int all = AllGpus(cluster);
  const std::string have = all == 0 ? fmt::format("{} no GPU{}", cluster.nodes.size() == 1 ? "the node has" : "the nodes have",
                                                  MissingGpus(cluster) == 0 ? "" : " that answers")
                                    : fmt::format("{} GPU{}", NodesHave(cluster, all), all == 1 ? "" : "s");
  const std::string wants = job.workers == 1 ? "1 worker" : fmt::format("{} workers", job.workers);
  if (gpus) return fmt::format("device: auto takes CUDA: {} for its {}", have, wants);
  if (all < job.workers)
    return fmt::format("device: auto takes the CPU: {}{}", have, all == 0 ? "" : fmt::format(" for its {}", wants));
  return fmt::format("device: auto takes the CPU: {}, but not beside {} free cores for each of its {}", have,
                     job.threads_per_worker, wants);
}

// One pass over the line.
class Pass {
 public:
  Pass(const Cluster& cluster, const std::vector<RunningJob>& running, int64_t now_ms)
      : cluster_(cluster), room_(cluster, running), now_ms_(now_ms) {
    for (const auto& job : running) Holds(job.id, job.shares, false);
    for (const auto& node : cluster.nodes) {
      some_lost_ = some_lost_ || node.health == NodeHealth::kLost;
      all_ready_ = all_ready_ && IsReady(node);
      all_told_ = all_told_ && (node.health == NodeHealth::kLost || node.gpus_told);
    }
  }

  void Look(const WaitingJob& job) {
    const bool gpu = job.device == DeviceKind::kCuda || (job.device == DeviceKind::kAuto && AutoTakesGpus(job, cluster_));
    if (job.device == DeviceKind::kAuto && !gpu && !all_told_) return;
    if (gpu && AllGpus(cluster_) < job.min_workers) return Hold(job, TooFewGpus(job, cluster_), all_told_);
    const WorkerNeed need{job.threads_per_worker, gpu};
    const bool shares_cores = EmptyCapacity(cluster_, need, IsAny) < job.min_workers;
    if (shares_cores && !cluster_.allow_oversubscribe) return Hold(job, TooFewCores(job, cluster_, need), !gpu || all_told_);
    const int capacity = room_.Capacity(need);
    if (shares_cores ? room_.AllReadyAndEmpty() : capacity >= job.min_workers) {
      Grant(job, gpu, shares_cores ? Unbound(job, gpu) : room_.Pack(std::min(job.workers, capacity), need));
      return;
    }
    const int ready_capacity = EmptyCapacity(cluster_, need, IsReady);
    if (shares_cores ? !all_ready_ : ready_capacity < job.min_workers) {
      if (some_lost_ && !job.delayed) placement_.waits.push_back(WaitsForHosts(job, cluster_, gpu, ready_capacity));
      return;
    }
    if ((gpu || job.held) && !job.delayed)
      placement_.waits.push_back(shares_cores ? WaitsForAllNodes(job) : WaitsForRoom(job, need));
    if (now_ms_ - job.queued_ms >= kPassWindowMs) KeepFree(job, need, shares_cores);
  }

  Placement Take() { return std::move(placement_); }

 private:
  void Hold(const WaitingJob& job, Verdict verdict, bool certain) {
    if (certain && (!job.held || job.held_for != verdict.message)) placement_.holds.push_back(std::move(verdict));
  }
  // Of jobs behind it, which it must not wait for.
  void KeepFree(const WaitingJob& job, const WorkerNeed& need, bool shares_cores) {
    const auto reach = room_.Reach(job.workers, need);
    Holds(job.id, shares_cores ? room_.Reach(std::numeric_limits<int>::max(), kGpuAlone) : reach, true);
    if (shares_cores) return room_.TakeAll();
    room_.Take(reach);
  }
  // With a message that says who has the GPUs, or that there are no cores beside them.
  Verdict WaitsForRoom(const WaitingJob& job, const WorkerNeed& need) const {
    if (!need.gpu) return {job.id, "WAITING_FOR_CORES", "waits for free cores"};
    const int short_of = job.min_workers - room_.Capacity(kGpuAlone);
    if (short_of <= 0)
      return {job.id, "WAITING_FOR_CORES",
              fmt::format("waits for cores: GPUs are free for its {} workers, but not beside {} free cores for each",
                          job.min_workers, need.threads)};
    return {job.id, "WAITING_FOR_GPU",
            fmt::format("waits for {} GPU{}{}{}", short_of, short_of == 1 ? "" : "s", holders_.empty() ? "" : ": ",
                        FirstFew(holders_))};
  }
  static Verdict WaitsForAllNodes(const WaitingJob& job) {
    return {job.id, "WAITING_FOR_CORES", "waits until nothing runs on any node: it needs more cores than there are"};
  }
  std::vector<NodeShare> Unbound(const WaitingJob& job, bool gpu) const {
    if (!gpu) return SpreadUnbound(cluster_, job.workers);
    return room_.Pack(std::min(job.workers, room_.Capacity(kGpuAlone)), kGpuAlone);
  }
  void Grant(const WaitingJob& job, bool gpu, std::vector<NodeShare> shares) {
    room_.Take(shares);
    Holds(job.id, shares, job.delayed);
    if (job.delayed) return;
    placement_.starts.push_back({job.id, std::move(shares), gpu ? DeviceKind::kCuda : DeviceKind::kCpu,
                                 job.device == DeviceKind::kAuto ? WhyAuto(job, cluster_, gpu) : ""});
  }

  // `kept`: for a job that waits too.
  void Holds(const std::string& id, const std::vector<NodeShare>& shares, bool kept) {
    const std::string gpus = GpusThere(shares, cluster_);
    if (gpus.empty()) return;
    holders_.push_back(kept ? fmt::format("{} is kept for {}, which stands before it", gpus, id)
                            : fmt::format("{} holds {}", id, gpus));
  }

  const Cluster& cluster_;
  Room room_;
  std::vector<std::string> holders_;  // of GPUs, in front of the job that is looked at
  int64_t now_ms_;
  bool some_lost_ = false, all_ready_ = true, all_told_ = true;
  Placement placement_;
};

}  // namespace

Placement Place(const Cluster& cluster, std::vector<WaitingJob> waiting, const std::vector<RunningJob>& running, int64_t now_ms) {
  std::sort(waiting.begin(), waiting.end(), [](const WaitingJob& a, const WaitingJob& b) {
    return std::make_tuple(-a.priority, a.queued_ms, a.order) < std::make_tuple(-b.priority, b.queued_ms, b.order);
  });
  Pass pass(cluster, running, now_ms);
  for (const auto& job : waiting) pass.Look(job);
  return pass.Take();
}

}  // namespace plateau
