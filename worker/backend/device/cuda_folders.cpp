// The folders in which CUDA's libraries are found when the loader does not know them.
#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "worker/backend/device/cuda_library.h"

namespace plateau {
namespace {

// Below the site-packages of a Python environment: one folder a package, or one for all since CUDA 13.
constexpr const char* kPackages[] = {"cudnn", "nccl", "cublas", "cuda_nvrtc", "cuda_runtime", "nvjitlink", "cu13"};

std::vector<std::string> Matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  std::sort(paths.rbegin(), paths.rend());  // the newest version first, where names carry one
  return paths;
}

class FolderList {
 public:
  void Add(const std::string& folder) {
    std::error_code error;
    const bool known = std::find(folders_.begin(), folders_.end(), folder) != folders_.end();
    if (!known && std::filesystem::is_directory(folder, error)) folders_.push_back(folder);
  }
  void AddToolkit(const std::string& top) {
    for (const char* below : {"/lib64", "/lib", "/targets/x86_64-linux/lib"}) Add(top + below);
  }
  void AddPython(const std::string& pattern) {
    for (const std::string& site : Matches(pattern))
      for (const char* package : kPackages) Add(site + "/nvidia/" + package + "/lib");
  }
  std::vector<std::string> Take() { return std::move(folders_); }

 private:
  std::vector<std::string> folders_;
};

}  // namespace

CudaSurroundings ProcessSurroundings() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  return {variable, error ? "." : self.parent_path().string(), ""};
}

std::vector<std::string> CudaFolders(const CudaSurroundings& surroundings) {
  FolderList list;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"})
    if (const std::string top = surroundings.variable(name); !top.empty()) list.AddToolkit(top);
  list.AddToolkit(surroundings.root + "/usr/local/cuda");
  for (const std::string& top : Matches(surroundings.root + "/usr/local/cuda-*")) list.AddToolkit(top);
  list.Add(surroundings.root + "/usr/lib/x86_64-linux-gnu");
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const std::string top = surroundings.variable(name);
    if (top.empty()) continue;
    list.AddPython(top + "/lib/python3*/site-packages");
    list.Add(top + "/lib");
  }
  if (const std::string home = surroundings.variable("HOME"); !home.empty()) list.AddPython(home + "/.local/lib/python3*/site-packages");
  for (const char* site : {"/usr/local/lib/python3*/dist-packages", "/usr/local/lib/python3*/site-packages",
                           "/usr/lib/python3*/site-packages", "/usr/lib/python3/dist-packages"})
    list.AddPython(surroundings.root + site);
  return list.Take();
}

}  // namespace plateau
