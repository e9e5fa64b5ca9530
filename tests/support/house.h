// A whole Plateau for one test: a synthetic store, a coordinator of its own started by `plateau up`, jobs by its REST interface.
#pragma once

#include <array>
#include <cstdio>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <sys/wait.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "common/file.h"
#include "coordinator/cli/api_client.h"
#include "coordinator/cli/local_state.h"
#include "tests/support/mpirun.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {

using Json = nlohmann::ordered_json;

struct Ran {
  int code = -1;
  std::string out;  // stdout and stderr
};

// `plateau ARGUMENTS` through the shell.
inline Ran RunPlateau(const std::string& arguments) {
  Ran run;
  FILE* pipe = ::popen((PLATEAU_BIN_DIR "/plateau " + arguments + " 2>&1").c_str(), "r");
  std::array<char, 4096> buffer;
  while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) run.out.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  run.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

// One thread. Everything lies in a temporary folder; the destructor cancels what runs and stops the coordinator.
class House {
 public:
  // `up_options`: the worker link and whatever else `plateau up` is to be told.
  explicit House(std::string up_options = "--link 127.0.0.1:0") : up_options_(std::move(up_options)) {
    AllowMpirunHere();
    const Ran made =
        RunPlateau("dataset synthesize --format store --out " + store() + " --classes 4 --train 128 --val 40 --size 40 --seed 3");
    EXPECT_EQ(made.code, 0) << made.out;
    Up();
  }
  ~House() { RunPlateau("down --cancel-jobs --state " + state()); }
  House(const House&) = delete;
  House& operator=(const House&) = delete;

  std::string store() const { return folder_.path() + "/store"; }
  std::string state() const { return folder_.path() + "/state"; }
  std::string runs() const { return folder_.path() + "/runs"; }
  const std::string& folder() const { return folder_.path(); }

  void Up() {
    const Ran up = RunPlateau("up --http 127.0.0.1:0 " + up_options_ + " --state " + state());
    ASSERT_EQ(up.code, 0) << up.out;
  }
  pid_t CoordinatorPid() const { return ReadEndpoints(state())->pid; }
  // kill -9, and gone when this returns.
  void KillCoordinator() const {
    const pid_t pid = CoordinatorPid();
    ::kill(pid, SIGKILL);
    ASSERT_TRUE(AwaitExit(pid, 30'000));
  }
  ApiClient Api() const { return ApiClient(ParseEndpoint(ReadEndpoints(state())->http).value()); }

  // A job of 8 steps an epoch on two workers: 640 steps, checkpoints in the middle of epochs too.
  Json Spec(const std::string& name) const {
    return Json::parse(R"({"version": 1, "kind": "train", "model": {"network": "vgg-a", "width": 0.05},
      "data": {"train_scale": 36, "crop": 32, "augment": {"flip": true, "colour": true}},
      "training": {"global_batch": 16, "max_epochs": 200, "max_steps": 640, "dropout": 0.3},
      "lr": {"initial": 0.01, "patience": 1, "max_decays": 100, "factor": 0.8},
      "validation": {"every": "1ep", "scale": 36}, "resources": {"workers": 2, "device": "cpu"},
      "checkpoint": {"every": "21it", "keep_last": 2, "keep_best": 1}, "fault": {"max_restarts": 3, "hang_timeout": "60s"}})")
        .patch(Json::array({{{"op", "add"}, {"path", "/name"}, {"value", name}},
                            {{"op", "add"}, {"path", "/output"}, {"value", runs()}},
                            {{"op", "add"}, {"path", "/data/store"}, {"value", store()}}}));
  }

  std::string Submit(const Json& spec, bool force = false) const {
    const auto job = Api().Post(force ? "/v1/jobs?force=true" : "/v1/jobs", spec.dump(), {{"Content-Type", "application/json"}});
    EXPECT_TRUE(job.has_value()) << job.error().message;
    return job ? job->value("id", "") : "";
  }
  Json Job(const std::string& id) const {
    const auto job = Api().Get(JobPath(id));
    EXPECT_TRUE(job.has_value()) << job.error().message;
    return job ? *job : Json::object();
  }

  // Waits, event by event, until `done` holds of the job; fails the test after `limit_s` without it. Returns the job.
  Json Await(const std::string& id, const std::function<bool(const Json&)>& done, int limit_s = 240) const {
    int64_t seen = 0;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(limit_s);
    Json job = Job(id);
    while (!done(job)) {
      const auto events = Api().Get(JobPath(id, fmt::format("/events?after={}&wait=5", seen)), 60'000);
      if (!events || std::chrono::steady_clock::now() > end) {
        ADD_FAILURE() << id << " did not get there: " << job.dump(1) << "\n"
                      << RunPlateau("logs --state " + state() + " " + id).out;
        return job;
      }
      seen = events->value("last", seen);
      job = Job(id);
    }
    return job;
  }
  static bool Ended(const Json& job) {
    const std::string state = job.value("state", "");
    return state == "COMPLETED" || state == "FAILED" || state == "CANCELLED";
  }
  Json AwaitEnd(const std::string& id) const { return Await(id, Ended); }
  // Until a checkpoint is published, and so something to resume from is there: a small part of the run.
  Json AwaitCheckpoint(const std::string& id) const {
    return Await(id, [](const Json& job) { return Ended(job) || job["checkpoint"].is_object(); });
  }
  // The process of a rank of this house's job, found in /proc: a rank is heard by the coordinator only once a second. 0: none.
  pid_t PidOfRank(const std::string& id, int rank) const {
    PosixFileSystem files;
    const std::string variable = fmt::format("OMPI_COMM_WORLD_RANK={}", rank);
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string folder = entry.path().string();
      const auto arguments = files.Read(folder + "/cmdline");
      if (!arguments || arguments->find("plateau-worker") == std::string::npos || arguments->find(state()) == std::string::npos) continue;
      const auto environment = files.Read(folder + "/environ");
      const bool is_rank = environment && ('\0' + *environment).find('\0' + variable + '\0') != std::string::npos;
      if (is_rank && arguments->find("/" + id + "/") != std::string::npos) return std::stoi(entry.path().filename().string());
    }
    return 0;
  }
  // The job's whole history.
  Json Events(const std::string& id) const {
    Json all = Json::array();
    for (int64_t seen = 0;;) {
      const auto page = Api().Get(JobPath(id, fmt::format("/events?after={}", seen)));
      EXPECT_TRUE(page.has_value()) << page.error().message;
      if (!page || (*page)["events"].empty()) return all;
      for (const auto& event : (*page)["events"]) all.push_back(event);
      seen = all.back()["seq"];
    }
  }
  bool HadEvent(const std::string& id, const std::string& type) const {
    for (const auto& event : Events(id))
      if (event["type"] == type) return true;
    return false;
  }

  // The bytes of the current checkpoint's weights.
  std::string FinalModel(const Json& job) const {
    PosixFileSystem files;
    if (!job["checkpoint"].is_object()) return "";
    const std::string path = job.value("output", "") + "/" + job["checkpoint"].value("path", "") + "/model.safetensors";
    auto bytes = files.Read(path);
    EXPECT_TRUE(bytes.has_value()) << path;
    return bytes ? *bytes : "";
  }
  Json History(const std::string& id) const { return *Api().Get(JobPath(id, "/lr-history")); }

 private:
  std::string up_options_;
  TempFolder folder_;
};

}  // namespace plateau::test
