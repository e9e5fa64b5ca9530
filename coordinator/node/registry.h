// The nodes and what is known of each: which take work, which are asked whether they answer. Pure; the control loop stores what
// changed and carries out the probes.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/node/node.h"

namespace plateau {

// What a host said when it was asked.
struct ProbeAnswer {
  std::string node;
  bool answered = false;
  int cores = 0;                    // physical, when it answered; 0: it did not say
  std::optional<GpuReport> gpus{};  // the report of its worker program
  std::string no_report{};          // why there is none although it answered; empty: it was not asked for one
  bool timed_out = false;           // it did not answer: in time, that is; the agent itself told of no failure
  std::string message;              // why it did not answer
};

struct RegistryOptions {
  std::vector<std::string> local_names;  // other names of this machine
  int local_cores = 1;
  ProbeAnswer local_answer{};            // of this machine at the start; only its GPUs count
  std::string local_offer{};             // of its GPUs (common/gpus.h)
  int64_t gpus_again_ms = 5 * 60'000;    // from an answer without a report of GPUs to the next question
  int64_t first_probe_delay_ms = 1'000;  // from a probe without an answer to the next, doubled each time
  int64_t longest_probe_delay_ms = 15'000;
};

// One thread. Names of this machine become kLocalNode, which is always READY. A host that answers without a report of its GPUs
// offers none, takes work, and is asked again; this machine too, whether it is in the list or not. One that is READY and asked for its
// GPUs alone stays so without a report, or without an answer in time, and offers what it last told; it is LOST when the agent fails.
class NodeRegistry {
 public:
  explicit NodeRegistry(RegistryOptions options);

  // A record of the store; what was not READY, or told no GPUs, is asked again at once.
  void Restore(Node node);
  // Adds a node or changes its cores (0: as many as it has). kInvalidInput: no host name. Returns its name here. What it offers of
  // its GPUs stays; at first all. One that is there already and told no GPUs is asked again.
  Result<std::string> Add(const std::string& name, int cores, bool from_hostfile, Moment now);
  // Changes which GPUs a node offers (common/gpus.h; empty: all that its host tells), those too that did not answer. kInvalidInput: no
  // such offer.
  Status OfferGpus(const std::string& name, const std::string& offer, Moment now);
  // False: there is none of this name.
  bool Remove(const std::string& name);
  // Removes the nodes of an earlier hostfile that are not in this one. Returns their names.
  std::vector<std::string> KeepOnly(const std::vector<HostfileEntry>& hostfile);
  // Takes no work before it answers. `lost`: why it counts as LOST already; empty: CHECKING.
  void Doubt(const std::string& name, const std::string& lost, Moment now);
  // It did not answer a rank: not offered until the host tells another set of GPUs, or OfferGpus. The host is asked at once.
  void WithdrawGpu(const std::string& name, const MissingGpu& gpu, Moment now);
  void Answered(const ProbeAnswer& answer, Moment now);

  // Nodes to ask now; each counts as being asked until Answered.
  std::vector<std::string> TakeDueProbes(int64_t monotonic_ms);
  std::optional<int64_t> NextProbeMs() const;
  // Nodes whose durable part changed since the last call.
  std::vector<Node> TakeChanged();

  const Node* Find(const std::string& name) const;  // by any of its names
  std::vector<Node> All() const;                    // in the order in which they were added
  bool empty() const { return nodes_.empty(); }
  GpuReport LocalGpus() const;  // that this machine offers, in the list or not
  const Node& Here() const { return here_; }  // this machine, likewise; its GPUs alone count

 private:
  std::string NameHere(const std::string& name) const;
  Node* FindHere(const std::string& name);
  void Change(Node& node, NodeState state, std::string message, Moment now);
  void Hear(Node& node, const ProbeAnswer& answer, Moment now);
  void Tell(Node& node, const GpuReport& report);

  RegistryOptions options_;
  Node here_;  // this machine, whose GPUs are asked for in the place of its node's
  std::vector<Node> nodes_;
  std::set<std::string> changed_;
};

}  // namespace plateau
