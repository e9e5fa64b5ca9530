// The life of a node: asked when it is new or in doubt, READY when it answers, LOST when it does not.
#include "coordinator/node/registry.h"

#include <algorithm>
#include <utility>

namespace plateau {
namespace {

// There is nothing to ask of it.
bool IsSettled(const Node& node) {
  return node.state() == NodeState::kReady && (node.gpus_told || node.local()) && !node.gpus_unsure;
}

// Withdrawn GPUs that its host tells of anew, or that nobody offers any more. One that is only claimed stays away.
void OfferAnew(Node& node, const std::vector<Gpu>& told) {
  const std::vector<Gpu> offered = OfferedGpus(node.gpus_given, told);
  const auto has = [](const std::vector<Gpu>& gpus, const std::string& id) {
    return std::ranges::find(gpus, id, &Gpu::id) != gpus.end();
  };
  std::erase_if(node.missing_gpus, [&](const MissingGpu& gone) { return has(told, gone.id) || !has(offered, gone.id); });
}

// Again and at once, where it told none, or gave no report and keeps what it told before: then alone a reason stands beside GPUs.
void AskForGpus(Node& node) {
  node.gpus_unsure = node.host_gpus.empty() || !node.no_gpus_why.empty();
  if (node.gpus_unsure) node.next_probe_ms = 0;
}

}  // namespace

NodeRegistry::NodeRegistry(RegistryOptions options) : options_(std::move(options)) {
  here_.name = kLocalNode;
  here_.gpus_given = options_.local_offer;
  here_.history.push_back({0, NodeState::kReady, ""});
  Hear(here_, options_.local_answer, {});
  here_.next_probe_ms = 0;
}

GpuReport NodeRegistry::LocalGpus() const {
  std::vector<Gpu> gpus = here_.gpus();
  std::string why = gpus.empty() ? here_.WhyNoGpus() : here_.no_gpus_why;
  return {std::move(gpus), std::move(why)};
}

std::string NodeRegistry::NameHere(const std::string& name) const {
  const auto& names = options_.local_names;
  return std::find(names.begin(), names.end(), name) != names.end() ? kLocalNode : name;
}

Node* NodeRegistry::FindHere(const std::string& name) {
  const auto found = std::find_if(nodes_.begin(), nodes_.end(), [&](const Node& node) { return node.name == name; });
  return found == nodes_.end() ? nullptr : &*found;
}

const Node* NodeRegistry::Find(const std::string& name) const {
  return const_cast<NodeRegistry*>(this)->FindHere(NameHere(name));
}

std::vector<Node> NodeRegistry::All() const { return nodes_; }

void NodeRegistry::Change(Node& node, NodeState state, std::string message, Moment now) {
  node.history.push_back({now.unix_ms, state, std::move(message)});
  if (node.history.size() > kMaxNodeChanges) node.history.erase(node.history.begin());
  changed_.insert(node.name);
}

void NodeRegistry::Restore(Node node) {
  node.probing = false;
  node.failures = 0;
  node.next_probe_ms = 0;
  if (node.local())
    Tell(node, LocalGpus());
  else
    AskForGpus(node);
  nodes_.push_back(std::move(node));
  std::stable_sort(nodes_.begin(), nodes_.end(), [](const Node& a, const Node& b) { return a.order < b.order; });
}

Result<std::string> NodeRegistry::Add(const std::string& name, int cores, bool from_hostfile, Moment now) {
  if (!IsHostName(name))
    return Fail(ErrorCode::kInvalidInput, "name: \"{}\" is not a host name: use letters, digits, '.', '_' and '-'", name);
  const std::string here = NameHere(name);
  Node* node = FindHere(here);
  const bool fresh = node == nullptr;
  if (!fresh) AskForGpus(here == kLocalNode ? here_ : *node);
  if (fresh) {
    const int64_t order = nodes_.empty() ? 1 : nodes_.back().order + 1;
    nodes_.push_back(Node{.name = here, .order = order});
    node = &nodes_.back();
  } else if (node->cores_given == (cores > 0) && (cores == 0 || node->cores == cores) && node->from_hostfile == from_hostfile) {
    return here;
  }
  node->from_hostfile = from_hostfile;
  node->cores_given = cores > 0;
  if (cores > 0 || node->local()) node->cores = cores > 0 ? cores : options_.local_cores;
  if (node->local()) Tell(*node, LocalGpus());
  const std::string what = fresh ? "added" : "changed";
  if (node->local())
    Change(*node, NodeState::kReady, what + "; it is the coordinator's own machine", now);
  else if (fresh || cores == 0)
    Change(*node, NodeState::kChecking, what + "; it is asked whether it answers", now);
  else
    Change(*node, node->state(), what, now);
  node->next_probe_ms = 0;
  return here;
}

Status NodeRegistry::OfferGpus(const std::string& name, const std::string& offer, Moment now) {
  PLATEAU_TRY(CheckGpuOffer(offer, "gpus"));
  Node* node = FindHere(NameHere(name));
  if (node == nullptr) return {};
  node->missing_gpus.clear();
  if (node->local()) {
    here_.missing_gpus.clear();
    Tell(*node, LocalGpus());
  }
  if (node->gpus_given == offer) return {};
  node->gpus_given = offer;
  Change(*node, node->state(), offer.empty() ? "it offers all its GPUs" : fmt::format("it offers the GPUs \"{}\"", offer), now);
  return {};
}

void NodeRegistry::WithdrawGpu(const std::string& name, const MissingGpu& gpu, Moment now) {
  const auto withdraw = [&](Node& node) {
    std::erase_if(node.missing_gpus, [&](const MissingGpu& known) { return known.id == gpu.id; });
    node.missing_gpus.push_back(gpu);
  };
  Node* node = FindHere(NameHere(name));
  const bool local = NameHere(name) == kLocalNode;
  if (local) withdraw(here_);
  if (local && node != nullptr) Tell(*node, LocalGpus());
  if (node != nullptr) withdraw(*node);
  if (!local && node == nullptr) return;  // removed meanwhile
  Node& asked = local ? here_ : *node;
  asked.gpus_unsure = true;
  asked.next_probe_ms = now.monotonic_ms;
}

// What a host says of its GPUs. Without a report (a cold driver, a worker program that crashed) it is asked again, and one that takes
// work offers meanwhile what it last told.
void NodeRegistry::Hear(Node& node, const ProbeAnswer& answer, Moment now) {
  const std::string& missing = answer.answered ? answer.no_report : answer.message;
  node.gpus_unsure = !answer.gpus && !missing.empty();
  node.next_probe_ms = now.monotonic_ms + options_.gpus_again_ms;
  if (answer.gpus && answer.gpus->gpus != node.host_gpus) OfferAnew(node, answer.gpus->gpus);
  if (node.gpus_unsure)
    Tell(node, {node.state() == NodeState::kReady ? node.host_gpus : std::vector<Gpu>(),
                fmt::format("{}; asked again every {} minutes", missing, options_.gpus_again_ms / 60'000)});
  else
    Tell(node, answer.gpus.value_or(GpuReport{{}, "it was not asked for its GPUs"}));
}

void NodeRegistry::Tell(Node& node, const GpuReport& report) {
  if (node.gpus_told && node.host_gpus == report.gpus && node.no_gpus_why == report.reason) return;
  node.host_gpus = report.gpus;
  node.no_gpus_why = report.reason;
  node.gpus_told = true;
  changed_.insert(node.name);
}

bool NodeRegistry::Remove(const std::string& name) {
  return std::erase_if(nodes_, [&, here = NameHere(name)](const Node& node) { return node.name == here; }) > 0;
}

std::vector<std::string> NodeRegistry::KeepOnly(const std::vector<HostfileEntry>& hostfile) {
  std::vector<std::string> gone;
  for (const auto& node : nodes_) {
    const bool listed = std::any_of(hostfile.begin(), hostfile.end(),
                                    [&](const HostfileEntry& entry) { return NameHere(entry.name) == node.name; });
    if (node.from_hostfile && !listed) gone.push_back(node.name);
  }
  for (const auto& name : gone) Remove(name);
  return gone;
}

void NodeRegistry::Doubt(const std::string& name, const std::string& lost, Moment now) {
  Node* node = FindHere(NameHere(name));
  if (node == nullptr || node->local()) return;
  if (!lost.empty())
    Change(*node, NodeState::kLost, lost, now);
  else if (node->state() == NodeState::kReady)
    Change(*node, NodeState::kChecking, "an attempt on it went wrong; it is asked whether it answers", now);
  node->failures = 0;
  node->next_probe_ms = now.monotonic_ms;
}

void NodeRegistry::Answered(const ProbeAnswer& answer, Moment now) {
  Node* node = FindHere(answer.node);
  if (answer.node == kLocalNode) {
    here_.probing = false;
    Hear(here_, answer, now);
    if (node == nullptr) return;
    node->missing_gpus = here_.missing_gpus;
    return Tell(*node, LocalGpus());
  }
  if (node == nullptr) return;
  node->probing = false;
  if (IsSettled(*node)) return;
  if (answer.answered || (answer.timed_out && node->state() == NodeState::kReady)) {
    Hear(*node, answer, now);
    if (node->state() == NodeState::kReady) return;  // it was asked for its GPUs alone
  }
  const bool knows_cores = node->cores_given || answer.cores > 0;
  if (answer.answered && knows_cores) {
    if (!node->cores_given) node->cores = answer.cores;
    node->failures = 0;
    return Change(*node, NodeState::kReady, "it answers", now);
  }
  const std::string why =
      answer.answered ? "it answers but does not say how many cores it has (lscpu); add it with --cores N" : answer.message;
  const int doublings = std::min(node->failures, 20);
  node->failures += 1;
  node->next_probe_ms =
      now.monotonic_ms + std::min(options_.first_probe_delay_ms << doublings, options_.longest_probe_delay_ms);
  if (node->state() != NodeState::kLost) Change(*node, NodeState::kLost, why, now);
}

std::vector<std::string> NodeRegistry::TakeDueProbes(int64_t monotonic_ms) {
  std::vector<std::string> due;
  const auto take = [&](Node& node) {
    if (IsSettled(node) || node.probing || node.next_probe_ms > monotonic_ms) return;
    node.probing = true;
    due.push_back(node.name);
  };
  for (auto& node : nodes_) take(node);
  take(here_);
  return due;
}

std::optional<int64_t> NodeRegistry::NextProbeMs() const {
  std::optional<int64_t> next;
  const auto consider = [&next](const Node& node) {
    if (!IsSettled(node) && !node.probing) next = next ? std::min(*next, node.next_probe_ms) : node.next_probe_ms;
  };
  for (const auto& node : nodes_) consider(node);
  consider(here_);
  return next;
}

std::vector<Node> NodeRegistry::TakeChanged() {
  std::vector<Node> changed;
  for (const auto& node : nodes_)
    if (changed_.contains(node.name)) changed.push_back(node);
  changed_.clear();
  return changed;
}

}  // namespace plateau
