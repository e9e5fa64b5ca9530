// Finds and opens libplateau_cuda.so and, before it, the libraries of CUDA that it needs, wherever they were installed.
//
// The shared object lies beside the program or in ../lib/plateau; $PLATEAU_CUDA_LIBRARY names another one by its whole path. What it needs of CUDA is
// read from the file and loaded from the first place that has it: the folders of $PLATEAU_CUDA_PATH (with their lib64 and lib), the
// loader's own path (LD_LIBRARY_PATH, ldconfig), the Toolkit ($CUDA_HOME, $CUDA_PATH, /usr/local/cuda, /usr/local/cuda-*), the
// distribution's folder, and the nvidia packages of Python environments ($VIRTUAL_ENV, $CONDA_PREFIX, the user's and the system's).
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "worker/backend/cuda/plugin.h"

namespace plateau {

// Where a process looks; tests make their own.
struct CudaSurroundings {
  std::function<std::string(const char* name)> variable;  // of the environment; empty text when it is not set
  std::string program_folder;                             // without a slash at the end
  std::string root;                                       // stands before /usr and the user's folder; empty
};
CudaSurroundings ProcessSurroundings();

// Stays open until the process ends: engines that it made run its code.
struct CudaLibrary {
  std::string path;
  const cuda::PluginTable* table = nullptr;
  std::vector<std::pair<std::string, std::string>> libraries;  // of CUDA: name, and file it was loaded from
  std::vector<std::string> missing;  // optional ones, without which cuDNN has fewer algorithms to choose from
};

// kNotFound: there is no shared object; kInvalidInput: what $PLATEAU_CUDA_LIBRARY names is none of this program's; kCorrupt: what lies
// where it belongs is none; kUnsupported: no driver, or a library of CUDA is missing. The message names the remedy. Any thread; loads
// nothing of CUDA where there is no driver.
Result<CudaLibrary> OpenCudaLibrary(const CudaSurroundings& surroundings);

// A library of CUDA that the shared object needs, as it would be loaded here.
struct FoundLibrary {
  std::string name;
  std::string file;   // empty when there is none that can be loaded
  std::string fault;  // why, with the remedy
  bool needed = true;  // false: cuDNN has fewer algorithms to choose from without it
};
// All of them, also where there is no driver; empty where the shared object itself is missing or is none. Loads them for a moment.
std::vector<FoundLibrary> FindCudaLibraries(const CudaSurroundings& surroundings);

// Folders that exist, in the order in which they are searched, without those of $PLATEAU_CUDA_PATH and the loader.
std::vector<std::string> CudaFolders(const CudaSurroundings& surroundings);

}  // namespace plateau
