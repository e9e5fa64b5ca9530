// What the control loop does about nodes: adding, removing, asking whether they answer, showing them to the scheduler.
#include <algorithm>

#include "common/log.h"
#include "coordinator/control_loop.h"
#include "coordinator/job/hosts.h"

namespace plateau {
namespace {

NodeHealth HealthOf(NodeState state) {
  switch (state) {
    case NodeState::kReady: return NodeHealth::kReady;
    case NodeState::kChecking: return NodeHealth::kChecking;
    case NodeState::kLost: return NodeHealth::kLost;
  }
  return NodeHealth::kLost;
}

}  // namespace

// The nodes of the store and of the hostfile. Another machine without a link it could reach is refused here, not at a launch.
Status ControlLoop::RecoverNodes() {
  PLATEAU_ASSIGN(auto nodes, store_.LoadNodes());
  for (auto& node : nodes) registry_.Restore(std::move(node));
  if (!options_.hostfile.empty()) {
    for (const auto& gone : registry_.KeepOnly(options_.hostfile)) PLATEAU_TRY(store_.RemoveNode(gone));
    for (const auto& entry : options_.hostfile)
      if (auto added = registry_.Add(entry.name, entry.cores, true, Now()); !added) return Fail(std::move(added.error()));
  }
  for (const auto& node : registry_.All()) PLATEAU_TRY(CheckReach(node.name));
  return SaveNodes();
}

Status ControlLoop::CheckReach(const std::string& node) const {
  if (node == kLocalNode || !options_.remote_link_endpoint.empty()) return {};
  return Fail(ErrorCode::kConflict,
              "node {} is another machine, but the worker link listens on {} only, which no other machine reaches; start the "
              "coordinator with --link IP:PORT, an address of this machine that its workers reach",
              node, options_.link_endpoint);
}

Status ControlLoop::SaveNodes() {
  for (const Node& node : registry_.TakeChanged()) {
    PLATEAU_TRY(store_.WriteNode(node));
    LogInfo("node {}: {}: {}", node.name, NodeStateName(node.state()), node.message());
  }
  const Node& here = registry_.Here();
  const auto gpus = here.gpus();
  const std::lock_guard lock(jobs_mutex_);
  if (gpus != shown_here_.gpus() || here.WhyNoGpus() != shown_here_.WhyNoGpus())
    LogInfo("this machine offers {} cores and {}", options_.cluster.nodes.front().cores,
            gpus.empty() ? "no GPU: " + here.WhyNoGpus() : fmt::format("{} GPU(s)", gpus.size()));
  shown_here_ = here;
  shown_nodes_ = registry_.All();
  return {};
}

void ControlLoop::SaveNodesOrLog() {
  if (auto saved = SaveNodes(); !saved) LogError("{}; after a restart the nodes are asked again", saved.error().message);
}

void ControlLoop::AddNode(const std::string& name, int cores, const std::string& gpus, NodeService::Answer answer) {
  Push(NodeRequest{name, cores, gpus, false, std::move(answer)});
}

void ControlLoop::RemoveNode(const std::string& name, NodeService::Answer answer) {
  Push(NodeRequest{name, 0, "", true, std::move(answer)});
}

void ControlLoop::Post(const ProbeAnswer& answer) { Push(answer); }

void ControlLoop::Handle(NodeRequest& request) {
  const NodeRegistry before = registry_;
  auto changed = request.remove ? DropNode(request.name) : PutNode(request.name, request.cores, request.gpus);
  if (!changed) registry_ = before;
  request.answer(std::move(changed));
}

Result<NodeStatus> ControlLoop::PutNode(const std::string& name, int cores, const std::string& gpus) {
  const Node* known = registry_.Find(name);
  PLATEAU_ASSIGN(const std::string here, registry_.Add(name, cores, known != nullptr && known->from_hostfile, Now()));
  PLATEAU_TRY(registry_.OfferGpus(here, gpus, Now()));
  PLATEAU_TRY(CheckReach(here));
  PLATEAU_TRY(SaveNodes());
  return StatusOf(*registry_.Find(here));
}

Result<NodeStatus> ControlLoop::DropNode(const std::string& name) {
  const Node* known = registry_.Find(name);
  if (known == nullptr) return Fail(ErrorCode::kNotFound, "there is no node {}; `plateau node list` shows them", name);
  NodeStatus status = StatusOf(*known);
  PLATEAU_TRY(store_.RemoveNode(known->name));
  registry_.Remove(name);
  PLATEAU_TRY(SaveNodes());
  LogInfo("node {}: removed", status.node.name);
  return status;
}

void ControlLoop::Handle(ProbeAnswer& answer) {
  registry_.Answered(answer, Now());
  SaveNodesOrLog();
}

void ControlLoop::DoubtNodes(const Job& job, const DoubtHosts& doubt) {
  if (job.Current()->external) return;  // its user may have ended it: that says nothing about a node
  for (const auto& node : doubt.nodes)
    registry_.Doubt(node, doubt.lost ? fmt::format("attempt {} of job {}: {}", job.attempts.size(), job.id, doubt.message) : "", Now());
  SaveNodesOrLog();
}

void ControlLoop::TakeBack(const WithdrawGpu& withdrawn) {
  LogWarning("node {}: GPU {} does not answer and is no longer offered: {}", withdrawn.node, withdrawn.gpu.id, withdrawn.gpu.why);
  registry_.WithdrawGpu(withdrawn.node, withdrawn.gpu, Now());
  SaveNodesOrLog();
}

void ControlLoop::ProbeNodes() {
  if (hands_.prober == nullptr) return;
  for (const auto& node : registry_.TakeDueProbes(clock_.MonotonicMs())) hands_.prober->Probe(node);
}

Cluster ControlLoop::CurrentCluster() const {
  if (registry_.empty()) {
    Cluster own = options_.cluster;
    for (const Gpu& gpu : registry_.Here().gpus()) own.nodes.front().gpus.push_back(gpu.id);
    own.nodes.front().missing_gpus = registry_.Here().missing_gpus;
    return own;
  }
  Cluster cluster{.allow_oversubscribe = options_.cluster.allow_oversubscribe};
  for (const auto& node : registry_.All()) {
    NodeView view{.name = node.name, .cores = node.cores, .health = HealthOf(node.state())};
    for (const Gpu& gpu : node.gpus()) view.gpus.push_back(gpu.id);
    view.missing_gpus = node.missing_gpus;
    view.gpus_told = node.gpus_told || !node.gpus_given.empty();
    cluster.nodes.push_back(std::move(view));
  }
  // mpirun numbers the ranks of its own machine first, wherever its hostfile names it, and the others in the hostfile's order.
  std::stable_partition(cluster.nodes.begin(), cluster.nodes.end(), [](const NodeView& node) { return node.name == kLocalNode; });
  return cluster;
}

NodeStatus ControlLoop::StatusOf(const Node& node) const {
  NodeStatus status{.node = node};
  for (const auto& job : All()) {
    if (!HasProcesses(job->state) || job->Current()->external) continue;
    for (const auto& share : job->Current()->shares) {
      if (share.node != node.name) continue;
      status.jobs.push_back(job->id);
      status.used_cores += share.cores.empty() ? node.cores : static_cast<int>(share.cores.size());
      for (const std::string& gpu : share.gpus) status.gpu_jobs[gpu] = job->id;
    }
  }
  return status;
}

std::vector<NodeStatus> ControlLoop::ListNodes() const {
  std::vector<Node> nodes;
  Node implicit;
  {
    const std::lock_guard lock(jobs_mutex_);
    nodes = shown_nodes_;
    implicit = shown_here_;
  }
  std::vector<NodeStatus> list;
  for (const auto& node : nodes) list.push_back(StatusOf(node));
  if (!list.empty()) return list;
  implicit.cores = options_.cluster.nodes.front().cores;
  implicit.history = {{clock_.NowMs(), NodeState::kReady, "the coordinator's own machine; no node was named"}};
  list.push_back(StatusOf(implicit));
  list.back().implicit = true;
  return list;
}

// A job that waited for a host and now waits for others to leave it says so.
void ControlLoop::EndHostWaits(const std::vector<std::shared_ptr<const Job>>& jobs, const Cluster& cluster,
                               const Placement& placement) {
  for (const auto& node : cluster.nodes)
    if (node.health == NodeHealth::kChecking) return;
  for (const auto& job : jobs) {
    if (job->state != JobState::kQueued || job->reason != "WAITING_FOR_HOST") continue;
    const auto is_it = [&](const auto& one) { return one.id == job->id; };
    if (std::any_of(placement.waits.begin(), placement.waits.end(), is_it)) continue;
    if (std::any_of(placement.starts.begin(), placement.starts.end(), is_it)) continue;
    ApplyOrRetry(job->id, WaitNoted{"WAITING_FOR_CORES", "its hosts answer; waiting for free cores on them"});
  }
}

}  // namespace plateau
