// A host that jobs may be started on, as the coordinator knows it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "common/gpus.h"
#include "coordinator/job/job.h"

namespace plateau {

// READY takes work. CHECKING is being asked whether it answers: when it is new, and after an attempt on it went wrong. LOST did
// not answer; it is asked again and again until it does.
enum class NodeState { kReady, kChecking, kLost };
const char* NodeStateName(NodeState state);  // "READY"

struct NodeChange {
  int64_t time_ms = 0;  // Unix
  NodeState state = NodeState::kChecking;
  std::string message;
  bool operator==(const NodeChange&) const = default;
};

inline constexpr size_t kMaxNodeChanges = 50;

// Durable but for the last group.
struct Node {
  std::string name;            // as the remote agent and mpirun take it; kLocalNode: this machine
  int cores = 0;               // offered to jobs; 0: not known before the host has answered
  bool cores_given = false;    // false: as many as the host says it has
  std::vector<Gpu> host_gpus;  // that the host told
  std::string no_gpus_why;     // it told none
  bool gpus_told = false;      // false: it has not answered since this was asked of hosts
  std::string gpus_given;      // the offer (common/gpus.h); empty: all that the host told
  int64_t order = 0;           // of addition; the scheduler numbers ranks in it
  bool from_hostfile = false;  // belongs to the coordinator's hostfile and goes when it is no longer in there
  std::vector<NodeChange> history;  // newest last, at most kMaxNodeChanges; never empty

  std::vector<MissingGpu> missing_gpus;  // did not answer a rank: not offered until its host tells others, or a person offers them anew
  bool gpus_unsure = false;  // it told none, gave no report, or one does not answer: asked again, while jobs go by what is known
  bool probing = false;       // an answer is under way
  int failures = 0;           // probes without an answer since the last one with
  int64_t next_probe_ms = 0;  // monotonic

  NodeState state() const { return history.back().state; }
  const std::string& message() const { return history.back().message; }
  bool local() const { return name == kLocalNode; }
  std::vector<Gpu> gpus() const;  // that jobs may get
  std::string WhyNoGpus() const;  // for people; empty when it offers some
  std::string GpusNote() const;   // what is amiss with them, for people; empty: nothing
};

// A node and what runs on it, for people. `implicit`: the local machine while no node was named.
struct NodeStatus {
  Node node;
  bool implicit = false;
  int used_cores = 0;
  std::vector<std::string> jobs;
  std::map<std::string, std::string> gpu_jobs{};  // id of a GPU in use: the job's
};

// JSON of the state store.
std::string NodeRecordText(const Node& node);
Result<Node> ParseNodeRecord(std::string_view text);
// JSON of the API: {"name","cores","used_cores","gpus","used_gpus","gpus_given","no_gpus_why","gpus_note","state","message","since","local",
// "implicit","jobs","history"}.
std::string NodeViewText(const NodeStatus& status);
std::string NodeListText(const std::vector<NodeStatus>& nodes);

// A line of a hostfile. cores 0: as many as the host has.
struct HostfileEntry {
  std::string name;
  int cores = 0;
  bool operator==(const HostfileEntry&) const = default;
};

// Open MPI's hostfile: "host slots=N" a line, # comments; a host named twice gets the sum. Errors name `where` and the line.
Result<std::vector<HostfileEntry>> ParseHostfile(std::string_view text, const std::string& where);
// Letters, digits, '.', '_' and '-', not beginning with '-': safe as an argument of any remote agent.
bool IsHostName(const std::string& name);

}  // namespace plateau
