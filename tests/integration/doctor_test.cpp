// The doctor as a user calls it: alone, through plateau, and under mpirun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/worker_run.h"
#include "worker/backend/device/needed_libraries.h"

namespace plateau {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

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
  EXPECT_THAT(text, HasSubstr("gpu-check: no device answers: PLATEAU_CUDA_LIBRARY: there is no file /nowhere/lib.so"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/check.md"));
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

TEST_F(Doctor, ALibraryThatIsNoneIsNamed) {
  ::setenv("PLATEAU_CUDA_LIBRARY", "/nowhere/lib.so", 1);
  const std::string text = Run({PLATEAU_BIN_DIR "/plateau-worker", "doctor", "--json"}, 0);
  ::unsetenv("PLATEAU_CUDA_LIBRARY");
  const json document = json::parse(text);
  const json* devices = Named(document["ranks"][0], "devices");
  ASSERT_NE(devices, nullptr);
  EXPECT_THAT((*devices)["text"].get<std::string>(), HasSubstr("there is no file /nowhere/lib.so"));
}

}  // namespace
}  // namespace plateau
