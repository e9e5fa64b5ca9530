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
constexpr const char* kVariable = "PLATEAU_CUDA_LIBRARY";
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

// The shared object, and how an error about it begins and ends.
struct SharedObject {
  std::string path;
  bool named = false;  // by $PLATEAU_CUDA_LIBRARY
  // `what` is wrong with it.
  tl::unexpected<Error> Refuse(const std::string& what) const {
    if (named)
      return Fail(ErrorCode::kInvalidInput, "{}={}: {}; unset it, or name the libplateau_cuda.so that came with this program",
                  kVariable, path, what);
    return Fail(ErrorCode::kCorrupt, "{}: {}; install Plateau again, all of one version", path, what);
  }
};

// A relative path would mean another file in the folder of each rank, and to the loader a name to be searched for.
Result<SharedObject> CheckNamed(const std::string& path) {
  const SharedObject object{path, true};
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (path[0] != '/') return object.Refuse("is not a whole path, which begins with /");
  if (std::filesystem::is_directory(status)) return object.Refuse("is a folder");
  if (!std::filesystem::exists(status)) return object.Refuse("there is no such file");
  if (!std::filesystem::is_regular_file(status)) return object.Refuse("is no plain file");
  return object;
}

Result<SharedObject> FindSharedObject(const CudaSurroundings& surroundings) {
  if (const std::string named = surroundings.variable(kVariable); !named.empty()) return CheckNamed(named);
  const std::vector<std::string> places{
      surroundings.program_folder + "/" + kLibraryName,
      (std::filesystem::path(surroundings.program_folder) / "../lib/plateau" / kLibraryName).lexically_normal()};
  std::error_code error;
  for (const std::string& place : places)
    if (std::filesystem::is_regular_file(place, error)) return SharedObject{place};
  return Fail(ErrorCode::kNotFound, "{} is missing; it belongs at {}; build Plateau where nvcc is, or take it from a bundle", kLibraryName,
              JoinNames(places));
}

// The libraries of CUDA that it asks for.
Result<std::vector<std::string>> NeededOfCuda(const SharedObject& object) {
  auto needed = NeededLibraries(object.path);
  if (!needed)
    return object.Refuse(needed.error().code == ErrorCode::kIo ? "cannot be read" : "is no 64-bit shared object, or cut short");
  std::erase_if(*needed, [](const std::string& name) { return !IsOfCuda(name); });
  return needed;
}

class Loader {
 public:
  explicit Loader(const CudaSurroundings& surroundings) : others_(CudaFolders(surroundings)) {
    for (const std::string& folder : SplitText(surroundings.variable("PLATEAU_CUDA_PATH"), ':'))
      if (!folder.empty()) first_.insert(first_.end(), {folder, folder + "/lib64", folder + "/lib"});
  }

