// Waiting for a coordinator to say where it listens, and for processes to end.
#include "coordinator/cli/local_state.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plateau {
namespace {

using ::testing::HasSubstr;

class LocalState : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "plateau-state-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Write(pid_t pid) const {
    std::ofstream(folder_ + "/tmp") << R"({"http":"http://127.0.0.1:9","link":"tcp://127.0.0.1:8","pid":)" << pid << "}";
    std::filesystem::rename(folder_ + "/tmp", folder_ + "/endpoints.json");
  }

  std::string folder_;
};

pid_t Child(int exit_code) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (exit_code < 0) ::pause();
    ::_exit(exit_code);
  }
  return pid;
}

TEST_F(LocalState, WaitsForTheFileOfThisProcessAndNotForAnOldOne) {
  Write(1);  // of a coordinator that is gone
  const pid_t pid = Child(-1);
  std::jthread writer([&] { Write(pid); });
  const auto endpoints = AwaitEndpoints(folder_, pid, 20'000);
  ASSERT_TRUE(endpoints.has_value()) << endpoints.error().message;
  EXPECT_EQ(endpoints->pid, pid);
  EXPECT_EQ(endpoints->http, "http://127.0.0.1:9");
  ::kill(pid, SIGKILL);
  EXPECT_TRUE(AwaitExit(pid, 20'000));
  ::waitpid(pid, nullptr, 0);
}

TEST_F(LocalState, NamesTheExitCodeOfACoordinatorThatDiedFirst) {
  const auto endpoints = AwaitEndpoints(folder_, Child(9), 20'000);
  ASSERT_FALSE(endpoints.has_value());
  EXPECT_THAT(endpoints.error().message, HasSubstr("exit code 9"));
}

TEST_F(LocalState, GivesUpAtItsDeadline) {
  const pid_t pid = Child(-1);
  EXPECT_THAT(AwaitEndpoints(folder_, pid, 50).error().message, HasSubstr("did not listen"));
  EXPECT_FALSE(AwaitExit(pid, 50));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

TEST_F(LocalState, RefusesAFileThatNoCoordinatorWrote) {
  EXPECT_EQ(ReadEndpoints(folder_).error().code, ErrorCode::kNotFound);
  std::ofstream(folder_ + "/endpoints.json") << "[]";
  EXPECT_EQ(ReadEndpoints(folder_).error().code, ErrorCode::kCorrupt);
}

TEST_F(LocalState, KnowsAProcessByItsProgram) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").filename();
  EXPECT_TRUE(IsProcess(::getpid(), self));
  EXPECT_FALSE(IsProcess(::getpid(), "plateau-coordinator"));
  EXPECT_FALSE(IsProcess(0, self));
}

}  // namespace
}  // namespace plateau
