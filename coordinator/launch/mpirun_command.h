// The mpirun command line of an attempt. Pure; the only place that knows Open MPI's options.
#pragma once

#include <string>
#include <vector>

#include "coordinator/launch/launcher.h"

namespace plateau {

struct GangDescription {
  std::string job;
  int attempt = 0;
  std::string folder;  // the attempt's
  std::string mpirun = "mpirun";
  std::string worker;  // path of plateau-worker
  std::string spec_path;
  std::string coordinator;  // tcp://HOST:PORT of the worker link
  std::string token;
  int workers = 1;
  int threads_per_worker = 1;
  std::vector<int> cores;  // granted, ascending; empty: the whole node, unbound
  int machine_cores = 1;   // physical cores: ranks are bound only to those
  bool as_root = false;
  std::string scratch;
};

// Cores 0..n-1: --map-by slot:PE=threads --bind-to core. Other cores (the node is shared with another job): a rankfile that names
// them. No cores, or more than the machine has: unbound, oversubscribed, and idle ranks yield.
LaunchRequest MpirunLaunch(const GangDescription& gang);

}  // namespace plateau
