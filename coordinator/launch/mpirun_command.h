// The mpirun command line of an attempt. Pure; the only place that knows Open MPI's options.
#pragma once

#include <string>
#include <vector>

#include "coordinator/job/job.h"
#include "coordinator/launch/launcher.h"

namespace plateau {

struct GangDescription {
  std::string job;
  int attempt = 0;
  std::string verb = "train";  // of plateau-worker: "train" or "evaluate"
  std::string folder;  // the attempt's, on this machine
  std::string logs;    // of the ranks; over several hosts on shared storage
  std::string mpirun = "mpirun";
  std::string worker;     // path of plateau-worker, the same on every host
  std::string spec_path;  // over several hosts on shared storage
  std::string coordinator;  // tcp://HOST:PORT of the worker link, as the workers reach it
  std::string token;
  std::vector<NodeShare> shares;  // who runs where; ranks are numbered through them in order
  int threads_per_worker = 1;
  int machine_cores = 1;  // physical ones of this machine: ranks here are bound only to those
  std::string rsh_agent;  // how mpirun reaches other hosts, with its options: "ssh"; empty: Open MPI's own choice
  bool as_root = false;
  std::string scratch;  // memory-backed folder
};

// Cores 0..n-1 of each node: --map-by slot:PE=threads --bind-to core. Others (the node is shared with another job): a rankfile
// that names them. No cores, or more than this machine has: unbound, oversubscribed, and idle ranks yield. Nodes other than this
// machine: a hostfile with one slot a worker, the remote agent, keepalives that notice a lost host within 8 s, two TCP links. PLATEAU_GPUS
// names each rank's GPU (common/gpus.h).
LaunchRequest MpirunLaunch(const GangDescription& gang);

}  // namespace plateau
