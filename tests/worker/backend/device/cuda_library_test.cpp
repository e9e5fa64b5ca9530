// Where CUDA's libraries are looked for, and what is said when something is not right.
#include "worker/backend/device/cuda_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <fstream>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class CudaLibraryTest : public ::testing::Test {
 protected:
  CudaSurroundings Surroundings() const {
    return {[this](const char* name) { return variables_.contains(name) ? variables_.at(name) : std::string(); },
            folder_.path() + "/bin", folder_.path()};
  }
  std::string ErrorWith(const std::string& library) {
    variables_["PLATEAU_CUDA_LIBRARY"] = library;
    const auto opened = OpenCudaLibrary(Surroundings());
    return opened ? "opened" : opened.error().message;
  }
  std::string Make(const std::string& below) {
    const std::string path = folder_.path() + below;
    std::filesystem::create_directories(path);
    return path;
  }

  test::TempFolder folder_;
  std::map<std::string, std::string> variables_;
};

TEST_F(CudaLibraryTest, FoldersAreSearchedFromTheToolkitToThePythonEnvironments) {
  const std::string chosen = Make("/opt/cuda/lib64");
  const std::string older = Make("/usr/local/cuda-12.8/lib64");
  const std::string newer = Make("/usr/local/cuda-13.0/lib64");
  const std::string system = Make("/usr/lib/x86_64-linux-gnu");
  const std::string cudnn = Make("/venv/lib/python3.11/site-packages/nvidia/cudnn/lib");
  const std::string all = Make("/venv/lib/python3.11/site-packages/nvidia/cu13/lib");
  const std::string environment = folder_.path() + "/venv/lib";
  const std::string user = Make("/home/.local/lib/python3.12/site-packages/nvidia/nccl/lib");
  const std::string global = Make("/usr/local/lib/python3.12/dist-packages/nvidia/cublas/lib");
  variables_ = {{"CUDA_HOME", folder_.path() + "/opt/cuda"}, {"VIRTUAL_ENV", folder_.path() + "/venv"}, {"HOME", folder_.path() + "/home"}};
  EXPECT_THAT(CudaFolders(Surroundings()), ElementsAre(chosen, newer, older, system, cudnn, all, environment, user, global));
}

TEST_F(CudaLibraryTest, AMissingSharedObjectSaysWhereItBelongs) {
  const auto opened = OpenCudaLibrary(Surroundings());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(opened.error().message, HasSubstr(folder_.path() + "/bin/libplateau_cuda.so"));
  EXPECT_THAT(opened.error().message, HasSubstr(folder_.path() + "/lib/plateau/libplateau_cuda.so"));
}

TEST_F(CudaLibraryTest, WhatTheUserNamedAndIsNoneIsRefusedWithVariableValueAndRemedy) {
  const std::string text = folder_.path() + "/passwd";
  std::ofstream(text) << "root:x:0:0\n";
  for (const auto& [value, fault] :
       std::map<std::string, std::string>{{"/nowhere/lib.so", "there is no such file"},
                                          {folder_.path(), "is a folder"},
                                          {"/dev/null", "is no plain file"},
                                          {text, "is no 64-bit shared object, or cut short"},
                                          {"libplateau_cuda.so", "is not a whole path, which begins with /"},
                                          {"build/lib.so", "is not a whole path, which begins with /"},
                                          {PLATEAU_EMPTY_PLUGIN, "is not Plateau's: it has no PlateauCudaPlugin"}}) {
    EXPECT_EQ(ErrorWith(value), "PLATEAU_CUDA_LIBRARY=" + value + ": " + fault +
                                    "; unset it, or name the libplateau_cuda.so that came with this program");
    EXPECT_EQ(OpenCudaLibrary(Surroundings()).error().code, ErrorCode::kInvalidInput) << value;
    EXPECT_TRUE(FindCudaLibraries(Surroundings()).empty());
  }
}

TEST_F(CudaLibraryTest, ADamagedOneWhereItBelongsIsToldFromNone) {
  std::ofstream(Make("/bin") + "/libplateau_cuda.so") << "half a file";
  const auto opened = OpenCudaLibrary(Surroundings());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(opened.error().message,
              HasSubstr("libplateau_cuda.so: is no 64-bit shared object, or cut short; install Plateau again"));
}

TEST_F(CudaLibraryTest, TheOneBesideTheProgramIsFoundAndThatOfThePackageToo) {
  for (const char* place : {"/bin", "/lib/plateau"}) {
    std::filesystem::create_directories(folder_.path() + "/bin");
    const std::string copy = Make(place) + "/libplateau_cuda.so";
    std::filesystem::copy_file(PLATEAU_STUB_PLUGIN, copy);
    const auto opened = OpenCudaLibrary(Surroundings());
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_THAT(opened->path, EndsWith(std::string(place) + "/libplateau_cuda.so"));
    EXPECT_TRUE(opened->libraries.empty());
    std::filesystem::remove(copy);
  }
}

