// Open MPI 4.1's options for a gang of ranks on the local node.
#include "coordinator/launch/mpirun_command.h"

#include <fmt/format.h>

#include "common/messages.h"

namespace plateau {
namespace {

bool IsBound(const GangDescription& gang) { return !gang.cores.empty() && gang.cores.back() < gang.machine_cores; }
bool IsFromZero(const GangDescription& gang) { return gang.cores.back() + 1 == static_cast<int>(gang.cores.size()); }

// rank 1=localhost slot=4,5
std::string Rankfile(const GangDescription& gang) {
  std::string text;
  for (int rank = 0; rank < gang.workers; ++rank) {
    text += fmt::format("rank {}=localhost slot=", rank);
    for (int i = 0; i < gang.threads_per_worker; ++i)
      text += fmt::format("{}{}", i > 0 ? "," : "", gang.cores[static_cast<size_t>(rank * gang.threads_per_worker + i)]);
    text += "\n";
  }
  return text;
}

}  // namespace

LaunchRequest MpirunLaunch(const GangDescription& gang) {
  LaunchRequest request;
  request.job = gang.job;
  request.attempt = gang.attempt;
  request.folder = gang.folder;
  request.scratch = gang.scratch;
  auto& arguments = request.arguments;
  arguments = {gang.mpirun, "-np", std::to_string(gang.workers)};
  const auto add = [&arguments](std::initializer_list<std::string> more) { arguments.insert(arguments.end(), more); };
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
  add({"-x", kTokenVariable, "-x", kLogDirectoryVariable, "-x", "OMP_NUM_THREADS"});
  add({gang.worker, "train", gang.spec_path, "--job", gang.job, "--attempt", std::to_string(gang.attempt), "--coordinator",
       gang.coordinator, "--resume", "auto"});
  environment.emplace_back(kTokenVariable, gang.token);
  environment.emplace_back(kLogDirectoryVariable, gang.folder + "/logs");
  environment.emplace_back("OMP_NUM_THREADS", std::to_string(gang.threads_per_worker));
  if (gang.as_root) {
    environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT", "1");
    environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  if (!gang.scratch.empty()) {  // everything Open MPI leaves behind when it is killed lies here
    for (const char* name : {"OMPI_MCA_orte_tmpdir_base", "OMPI_MCA_btl_vader_backing_directory",
                             "OMPI_MCA_osc_rdma_backing_directory", "OMPI_MCA_osc_sm_backing_directory"})
      environment.emplace_back(name, gang.scratch);
  }
  return request;
}

}  // namespace plateau
