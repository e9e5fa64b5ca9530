// Reads /proc, limits and versions.
#include "worker/doctor/machine.h"

#include <dlfcn.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/text.h"
#include "worker/backend/device/cuda_library.h"
#include "worker/collective/mpi.h"

namespace plateau {
namespace {

constexpr rlim_t kEnoughFiles = 4096;          // a store of 558 shards and its RocksDB files stay open
constexpr uint64_t kEnoughShared = 256 << 20;  // of /dev/shm: ranks of a host talk through it
constexpr const char* kFewer = "not found; cuDNN has fewer algorithms to choose from without it";
constexpr const char* kInstructionSets[] = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"};

std::string FirstValue(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key) && line.find(':') != std::string::npos) return line.substr(line.find_first_not_of(" \t", line.find(':') + 1));
  return "";
}

int UsableCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

std::string InstructionSets() {
  const std::string flags = " " + FirstValue("/proc/cpuinfo", "flags") + " ";
  std::string found;
  for (const char* set : kInstructionSets)
    if (flags.find(fmt::format(" {} ", set)) != std::string::npos) found += fmt::format("{}{}", found.empty() ? "" : ", ", set);
  return found.empty() ? "none of AVX2 and AVX-512" : found;
}

std::string LimitText(rlim_t limit, bool bytes) {
  if (limit == RLIM_INFINITY) return "unlimited";
  return bytes ? HumanBytes(limit) : std::to_string(limit);
}

Finding OpenFiles() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const bool enough = limit.rlim_cur >= kEnoughFiles;
  return {"Limits", "open files", enough ? Health::kGood : Health::kNote,
          LimitText(limit.rlim_cur, false) +
              (enough ? "" : fmt::format("; a large store needs more: ulimit -n {}", std::min<rlim_t>(limit.rlim_max, 65536)))};
}

Finding LockedMemory(bool infiniband) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool enough = limit.rlim_cur == RLIM_INFINITY || !infiniband;
  return {"Limits", "locked memory", enough ? Health::kGood : Health::kNote,
          LimitText(limit.rlim_cur, true) + (enough ? "" : "; InfiniBand registers buffers there: ulimit -l unlimited")};
}

Finding SharedMemory() {
  struct statvfs space {};
  if (::statvfs("/dev/shm", &space) != 0) return {"Limits", "/dev/shm", Health::kNote, "is not there; ranks of one host will be slow"};
  const uint64_t bytes = uint64_t{space.f_bavail} * space.f_frsize;
  const bool enough = bytes >= kEnoughShared;
  return {"Limits", "/dev/shm", enough ? Health::kGood : Health::kNote,
          HumanBytes(bytes) + " free" + (enough ? "" : "; ranks of one host and NCCL need more (docker run --shm-size 1g)")};
}

// The program `name` on PATH, empty when there is none.
std::string OnPath(const std::string& name) {
  const char* path = std::getenv("PATH");
  for (const std::string& folder : SplitText(path == nullptr ? "" : path, ':'))
    if (!folder.empty() && ::access((folder + "/" + name).c_str(), X_OK) == 0) return folder + "/" + name;
  return "";
}

bool HasCard() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/dev", error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("nvidia") && name.size() > 6 && std::isdigit(static_cast<unsigned char>(name[6])) != 0) return true;
  }
  return false;
}

}  // namespace

std::vector<Finding> DescribeBuild() {
  const std::string cuda = PLATEAU_CUDA_BUILT_WITH;
  return {{"Build", "plateau", Health::kInfo, fmt::format("{} ({})", PLATEAU_VERSION, PLATEAU_BUILD_TYPE)},
          {"Build", "compiler", Health::kInfo, fmt::format("gcc {}, C++ {}", __VERSION__, __cplusplus / 100 % 100)},
          {"Build", "backends", Health::kInfo, cuda.empty() ? "CPU (oneDNN); no CUDA: nvcc was not found when it was configured"
                                                            : "CPU (oneDNN), CUDA (" + cuda + ")"}};
}

std::vector<Finding> DescribeMachine() {
  const int usable = UsableCores();
  const auto online = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  const std::string memory = FirstValue("/proc/meminfo", "MemAvailable");
  const bool narrow = usable < online;
  return {{"Machine", "processor", Health::kInfo, FirstValue("/proc/cpuinfo", "model name")},
          {"Machine", "instructions", Health::kInfo, InstructionSets()},
          {"Machine", "memory", Health::kInfo, HumanBytes(std::strtoull(memory.c_str(), nullptr, 10) * 1024) + " free"},
          {"Limits", "cores", narrow ? Health::kNote : Health::kGood,
           narrow ? fmt::format("{} of {}: this process is bound to them; for all, start mpirun with --bind-to none or --map-by slot:PE={}",
                                usable, online, online)
                  : fmt::format("all {}", online)},
          OpenFiles(),
          LockedMemory(::access("/sys/class/infiniband", F_OK) == 0),
          SharedMemory()};
}

std::vector<Finding> DescribeMpi() {
  // The bundle's own comes first, as for the coordinator.
  const std::string beside = ProcessSurroundings().program_folder + "/mpirun";
  const std::string mpirun = ::access(beside.c_str(), X_OK) == 0 ? beside : OnPath("mpirun"), ssh = OnPath("ssh");
  return {{"MPI", "library", Health::kInfo, MpiVersion()},
          {"MPI", "mpirun", mpirun.empty() ? Health::kNote : Health::kInfo,
           mpirun.empty() ? "not on PATH: a coordinator cannot start workers; install Open MPI, or use the bundle's bin folder" : mpirun},
          {"MPI", "ssh", ssh.empty() ? Health::kNote : Health::kInfo,
           ssh.empty() ? "not on PATH: workers start on this machine alone" : ssh}};
}

std::vector<Finding> DescribeCuda(const CudaAnswer& answer, const std::vector<FoundLibrary>& libraries) {
  // Where there is no card nothing is wrong, unless somebody named a library that is none.
  const Health wrong = answer.unusable || (answer.compiled_in && HasCard()) ? Health::kBad : Health::kNote;
  std::vector<Finding> findings;
  const auto add = [&findings](const std::string& name, Health health, const std::string& text) {
    findings.push_back({"CUDA", name, health, text});
  };
  if (!answer.library.empty()) add("shared object", Health::kInfo, answer.library);
  if (!answer.versions.empty()) add("versions", Health::kInfo, answer.versions);
  for (const auto& [name, file] : answer.libraries) add(name, Health::kInfo, file);
  for (const std::string& name : answer.missing) add(name, Health::kNote, kFewer);
  for (const FoundLibrary& library : libraries) {
    if (!library.file.empty())
      add(library.name, Health::kInfo, library.file);
    else
      add(library.name, library.needed ? wrong : Health::kNote, library.needed ? library.fault : kFewer);
  }
  for (size_t i = 0; i < answer.devices.size(); ++i) {
    const DeviceInfo& device = answer.devices[i];
    add(fmt::format("device {}", i), Health::kInfo,
        fmt::format("{}, {}, sm_{}", device.name, HumanBytes(device.memory_bytes), device.capability));
  }
  if (answer.devices.empty()) add("devices", wrong, "none: " + answer.reason);
  return findings;
}

}  // namespace plateau
