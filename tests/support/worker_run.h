// Runs the built plateau-worker under mpirun on a small synthetic store, for tests of whole runs.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/clock.h"
#include "common/file.h"
#include "dataset/ingest.h"
#include "dataset/synthesize.h"
#include "tests/support/mpirun.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {

// Waits for `condition`, looking every few milliseconds (other processes offer no event to wait for); false after a minute.
inline bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 12000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

inline std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A command in a process group of its own, its output in a file. Ended with its group when it goes out of scope.
class Process {
 public:
  Process(const std::vector<std::string>& command, std::string output_path) : output_path_(std::move(output_path)) {
    pid_ = fork();
    if (pid_ != 0) return;
    setpgid(0, 0);
    const int file = open(output_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(file, 1);
    dup2(file, 2);
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  ~Process() {
    if (!ended_) kill(-pid_, SIGKILL), Wait();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Exit code, or 128 + signal.
  int Wait() {
    int status = 0;
    if (!ended_) waitpid(pid_, &status, 0);
    ended_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  pid_t pid() const { return pid_; }
  std::string Output() const { return ReadText(output_path_); }
  // Processes that it started: ranks, when it is mpirun.
  std::vector<pid_t> Children() const {
    std::vector<pid_t> children;
    for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid_))) {
      std::istringstream list(ReadText(task.path().string() + "/children"));
      for (pid_t child = 0; list >> child;) children.push_back(child);
    }
    return children;
  }

 private:
  std::string output_path_;
  pid_t pid_ = -1;
  bool ended_ = false;
};

// A network of 16-channel layers on 32-pixel crops: a step takes milliseconds. 100 training and 30 validation images in 4 classes;
// batch 24, so that batches span epochs.
class WorkerRun : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    store_ = folder_->path() + "/store";
    PosixFileSystem files;
    auto source = OpenSynthetic({.classes = 4, .train = 100, .val = 30, .side = 40});
    ASSERT_TRUE(source) << source.error().message;
    const auto report = Ingest(files, SystemClock(), *source, {.out = store_, .quiet = true});
    ASSERT_TRUE(report) << report.error().message;
    AllowMpirunHere();
  }
  static void TearDownTestSuite() { delete folder_; }

  void SetUp() override {
    out_ = fmt::format("{}/{}", folder_->path(), ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(out_);
    std::filesystem::create_directories(out_);
  }

  std::string Spec(const std::string& output, const std::string& store) {
    const std::string path = fmt::format("{}/spec-{}.yaml", out_, ++specs_);
    std::ofstream(path) << fmt::format(
        "version: 1\nkind: train\nname: tiny\noutput: {}\nmodel: {{network: vgg-a, width: 0.03}}\n"
        "data: {{store: {}, train_scale: [36, 44], crop: 32}}\n"
        "training: {{global_batch: 24, max_epochs: 1000, max_steps: 60}}\n"
        "lr: {{initial: 0.005, patience: 10, max_decays: 20}}\nvalidation: {{every: 1ep, scale: 40}}\n"
        "resources: {{workers: 2, device: cpu, threads_per_worker: 1}}\ncheckpoint: {{every: 10it}}\n",
        output, store);
    return path;
  }

  std::vector<std::string> Command(int ranks, const std::string& output, const std::vector<std::string>& arguments = {},
                                   const std::string& store = store_) {
    std::vector<std::string> command;
    if (ranks > 0) command = {"mpirun", "-np", std::to_string(ranks), "--bind-to", "none"};
    command.insert(command.end(), {PLATEAU_BIN_DIR "/plateau-worker", "train", Spec(output, store)});
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
  }

  // Runs to the end; the output lies in last_output_. ranks 0: without mpirun.
  int Run(int ranks, const std::string& output, const std::vector<std::string>& arguments = {}, const std::string& store = store_) {
    Process process(Command(ranks, output, arguments, store), out_ + "/log");
    const int code = process.Wait();
    last_output_ = process.Output();
    return code;
  }

  static nlohmann::json Current(const std::string& output) {
    const std::string text = ReadText(output + "/tiny/current.json");
    return text.empty() ? nlohmann::json::object() : nlohmann::json::parse(text);
  }
  // The bytes of a file of the published checkpoint.
  static std::string Published(const std::string& output, const std::string& file) {
    return ReadText(fmt::format("{}/tiny/{}/{}", output, Current(output).value("path", "absent"), file));
  }

  // step -> one JSON line a rank, in rank order.
  static std::map<int64_t, std::vector<nlohmann::json>> Trace(const std::string& path, int ranks) {
    std::map<int64_t, std::vector<nlohmann::json>> steps;
    for (int rank = 0; rank < ranks; ++rank) {
      std::ifstream file(fmt::format("{}.rank-{}", path, rank));
      for (std::string line; std::getline(file, line);) {
        auto json = nlohmann::json::parse(line);
        steps[json.at("step")].push_back(std::move(json));
      }
    }
    return steps;
  }
  // What the ranks of one step saw, put together in the order of the global batch.
  static nlohmann::json Joined(const std::vector<nlohmann::json>& ranks, const std::string& field) {
    nlohmann::json all = nlohmann::json::array();
    for (const auto& rank : ranks) all.insert(all.end(), rank.at(field).begin(), rank.at(field).end());
    return all;
  }

  static inline TempFolder* folder_ = nullptr;
  static inline std::string store_;
  std::string out_, last_output_;
  int specs_ = 0;
};

}  // namespace plateau::test
