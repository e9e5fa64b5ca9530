// A whole coordinator for a test: real threads, sockets, store and supervisors, a script in mpirun's place, and ranks played by the
// test.
#pragma once

#include <arpa/inet.h>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zmq.hpp>

#include "common/file.h"
#include "common/job_spec.h"
#include "common/messages.h"
#include "coordinator/daemon.h"
#include "tests/support/polling.h"
#include "tests/support/raw_http.h"
#include "tests/support/temp_folder.h"

namespace plateau::test {

// A folder with an empty store, a state folder and a script that stands for mpirun.
class CoordinatorHome {
 public:
  CoordinatorHome() {
    std::filesystem::create_directories(folder_.path() + "/store");
    Write("store/manifest.json", "{}");
    Script("mpirun", "exec sleep 1000");
    options.state_folder = folder_.path() + "/state";
    options.http = options.link = "127.0.0.1:0";
    options.program = std::string(PLATEAU_BIN_DIR) + "/plateau-coordinator";
    options.worker = "/bin/true";
    options.mpirun = path("mpirun");
    options.cores = 4;
    options.limits.first_restart_delay_ms = 10;
    options.kill_grace_ms = 500;
  }
  ~CoordinatorHome() {  // no attempt outlives the test: its supervisors are told to end
    std::vector<std::filesystem::path> attempts;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path()))
      if (entry.path().filename() == "launch.json") attempts.push_back(entry.path().parent_path());
    for (const auto& attempt : attempts) EndAttempt(attempt);
  }

  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  void Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name)) << text;
  }
  void Script(const std::string& name, const std::string& body) const {
    Write(name, "#!/bin/bash\n" + body + "\n");
    ::chmod(path(name).c_str(), 0755);
  }
  // Port 0 then means the same free ports at every start, below those that the system gives to others between two starts.
  void PinPorts() const {
    static std::atomic<int> next{10'000 + static_cast<int>(::getpid()) % 10'000};
    const auto take = [] {
      while (!IsFree(next)) ++next;
      return next++;
    };
    const nlohmann::json last{{"http", fmt::format("http://127.0.0.1:{}", take())},
                              {"link", fmt::format("tcp://127.0.0.1:{}", take())},
                              {"zmq", fmt::format("tcp://127.0.0.1:{}", take())},
                              {"pid", 0}};
    Write("state/endpoints.json", last.dump());
  }
  // A file that another process writes atomically.
  nlohmann::json WaitForJson(const std::string& name) const {
    EXPECT_TRUE(Eventually([&] { return std::filesystem::exists(path(name)); })) << name;
    return nlohmann::json::parse(std::ifstream(path(name)));
  }
  nlohmann::json Spec(int workers = 1) const {
    return {{"version", 1},
            {"kind", "train"},
            {"name", "small"},
            {"output", path("runs")},
            {"model", {{"network", "vgg-a"}}},
            {"data", {{"store", path("store")}}},
            {"lr", {{"patience", 0}, {"threshold", 0}, {"max_decays", 2}}},
            {"resources", {{"workers", workers}}},
            {"fault", {{"max_restarts", 3}, {"hang_timeout", "60s"}}}};
  }
  std::unique_ptr<Daemon> Start() const {
    auto daemon = Daemon::Start(options, WebAssets());
    EXPECT_TRUE(daemon.has_value()) << (daemon ? "" : daemon.error().message);
    return daemon ? std::move(*daemon) : nullptr;
  }

  DaemonOptions options;

 private:
  static bool IsFree(int port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    const bool free = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    return free;
  }
  static void EndAttempt(const std::filesystem::path& attempt) {
    const auto ended = [&] { return std::filesystem::exists(attempt / "exit.json"); };
    Eventually([&] { return ended() || std::filesystem::exists(attempt / "supervisor.json"); }, 5'000);
    if (ended()) return;
    const auto json = nlohmann::json::parse(std::ifstream(attempt / "supervisor.json"), nullptr, false);
    if (json.is_object() && json.contains("pid")) ::kill(json.at("pid").get<pid_t>(), SIGTERM);
    Eventually(ended);
  }

  TempFolder folder_;
};

inline nlohmann::json GetJson(const Daemon& daemon, const std::string& target) {
  RawHttp http(daemon.http_endpoint());
  return nlohmann::json::parse(http.Ask("GET", target).body, nullptr, false);
}
inline RawAnswer PostJson(const Daemon& daemon, const std::string& target, const std::string& body = {},
                          const std::string& headers = {}) {
  RawHttp http(daemon.http_endpoint());
  return http.Ask("POST", target, "Content-Type: application/json\r\n" + headers + (body.empty() ? "Content-Length: 0\r\n" : ""),
                  body);
}
inline bool ReachesState(const Daemon& daemon, const std::string& job, const std::string& state) {
  return Eventually([&] { return GetJson(daemon, "/v1/jobs/" + job).value("state", "") == state; });
}

// A rank played by the test: it knows the attempt's token from launch.json, as mpirun would have passed it on.
class FakeRank {
 public:
  FakeRank(const CoordinatorHome& home, const Daemon& daemon, const std::string& job, int attempt, int rank = 0)
      : sender_{.job = job, .attempt = attempt, .rank = rank, .host = "node", .pid = 7},
        socket_(context_, zmq::socket_type::dealer) {
    const std::string launch = home.path(fmt::format("state/jobs/{}/attempt-{}/launch.json", job, attempt));
    EXPECT_TRUE(Eventually([&] { return std::filesystem::exists(launch); })) << launch;
    PosixFileSystem files;
    sender_.token = nlohmann::json::parse(files.Read(launch).value()).at("environment").at(kTokenVariable);
    Connect(daemon);
  }
  // One that says of itself what the test wants.
  FakeRank(const Daemon& daemon, Sender sender) : sender_(std::move(sender)), socket_(context_, zmq::socket_type::dealer) {
    Connect(daemon);
  }

  Sender& sender() { return sender_; }
  void Tell(const WorkerMessage& message) {
    sender_.request += 1;
    socket_.send(zmq::buffer(EncodeWorkerMessage(sender_, message)), zmq::send_flags::none);
  }
  // Asks and waits for the answer; an error in the test when none comes.
  CoordinatorReply Ask(const WorkerMessage& message) {
    Tell(message);
    zmq::message_t text;
    EXPECT_TRUE(socket_.recv(text).has_value()) << "no reply";
    auto reply = DecodeReply(text.to_string_view());
    EXPECT_TRUE(reply.has_value()) << (reply ? "" : reply.error().message);
    if (!reply) return Refused{"no reply"};
    EXPECT_EQ(reply->first, sender_.request);
    return reply->second;
  }

 private:
  void Connect(const Daemon& daemon) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvtimeo, 20'000);
    socket_.connect(daemon.link_endpoint());
  }

  Sender sender_;
  zmq::context_t context_;
  zmq::socket_t socket_;
};

}  // namespace plateau::test
