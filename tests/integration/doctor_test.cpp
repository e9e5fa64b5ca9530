// The doctor as a user calls it: alone, through plateau, and under mpirun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/worker_run.h"
#include "worker/backend/device/needed_libraries.h"

namespace plateau {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Doctor : public ::testing::Test {
 protected:
  void SetUp() override { test::AllowMpirunHere(); }
  std::string Run(std::vector<std::string> command, int expected) {
    test::Process process(command, folder_.path() + "/out.txt");
    EXPECT_EQ(process.Wait(), expected) << process.Output();
    return process.Output();
  }
  test::TempFolder folder_;
};

const json* Named(const json& rank, const std::string& name) {
  for (const json& finding : rank["findings"])
    if (finding["name"] == name) return &finding;
  return nullptr;
}

TEST_F(Doctor, AWellMachineIsToldSoByPlateau) {
  const std::string text = Run({PLATEAU_BIN_DIR "/plateau", "doctor"}, 0);
  for (const char* word : {"Build", "Machine", "Limits", "MPI", "CUDA", "Checks", "convolution, CPU", "all that is there works"})
    EXPECT_THAT(text, HasSubstr(word));
}

TEST_F(Doctor, RanksOfMpirunSumAndReport) {
  const std::string text = Run({"mpirun", "-np", "2", PLATEAU_BIN_DIR "/plateau-worker", "doctor", "--json"}, 0);
  const json document = json::parse(text.substr(text.find('{')));
  EXPECT_EQ(document["ok"], true);
  ASSERT_EQ(document["ranks"].size(), 2u);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(document["ranks"][rank]["rank"], rank);
    const json* sum = Named(document["ranks"][rank], "all-reduce");
    ASSERT_NE(sum, nullptr);
    EXPECT_EQ((*sum)["health"], "good");
    EXPECT_THAT((*sum)["text"].get<std::string>(), HasSubstr("over 2 ranks"));
  }
}

TEST_F(Doctor, TheGpuCheckEndsWithThreeAndTheReasonWhereNoDeviceAnswers) {
  ::setenv("PLATEAU_CUDA_LIBRARY", "/nowhere/lib.so", 1);
  ::setenv("PLATEAU_BIN", PLATEAU_BIN_DIR, 1);
  const std::string text = Run({PLATEAU_SOURCE_DIR "/deploy/gpu-check.sh", "--out", folder_.path() + "/check.md"}, 3);
  ::unsetenv("PLATEAU_BIN");
  ::unsetenv("PLATEAU_CUDA_LIBRARY");
  EXPECT_THAT(text, HasSubstr("gpu-check: no device answers: PLATEAU_CUDA_LIBRARY=/nowhere/lib.so: there is no such file"));
  for (const char* left : {"/check.md", "/gpu-check"}) EXPECT_FALSE(std::filesystem::exists(folder_.path() + left)) << left;
}

// Before the doctor or anything else runs, and without leaving a thing.
TEST_F(Doctor, TheGpuCheckRefusesAWrongCallWithWordsAndPrintsItsHelp) {
  ::setenv("PLATEAU_BIN", PLATEAU_BIN_DIR, 1);
  const std::string scratch = folder_.path() + "/scratch";
  std::filesystem::create_directory(scratch);
  ::setenv("TMPDIR", scratch.c_str(), 1);
  const auto check = [&](std::vector<std::string> arguments, int expected) {
    arguments.insert(arguments.begin(), PLATEAU_SOURCE_DIR "/deploy/gpu-check.sh");
    return Run(arguments, expected);
  };
  EXPECT_THAT(check({"--help"}, 0), AllOf(HasSubstr("Usage: deploy/gpu-check.sh"), HasSubstr("--networks LIST")));
  EXPECT_THAT(check({"--networks", "vgg-d,vgg-q"}, 2), AllOf(HasSubstr("gpu-check: --networks: "), HasSubstr("vgg-q")));
  EXPECT_THAT(check({"--precisions", "bf16,fp8"}, 2), HasSubstr("--precisions: fp8 is none of bf16, tf32, fp32"));
  EXPECT_THAT(check({"--batch", "many"}, 2), HasSubstr("--batch many: give a whole number from 1 on"));
  EXPECT_THAT(check({"--minutes", "0"}, 2), HasSubstr("--minutes 0: give a whole number from 1 on"));
  EXPECT_THAT(check({"--quick"}, 2), HasSubstr("there is no option --quick; --help lists"));
  EXPECT_THAT(check({"--out"}, 2), HasSubstr("--out wants a value"));
  EXPECT_THAT(check({"--out", folder_.path()}, 2), HasSubstr("is a folder; name a file in it"));
  EXPECT_THAT(check({"--out", "/proc/self/status/check.md"}, 2), HasSubstr("nothing can be written into /proc/self/status"));
  ::unsetenv("TMPDIR");
  ::unsetenv("PLATEAU_BIN");
  EXPECT_TRUE(std::filesystem::is_empty(scratch));
}