  // The file that `name` was loaded from, empty when it is found nowhere; what is found and cannot be loaded is an error.
  Result<std::string> Load(const std::string& name) {
    for (const std::string& folder : first_)
      if (Exists(folder + "/" + name)) return LoadFile(folder + "/" + name);
    if (void* handle = ::dlopen(name.c_str(), RTLD_LAZY | RTLD_GLOBAL)) {
      handles_.push_back(handle);
      return FileOf(handle);
    }
    for (const std::string& folder : others_)
      if (Exists(folder + "/" + name)) return LoadFile(folder + "/" + name);
    return std::string();
  }
  // Lets go of what was loaded, which others may still hold.
  void Unload() {
    for (auto handle = handles_.rbegin(); handle != handles_.rend(); ++handle) ::dlclose(*handle);
    handles_.clear();
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
  Result<std::string> LoadFile(const std::string& path) {
    if (void* handle = ::dlopen(path.c_str(), RTLD_LAZY | RTLD_GLOBAL)) {
      handles_.push_back(handle);
      return path;
    }
    return Fail(ErrorCode::kUnsupported, "{} cannot be loaded: {}; install it anew, or set PLATEAU_CUDA_PATH to another one's folder",
                path, LoaderError());
  }

  std::vector<std::string> first_, others_;
  std::vector<void*> handles_;
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

// What nvrtc asks the loader for by name when it compiles, and does not look for beside itself.
void LoadBuiltinsBeside(const std::string& nvrtc) {
  std::error_code error;
  std::filesystem::directory_iterator entry(std::filesystem::path(nvrtc).parent_path(), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error))
    if (entry->path().filename().string().starts_with("libnvrtc-builtins.so."))
      ::dlopen(entry->path().c_str(), RTLD_LAZY | RTLD_GLOBAL);
}

Status LoadCuda(const CudaSurroundings& surroundings, const std::vector<std::string>& needed, CudaLibrary& library) {
  if (::dlopen(kDriver, RTLD_LAZY | RTLD_GLOBAL) == nullptr)
    return Fail(ErrorCode::kUnsupported,
                "no CUDA driver on this machine ({} is not found); install NVIDIA's driver, or in a "
                "container start it with the GPUs (docker run --gpus all)",
                kDriver);
  Loader loader(surroundings);
  for (const std::string& name : needed) {
    PLATEAU_ASSIGN(const std::string file, loader.Load(name));
    if (file.empty())
      return Fail(ErrorCode::kUnsupported, "{} not found in {}; install it, or set PLATEAU_CUDA_PATH to the folder that holds it",
                  name, loader.Searched());
    library.libraries.emplace_back(name, file);
  }
  for (const std::string& name : OptionalBeside(needed)) {
    const auto file = loader.Load(name);
    if (file && !file->empty()) {
      library.libraries.emplace_back(name, *file);
      if (name.starts_with("libnvrtc.")) LoadBuiltinsBeside(*file);
    } else {
      library.missing.push_back(name);
    }
  }
  return {};
}

}  // namespace

Result<CudaLibrary> OpenCudaLibrary(const CudaSurroundings& surroundings) {
  PLATEAU_ASSIGN(const SharedObject object, FindSharedObject(surroundings));
  CudaLibrary library{.path = object.path};
  PLATEAU_ASSIGN(const auto needed, NeededOfCuda(object));
  if (!needed.empty()) PLATEAU_TRY(LoadCuda(surroundings, needed, library));
  void* handle = ::dlopen(library.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return object.Refuse("cannot be loaded: " + LoaderError());
  using Entry = const cuda::PluginTable* (*)();
  const auto entry = reinterpret_cast<Entry>(::dlsym(handle, cuda::kPluginSymbol));
  if (entry == nullptr) return object.Refuse(fmt::format("is not Plateau's: it has no {}", cuda::kPluginSymbol));
  library.table = entry();
  if (library.table == nullptr || library.table->abi != cuda::kPluginAbi)
    return object.Refuse(fmt::format("is of another version of Plateau (interface {}, this program has {})",
                                     library.table == nullptr ? 0 : library.table->abi, cuda::kPluginAbi));
  return library;
}

std::vector<FoundLibrary> FindCudaLibraries(const CudaSurroundings& surroundings) {
  const auto object = FindSharedObject(surroundings);
  const auto needed = object ? NeededOfCuda(*object) : Result<std::vector<std::string>>(Fail(object.error()));
  if (!needed) return {};
  std::vector<FoundLibrary> found;
  for (const std::string& name : *needed) found.push_back({.name = name});
  for (const std::string& name : OptionalBeside(*needed)) found.push_back({.name = name, .needed = false});
  Loader loader(surroundings);
  for (FoundLibrary& library : found) {
    const auto file = loader.Load(library.name);
    if (file) library.file = *file;
    if (!file) library.fault = file.error().message;
    if (file && file->empty()) library.fault = "not found; install it, or set PLATEAU_CUDA_PATH to the folder that holds it";
  }
  loader.Unload();
  return found;
}

}  // namespace plateau
