// The doctor verb: each rank examines its machine, rank 0 prints.
#include "worker/doctor_verb.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "worker/backend/device/cuda_library.h"
#include "worker/collective/mpi.h"
#include "worker/doctor/checks.h"
#include "worker/doctor/machine.h"

namespace plateau {
namespace {

constexpr int kMostThreads = 8;  // of the check on the CPU

std::string HostName() {
  char name[256] = "";
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

int Threads(int ranks) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  const int usable = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
  return std::clamp(usable / ranks, 1, kMostThreads);
}

// mpirun gives its ranks a terminal of their own, wherever its output goes.
bool WantsColour() {
  if (LaunchedByMpi()) return false;
  const char* term = std::getenv("TERM");
  const char* none = std::getenv("NO_COLOR");
  return ::isatty(STDOUT_FILENO) == 1 && (none == nullptr || *none == '\0') && term != nullptr && std::string_view(term) != "dumb";
}

// Collective. Rank 0 tests the devices: two ranks at once would wait for each other's.
Examination Examine(Collective& collective) {
  Examination own{.rank = collective.rank(), .host = HostName(), .pid = static_cast<int>(::getpid())};
  const auto add = [&own](std::vector<Finding> findings) {
    own.findings.insert(own.findings.end(), findings.begin(), findings.end());
  };
  const CudaAnswer cuda = AskCuda();
  // Where nothing was opened, what is there of CUDA's libraries and what is not is still worth knowing.
  const auto libraries = cuda.table == nullptr ? FindCudaLibraries(ProcessSurroundings()) : std::vector<FoundLibrary>();
  add(DescribeBuild());
  add(DescribeMachine());
  add(DescribeMpi());
  add(DescribeCuda(cuda, libraries));
  const auto choice = ChooseDevice(DeviceKind::kAuto, LocalRank(), "device");
  add({{"Checks", "device", Health::kInfo, "device: auto takes " + (choice ? choice->reason : choice.error().message)}});
  add(CheckCpu(Threads(collective.world_size())));
  if (LocalRank() == 0) add(CheckCuda(cuda));
  collective.Barrier();
  add(CheckCollective(collective));
  add(CheckDeviceSum(collective, cuda, choice ? choice->device : 0));
  return own;
}

// Collective: everybody's examination, complete on rank 0.
std::vector<Examination> Gather(Collective& collective, const Examination& own) {
  std::vector<Examination> all;
  for (int rank = 0; rank < collective.world_size(); ++rank) {
    const std::string mine = rank == collective.rank() ? ExaminationToJson(own).dump() : "";
    all.push_back(ExaminationFromJson(nlohmann::ordered_json::parse(collective.BroadcastText(mine, rank))));
  }
  return all;
}

int RunDoctor(bool json) {
  auto collective = StartCollective();
  if (!collective) {
    fmt::print(stderr, "plateau-worker doctor: {}\n", collective.error().message);
    return ExitCode(collective.error().code);
  }
  const std::vector<Examination> all = Gather(**collective, Examine(**collective));
  if ((*collective)->rank() == 0) {
    fmt::print("{}", json ? ExaminationsToJson(all).dump(2) + "\n" : ExaminationsText(all, WantsColour()));
    std::fflush(stdout);
  }
  (*collective)->Finish();
  return std::all_of(all.begin(), all.end(), [](const Examination& rank) { return rank.good(); }) ? 0 : 1;
}

}  // namespace

void AddDoctorVerb(CLI::App& app, int& exit_code) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("doctor", "Say what is on this machine, and try whether it works");
  verb->footer(
      "Prints devices, driver, CUDA's libraries and where they were found, MPI, the processor, limits that hurt; runs a "
      "convolution\n"
      "on the CPU and on each CUDA device and, under mpirun, sums over the ranks by MPI and over their devices as training makes "
      "them\n"
      "(NCCL where every rank has a device of its own).\n"
      "Examples:\n"
      "  plateau doctor\n"
      "  mpirun -np 4 plateau-worker doctor --json\n"
      "Exit codes: 0 all that is there works, 1 something that is there fails.");
  verb->add_flag("--json", *json, "Print JSON");
  verb->callback([json, &exit_code] { exit_code = RunDoctor(*json); });
}

}  // namespace plateau