// The stub's devices never end their self-test. What was found until then is printed all the same, and mpirun ends the other rank.
TEST_F(Doctor, ADeviceThatHangsIsNamedAndEndsTheDoctor) {
  ::setenv("PLATEAU_CUDA_LIBRARY", PLATEAU_BIN_DIR "/../tests/stub_plugin.so", 1);
  const std::string named = "the self-test (convolutions, sums) of CUDA device 0, Stub A, has not ended within 8 s";
  const std::string alone = Run({PLATEAU_BIN_DIR "/plateau-worker", "doctor", "--timeout", "8", "--json"}, 1);
  const std::string ranks = Run({"mpirun", "-np", "2", PLATEAU_BIN_DIR "/plateau-worker", "doctor", "--timeout", "8"}, 1);
  ::unsetenv("PLATEAU_CUDA_LIBRARY");
  EXPECT_THAT(alone, HasSubstr("plateau-worker doctor: rank 0 on "));
  const json document = json::parse(alone.substr(alone.find("{\n")));
  EXPECT_EQ(document["ok"], false);
  const json* hangs = Named(document["ranks"][0], "hangs");
  ASSERT_NE(hangs, nullptr) << alone;
  EXPECT_THAT((*hangs)["text"].get<std::string>(), AllOf(StartsWith(named), HasSubstr("nvidia-smi"), HasSubstr("--timeout")));
  EXPECT_NE(Named(document["ranks"][0], "convolution, CPU"), nullptr) << "found before";
  EXPECT_THAT(ranks, AllOf(HasSubstr(named), HasSubstr("FAIL  hangs"), HasSubstr("convolution, CPU")));
}

// A machine without CUDA's libraries must be able to start them.
TEST_F(Doctor, TheProgramsNeedNoLibraryOfCuda) {
  for (const char* program : {"plateau", "plateau-coordinator", "plateau-worker"}) {
    const auto needed = NeededLibraries(std::string(PLATEAU_BIN_DIR "/") + program);
    ASSERT_TRUE(needed) << needed.error().message;
    for (const std::string& name : *needed)
      for (const char* front : {"libcuda", "libcudnn", "libcublas", "libnccl", "libnvrtc", "libplateau"})
        EXPECT_FALSE(name.starts_with(front)) << program << " needs " << name;
  }
}

// The user asked for it, so it is a fault also where there is no card.
TEST_F(Doctor, ALibraryThatIsNoneIsAFaultWithVariableValueAndRemedy) {
  for (const auto& [value, fault] : std::map<std::string, std::string>{{"/nowhere/lib.so", "there is no such file"},
                                                                       {"/tmp", "is a folder"},
                                                                       {"/etc/passwd", "is no 64-bit shared object"},
                                                                       {"lib.so", "is not a whole path"}}) {
    ::setenv("PLATEAU_CUDA_LIBRARY", value.c_str(), 1);
    const std::string text = Run({PLATEAU_BIN_DIR "/plateau-worker", "doctor", "--json"}, 1);
    ::unsetenv("PLATEAU_CUDA_LIBRARY");
    const json document = json::parse(text);
    const json* devices = Named(document["ranks"][0], "devices");
    ASSERT_NE(devices, nullptr);
    EXPECT_EQ((*devices)["health"], "bad");
    EXPECT_THAT((*devices)["text"].get<std::string>(),
                AllOf(HasSubstr("PLATEAU_CUDA_LIBRARY=" + value + ": " + fault), HasSubstr("unset it, or name")));
  }
}

// Here there is no driver, or there is one: either way each library that the backend needs is there with its file, or with the
// remedy.
TEST_F(Doctor, EachLibraryOfCudaIsListedWithItsFileOrTheRemedy) {
  test::Process process({PLATEAU_BIN_DIR "/plateau-worker", "doctor", "--json"}, folder_.path() + "/out.txt");
  process.Wait();  // a card without its driver is a fault
  if (!std::filesystem::exists(PLATEAU_BIN_DIR "/libplateau_cuda.so")) {
    EXPECT_THAT(process.Output(), HasSubstr("this build has no CUDA"));
    return;
  }
  const json document = json::parse(process.Output());
  const auto needed = NeededLibraries(PLATEAU_BIN_DIR "/libplateau_cuda.so");
  ASSERT_TRUE(needed);
  for (const std::string& name : *needed) {
    if (!name.starts_with("libcudnn") && !name.starts_with("libnccl") && !name.starts_with("libcublasLt")) continue;
    const json* library = Named(document["ranks"][0], name);
    ASSERT_NE(library, nullptr) << name;
    EXPECT_THAT((*library)["text"].get<std::string>(), AnyOf(StartsWith("/"), HasSubstr("PLATEAU_CUDA_PATH")));
  }
}

TEST_F(Doctor, UsageLinesNameTheProgramThatWasCalled) {
  EXPECT_THAT(Run({PLATEAU_BIN_DIR "/plateau", "doctor", "--help"}, 0), HasSubstr("Usage: plateau doctor"));
  EXPECT_THAT(Run({PLATEAU_BIN_DIR "/plateau-worker", "doctor", "--help"}, 0), HasSubstr("Usage: plateau-worker doctor"));
}

}  // namespace
}  // namespace plateau
