// The ranks of an attempt grouped by the node they run on: who runs where, and which node's ranks fell silent together.
#pragma once

#include <string>
#include <vector>

#include "coordinator/job/machine.h"

namespace plateau {

// Number of ranks of the job's current attempt.
int WorldSize(const Job& job);
// The nodes of an attempt other than the coordinator's own machine.
std::vector<std::string> RemoteNodes(const Attempt& attempt);

// "on 2 core(s)"; "on 2 core(s) and GPUs 0,1"; "with 2 on n1 (GPUs 0,1), 1 on n2 (GPU 3) (workers a node)".
std::string DescribeShares(const std::vector<NodeShare>& shares);

// A remote node of which no rank is heard any more.
struct SilentHost {
  std::string node;
  std::vector<int> ranks;      // all that run on it
  const WorkerView* longest;   // the rank silent for the longest time; in the job
  int64_t silent_ms = 0;       // of that rank
};

// Nodes with a rank that has been silent for its limit while all others on the node have been silent for at least half of theirs:
// ranks that stop together were last heard at most one heartbeat apart, so a single hung rank does not make a silent host.
std::vector<SilentHost> SilentHosts(const Job& job, int64_t now_ms, const MachineLimits& limits);
// Nodes whose ranks were all last heard (or, never heard, started) more than `gap_ms` before the rank heard last of all: what an end
// of mpirun says of hosts.
std::vector<SilentHost> HostsLeftBehind(const Job& job, int64_t now_ms, int64_t gap_ms);

// "host n3: ranks 4,5 silent for 2.1 s at step 12 in phase reduce"
std::string Describe(const SilentHost& host);
std::string RankList(const std::vector<int>& ranks);  // "4,5"

}  // namespace plateau