TEST_F(CudaLibraryTest, WhatIsNotOfThisProgramIsRefusedByName) {
  EXPECT_THAT(ErrorWith(PLATEAU_OTHER_PLUGIN), HasSubstr("is of another version of Plateau (interface 4711"));
  EXPECT_THAT(ErrorWith(PLATEAU_EMPTY_PLUGIN), HasSubstr("is not Plateau's: it has no PlateauCudaPlugin"));
  EXPECT_EQ(ErrorWith(PLATEAU_STUB_PLUGIN), "opened");
}

// A shared object that needs a library of CUDA's name, and a library that stands for the driver: both are ours.
TEST_F(CudaLibraryTest, ALibraryThatIsNotFoundIsNamedWithThePlacesAndTheRemedy) {
  ASSERT_NE(::dlopen(PLATEAU_STUB_DRIVER, RTLD_NOW | RTLD_GLOBAL), nullptr) << ::dlerror();
  const std::string toolkit = Make("/usr/local/cuda/lib64");
  const std::string message = ErrorWith(PLATEAU_NEEDY_PLUGIN);
  EXPECT_THAT(message, HasSubstr("libcudnn_stub.so.9 not found in the loader's path, " + toolkit));
  EXPECT_THAT(message, HasSubstr("install it, or set PLATEAU_CUDA_PATH"));
}

// With the driver or without: nothing here opens the shared object itself.
TEST_F(CudaLibraryTest, WhatItNeedsIsListedWithWhereItIsAndWhatIsMissingWithTheRemedy) {
  variables_["PLATEAU_CUDA_LIBRARY"] = PLATEAU_NEEDY_PLUGIN;
  auto found = FindCudaLibraries(Surroundings());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].name, "libcudnn_stub.so.9");
  EXPECT_EQ(found[0].file, "");
  EXPECT_EQ(found[0].fault, "not found; install it, or set PLATEAU_CUDA_PATH to the folder that holds it");
  const std::string toolkit = Make("/usr/local/cuda/lib64");
  std::filesystem::copy_file(PLATEAU_STUB_CUDNN, toolkit + "/libcudnn_stub.so.9");
  found = FindCudaLibraries(Surroundings());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].file, toolkit + "/libcudnn_stub.so.9");
  EXPECT_EQ(found[0].fault, "");
  const std::string damaged = Make("/damaged");
  std::ofstream(damaged + "/libcudnn_stub.so.9") << "half a file";
  variables_["PLATEAU_CUDA_PATH"] = damaged;
  found = FindCudaLibraries(Surroundings());
  EXPECT_EQ(found[0].file, "");
  EXPECT_THAT(found[0].fault, HasSubstr(damaged + "/libcudnn_stub.so.9 cannot be loaded"));
}

TEST_F(CudaLibraryTest, ALibraryIsLoadedFromTheFolderThatWasNamedFirst) {
  ASSERT_NE(::dlopen(PLATEAU_STUB_DRIVER, RTLD_NOW | RTLD_GLOBAL), nullptr) << ::dlerror();
  const std::string named = Make("/named/lib"), toolkit = Make("/usr/local/cuda/lib64");
  for (const std::string& folder : {named, toolkit})
    std::filesystem::copy_file(PLATEAU_STUB_CUDNN, folder + "/libcudnn_stub.so.9");
  variables_["PLATEAU_CUDA_PATH"] = "/nowhere:" + folder_.path() + "/named";
  variables_["PLATEAU_CUDA_LIBRARY"] = PLATEAU_NEEDY_PLUGIN;
  const auto opened = OpenCudaLibrary(Surroundings());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_THAT(opened->libraries, ElementsAre(std::pair<std::string, std::string>("libcudnn_stub.so.9", named + "/libcudnn_stub.so.9")));
}

// nvrtc asks the loader for its builtins by name, and a Python package's folder is not on the loader's path.
TEST_F(CudaLibraryTest, TheBuiltinsBesideNvrtcAreLoadedWithIt) {
  ASSERT_NE(::dlopen(PLATEAU_STUB_DRIVER, RTLD_NOW | RTLD_GLOBAL), nullptr) << ::dlerror();
  const std::string folder = Make("/venv/lib/python3.12/site-packages/nvidia/cu13/lib");
  const std::string builtins = folder + "/libnvrtc-builtins.so.99.0";
  for (const std::string& path : {folder + "/libcublasLt.so.99", folder + "/libnvrtc.so.99", builtins})
    std::filesystem::copy_file(PLATEAU_STUB_CUBLASLT, path);
  variables_["VIRTUAL_ENV"] = folder_.path() + "/venv";
  variables_["PLATEAU_CUDA_LIBRARY"] = PLATEAU_MULTIPLYING_PLUGIN;
  const auto opened = OpenCudaLibrary(Surroundings());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_THAT(opened->libraries, testing::Contains(std::pair<std::string, std::string>("libnvrtc.so.99", folder + "/libnvrtc.so.99")));
  EXPECT_NE(::dlopen(builtins.c_str(), RTLD_LAZY | RTLD_NOLOAD), nullptr);
}

}  // namespace
}  // namespace plateau
