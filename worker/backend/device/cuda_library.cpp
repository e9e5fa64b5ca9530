// Loads CUDA's libraries by their full paths, so that the loader finds them by name when the shared object asks for them.
#include "worker/backend/device/cuda_library.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <filesystem>

#include "common/text.h"
#include "worker/backend/device/needed_libraries.h"

namespace plateau {
namespace {

constexpr const char* kLibraryName = "libplateau_cuda.so";
constexpr const char* kDriver = "libcuda.so.1";

std::string LoaderError() {
  const char* text = ::dlerror();
  return text == nullptr ? "no reason given" : text;
}

// Whether NVIDIA ships it with the Toolkit, cuDNN or NCCL.
bool IsOfCuda(const std::string& name) {
  constexpr const char* kFronts[] = {"libcublas", "libcudart", "libcudnn", "libnccl", "libnvrtc", "libnvJitLink"};
  return std::any_of(std::begin(kFronts), std::end(kFronts), [&](const char* front) { return name.starts_with(front); });
}

std::string FileOf(void* handle) {
  link_map* map = nullptr;
  return ::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr ? map->l_name : "";
}

Result<std::string> FindSharedObject(const CudaSurroundings& surroundings) {
  std::vector<std::string> places{surroundings.program_folder + "/" + kLibraryName,
                                  (std::filesystem::path(surroundings.program_folder) / "../lib/plateau" / kLibraryName).lexically_normal()};
  const std::string named = surroundings.variable("PLATEAU_CUDA_LIBRARY");
  if (!named.empty()) places = {named};
  std::error_code error;
  for (const std::string& place : places)
    if (std::filesystem::is_regular_file(place, error)) return place;
  if (!named.empty()) return Fail(ErrorCode::kNotFound, "PLATEAU_CUDA_LIBRARY: there is no file {}", named);
  return Fail(ErrorCode::kNotFound, "{} is missing; it belongs at {}; build Plateau where nvcc is, or take it from a bundle", kLibraryName,
              JoinNames(places));
}

class Loader {
 public:
  explicit Loader(const CudaSurroundings& surroundings) : others_(CudaFolders(surroundings)) {
    for (const std::string& folder : SplitText(surroundings.variable("PLATEAU_CUDA_PATH"), ':'))
      if (!folder.empty()) first_.insert(first_.end(), {folder, folder + "/lib64", folder + "/lib"});
  }

  // The file that `name` was loaded from, empty when it is found nowhere; what is found and cannot be loaded is an error.
  Result<std::string> Load(const std::string& name) const {
    for (const std::string& folder : first_)
      if (Exists(folder + "/" + name)) return LoadFile(folder + "/" + name);
    if (void* handle = ::dlopen(name.c_str(), RTLD_LAZY | RTLD_GLOBAL)) return FileOf(handle);
    for (const std::string& folder : others_)
      if (Exists(folder + "/" + name)) return LoadFile(folder + "/" + name);
    return std::string();
  }
  std::string Searched() const {
    std::vector<std::string> all{"the loader's path"};
    all.insert(all.begin(), first_.begin(), first_.end());
    all.insert(all.end(), others_.begin(), others_.end());
    return JoinNames(all);
  }

 private:
  static bool Exists(const std::string& path) {
    std::error_code error;
    return std::filesystem::exists(path, error);
  }
  static Result<std::string> LoadFile(const std::string& path) {
    if (::dlopen(path.c_str(), RTLD_LAZY | RTLD_GLOBAL) != nullptr) return path;
    return Fail(ErrorCode::kUnsupported, "{} cannot be loaded: {}; install it anew, or set PLATEAU_CUDA_PATH to another one's folder",
                path, LoaderError());
  }

  std::vector<std::string> first_, others_;
};

// cuDNN asks for these by name when it compiles kernels at run time.
std::vector<std::string> OptionalBeside(const std::vector<std::string>& needed) {
  std::vector<std::string> names;
  constexpr std::string_view kFront = "libcublasLt.so.";
  for (const std::string& name : needed)
    if (name.starts_with(kFront))
      for (const char* beside : {"libcublas.so.", "libnvrtc.so."}) names.push_back(beside + name.substr(kFront.size()));
  return names;
}

Status LoadCuda(const CudaSurroundings& surroundings, const std::vector<std::string>& needed, CudaLibrary& library) {
  if (::dlopen(kDriver, RTLD_LAZY | RTLD_GLOBAL) == nullptr)
    return Fail(ErrorCode::kUnsupported, "no CUDA driver on this machine ({} is not found); install NVIDIA's driver, or in a "
                                         "container start it with the GPUs (--gpus all)",
                kDriver);
  const Loader loader(surroundings);
  for (const std::string& name : needed) {
    PLATEAU_ASSIGN(const std::string file, loader.Load(name));
    if (file.empty())
      return Fail(ErrorCode::kUnsupported, "{} not found in {}; install it, or set PLATEAU_CUDA_PATH to the folder that holds it",
                  name, loader.Searched());
    library.libraries.emplace_back(name, file);
  }
  for (const std::string& name : OptionalBeside(needed)) {
    const auto file = loader.Load(name);
    if (file && !file->empty())
      library.libraries.emplace_back(name, *file);
    else
      library.missing.push_back(name);
  }
  return {};
}

}  // namespace

Result<CudaLibrary> OpenCudaLibrary(const CudaSurroundings& surroundings) {
  CudaLibrary library;
  PLATEAU_ASSIGN(library.path, FindSharedObject(surroundings));
  PLATEAU_ASSIGN(auto needed, NeededLibraries(library.path));
  std::erase_if(needed, [](const std::string& name) { return !IsOfCuda(name); });
  if (!needed.empty()) PLATEAU_TRY(LoadCuda(surroundings, needed, library));
  void* handle = ::dlopen(library.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    return Fail(ErrorCode::kUnsupported, "{} cannot be loaded: {}; install Plateau again, all of one version", library.path,
                LoaderError());
  using Entry = const cuda::PluginTable* (*)();
  const auto entry = reinterpret_cast<Entry>(::dlsym(handle, cuda::kPluginSymbol));
  if (entry == nullptr)
    return Fail(ErrorCode::kUnsupported, "{} is not Plateau's: it has no {}", library.path, cuda::kPluginSymbol);
  library.table = entry();
  if (library.table == nullptr || library.table->abi != cuda::kPluginAbi)
    return Fail(ErrorCode::kUnsupported, "{} is of another version of Plateau (interface {}, this program has {}); install both "
                                         "of one version",
                library.path, library.table == nullptr ? 0 : library.table->abi, cuda::kPluginAbi);
  return library;
}

}  // namespace plateau
