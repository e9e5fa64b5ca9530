// Open MPI 4.1's options for a gang of ranks on this machine or over several hosts.
#include "coordinator/launch/mpirun_command.h"

#include <algorithm>

#include <fmt/format.h>

#include "common/gpus.h"
#include "common/messages.h"

namespace plateau {
namespace {

bool IsLocal(const GangDescription& gang) {
  return std::all_of(gang.shares.begin(), gang.shares.end(), [](const NodeShare& share) { return share.node == kLocalNode; });
}

bool IsBound(const GangDescription& gang) {
  return std::all_of(gang.shares.begin(), gang.shares.end(), [&](const NodeShare& share) {
    return !share.cores.empty() && (share.node != kLocalNode || share.cores.back() < gang.machine_cores);
  });
}

bool IsFromZero(const GangDescription& gang) {
  return std::all_of(gang.shares.begin(), gang.shares.end(), [](const NodeShare& share) {
    return share.cores.back() + 1 == static_cast<int>(share.cores.size());
  });
}

int WorldSize(const GangDescription& gang) {
  int workers = 0;
  for (const auto& share : gang.shares) workers += share.workers;
  return workers;
}

// In the order of ranks.
std::vector<std::string> Gpus(const GangDescription& gang) {
  std::vector<std::string> gpus;
  for (const auto& share : gang.shares) gpus.insert(gpus.end(), share.gpus.begin(), share.gpus.end());
  return gpus;
}

// rank 1=localhost slot=4,5
std::string Rankfile(const GangDescription& gang) {
  std::string text;
  int rank = 0;
  for (const auto& share : gang.shares) {
    for (int worker = 0; worker < share.workers; ++worker, ++rank) {
      text += fmt::format("rank {}={} slot=", rank, share.node);
      for (int i = 0; i < gang.threads_per_worker; ++i)
        text += fmt::format("{}{}", i > 0 ? "," : "", share.cores[static_cast<size_t>(worker * gang.threads_per_worker + i)]);
      text += "\n";
    }
  }
  return text;
}

// n1 slots=2
std::string Hostfile(const GangDescription& gang) {
  std::string text;
  for (const auto& share : gang.shares) text += fmt::format("{} slots={}\n", share.node, share.workers);
  return text;
}

bool HasDomain(const GangDescription& gang) {
  return std::any_of(gang.shares.begin(), gang.shares.end(),
                     [](const NodeShare& share) { return share.node.find('.') != std::string::npos; });
}

// What several hosts need: how to reach them, and to notice within 3 + 2 * 3 seconds that one is gone. The workers' folder is on
// shared storage, so a host that lacks it says so at once.
void AddHosts(const GangDescription& gang, LaunchRequest& request) {
  request.hostfile = Hostfile(gang);
  auto& arguments = request.arguments;
  const auto add = [&arguments](std::initializer_list<std::string> more) { arguments.insert(arguments.end(), more); };
  add({"--hostfile", gang.folder + "/hostfile", "--wdir", gang.logs});
  if (!gang.rsh_agent.empty()) add({"--mca", "plm_rsh_agent", gang.rsh_agent});
  add({"--mca", "plm_rsh_no_tree_spawn", "1"});  // hosts need not reach each other by the agent
  add({"--mca", "oob_tcp_keepalive_time", "3", "--mca", "oob_tcp_keepalive_intvl", "2", "--mca", "oob_tcp_keepalive_probes", "3"});
  add({"--mca", "btl_tcp_links", "2"});  // one is effectively half duplex
  if (HasDomain(gang)) add({"--mca", "orte_keep_fqdn_hostnames", "1"});
}

}  // namespace

LaunchRequest MpirunLaunch(const GangDescription& gang) {
  LaunchRequest request;
  request.job = gang.job;
  request.attempt = gang.attempt;
  request.folder = gang.folder;
  request.scratch = gang.scratch;
  auto& arguments = request.arguments;
  arguments = {gang.mpirun, "-np", std::to_string(WorldSize(gang))};
  const auto add = [&arguments](std::initializer_list<std::string> more) { arguments.insert(arguments.end(), more); };
  if (!IsLocal(gang)) AddHosts(gang, request);
  auto& environment = request.environment;
  if (!IsBound(gang)) {
    add({"--bind-to", "none"});
    environment.emplace_back("OMPI_MCA_rmaps_base_oversubscribe", "1");
    environment.emplace_back("OMPI_MCA_mpi_yield_when_idle", "1");
  } else if (IsFromZero(gang)) {
    add({"--map-by", fmt::format("slot:PE={}", gang.threads_per_worker), "--bind-to", "core"});
  } else {
    request.rankfile = Rankfile(gang);
    add({"--rankfile", gang.folder + "/rankfile"});
  }
  add({"-x", kTokenVariable, "-x", kLogDirectoryVariable, "-x", "OMP_NUM_THREADS", "-x", kGpusVariable});
  const bool trains = gang.verb == "train";
  if (trains) add({gang.worker, gang.verb, gang.spec_path});
  else add({gang.worker, gang.verb, "--spec", gang.spec_path});
  add({"--job", gang.job, "--attempt", std::to_string(gang.attempt), "--coordinator", gang.coordinator});
  if (trains) add({"--resume", "auto"});
  environment.emplace_back(kTokenVariable, gang.token);
  environment.emplace_back(kLogDirectoryVariable, gang.logs);
  environment.emplace_back("OMP_NUM_THREADS", std::to_string(gang.threads_per_worker));
  environment.emplace_back(kGpusVariable, GrantText(Gpus(gang)));
  if (gang.as_root) {
    environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT", "1");
    environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  if (!gang.scratch.empty() && !IsLocal(gang)) {  // other hosts do not have it, and settings of Open MPI would reach them; TMPDIR does not
    environment.emplace_back("TMPDIR", gang.scratch);
  } else if (!gang.scratch.empty()) {  // everything Open MPI leaves behind when it is killed lies here
    for (const char* name : {"OMPI_MCA_orte_tmpdir_base", "OMPI_MCA_btl_vader_backing_directory",
                             "OMPI_MCA_osc_rdma_backing_directory", "OMPI_MCA_osc_sm_backing_directory"})
      environment.emplace_back(name, gang.scratch);
  }
  return request;
}

}  // namespace plateau
