// The doctor verb: each rank examines its machine, rank 0 prints.
#include "worker/doctor_verb.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
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
#include "worker/doctor/watchdog.h"
#include "worker/flag_ranges.h"

namespace plateau {
namespace {

constexpr int kMostThreads = 8;  // of the check on the CPU
constexpr int kFailed = 1;

struct DoctorFlags {
  bool json = false;
  int timeout_s = 300;  // more than the two bounds of NCCL, 120 s each, which say more
};

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

void Print(const std::vector<Examination>& all, bool json) {
  fmt::print("{}", json ? ExaminationsToJson(all).dump(2) + "\n" : ExaminationsText(all, WantsColour()));
  std::fflush(stdout);
}

// What hangs cannot be called back, so the program ends, and mpirun then ends the other ranks. What this rank had found until then
// is not lost.
[[noreturn]] void EndHung(Examination own, const std::string& step, const DoctorFlags& flags) {
  const std::string text = fmt::format(
      "{} has not ended within {} s, so the doctor ends here; a device or driver that hangs shows in nvidia-smi and in dmesg "
      "(Xid), and --timeout SECONDS waits longer",
      step, flags.timeout_s);
  fmt::print(stderr, "plateau-worker doctor: rank {} on {}: {}\n", own.rank, own.host, text);
  own.findings.push_back({"Checks", "hangs", Health::kBad, text});
  if (own.rank == 0) Print({std::move(own)}, flags.json);
  std::_Exit(kFailed);
}

// Collective. Rank 0 tests the devices: two ranks at once would wait for each other's.
Examination Examine(Collective& collective, const DoctorFlags& flags) {
  Examination own{.rank = collective.rank(), .host = HostName(), .pid = static_cast<int>(::getpid())};
  Watchdog watchdog(std::chrono::seconds(flags.timeout_s), [&](const std::string& step) { EndHung(own, step, flags); });
  const auto add = [&own](std::vector<Finding> findings) {
    own.findings.insert(own.findings.end(), findings.begin(), findings.end());
  };
  const CudaAnswer cuda = watchdog.Bound("asking the CUDA driver for its devices", [] { return AskCuda(); });
  // Where nothing was opened, what is there of CUDA's libraries and what is not is still worth knowing.
  const auto libraries = cuda.table == nullptr ? FindCudaLibraries(ProcessSurroundings()) : std::vector<FoundLibrary>();
  add(DescribeBuild());
  add(DescribeMachine());
  add(DescribeMpi());
  add(DescribeCuda(cuda, libraries));
  const auto choice = watchdog.Bound("asking the CUDA driver for its devices",
                                     [] { return ChooseDevice(DeviceKind::kAuto, LocalRank(), "device"); });
  add({{"Checks", "device", Health::kInfo, "device: auto takes " + (choice ? choice->reason : choice.error().message)}});
  add(CheckCpu(Threads(collective.world_size())));
  if (LocalRank() == 0) add(CheckCuda(cuda, watchdog));
  collective.Barrier();  // not bound: a host's first rank may be testing many devices, each of them within its bound
  add(watchdog.Bound("the sum over the ranks by MPI", [&] { return CheckCollective(collective); }));
  const int device = choice ? choice->device : 0;
  add(watchdog.Bound(fmt::format("the sum over the ranks' devices, of which this rank's is CUDA device {},", device),
                     [&] { return CheckDeviceSum(collective, cuda, device); }));
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

int RunDoctor(const DoctorFlags& flags) {
  auto collective = StartCollective();
  if (!collective) {
    fmt::print(stderr, "plateau-worker doctor: {}\n", collective.error().message);
    return ExitCode(collective.error().code);
  }
  const std::vector<Examination> all = Gather(**collective, Examine(**collective, flags));
  if ((*collective)->rank() == 0) Print(all, flags.json);
  (*collective)->Finish();
  return std::all_of(all.begin(), all.end(), [](const Examination& rank) { return rank.good(); }) ? 0 : kFailed;
}

}  // namespace

void AddDoctorVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* verb = app.add_subcommand("doctor", "Say what is on this machine, and try whether it works");
  verb->footer(
      "Prints devices, driver, CUDA's libraries and where they were found, MPI, the processor, limits that hurt; runs a "
      "convolution\n"
      "on the CPU and on each CUDA device and, under mpirun, sums over the ranks by MPI and over their devices as training makes "
      "them\n"
      "(NCCL where every rank has a device of its own). A check of a device or of the ranks that has not ended within --timeout is "
      "named, and\n"
      "ends the doctor with what it has found until then.\n"
      "Examples:\n"
      "  plateau doctor\n"
      "  mpirun -np 4 plateau-worker doctor --json\n"
      "Exit codes: 0 all that is there works, 1 something that is there fails or hangs.");
  verb->add_flag("--json", flags->json, "Print JSON");
  verb->add_option("--timeout", flags->timeout_s, "Seconds that one check of a device or of the ranks may take")
      ->check(within::kSeconds)
      ->capture_default_str();
  verb->callback([flags, &exit_code] { exit_code = RunDoctor(*flags); });
}

}  // namespace plateau
