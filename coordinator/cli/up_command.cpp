// The coordinator as a background process: fork, a session of its own, its output in <state>/coordinator.log.
#include "coordinator/cli/up_command.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <unistd.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/gpus.h"
#include "common/text.h"
#include "coordinator/cli/control_command.h"
#include "coordinator/cli/job_view.h"
#include "coordinator/cli/local_state.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kProgram = "plateau-coordinator";
constexpr int kStartTimeoutMs = 60'000;
constexpr int kStopTimeoutMs = 60'000;
constexpr size_t kLogTailBytes = 2000;

struct UpOptions {
  std::string http, link, zmq, link_advertise, hostfile, rsh_agent, gpus;
  bool foreground = false, detach = false;
};

struct Running {
  LocalEndpoints endpoints;
  std::string version;
};

// The coordinator of the state folder when its process lives and answers.
Result<Running> FindRunning(const std::string& state) {
  PLATEAU_ASSIGN(const LocalEndpoints endpoints, ReadEndpoints(state));
  if (!IsProcess(endpoints.pid, kProgram)) return Fail(ErrorCode::kNotFound, "{}: no coordinator runs on this state folder", state);
  PLATEAU_ASSIGN(Endpoint endpoint, ParseEndpoint(endpoints.http));
  PLATEAU_ASSIGN(const Json health, ApiClient(std::move(endpoint)).Get("/healthz", 10'000));
  return Running{endpoints, health.value("version", "")};
}

std::vector<std::string> Arguments(const CliContext& context, const std::string& state, const UpOptions& options) {
  std::vector<std::string> arguments{context.program_folder + "/" + kProgram, "--state", state};
  if (!options.http.empty()) arguments.insert(arguments.end(), {"--http", options.http});
  if (!options.link.empty()) arguments.insert(arguments.end(), {"--link", options.link});
  if (!options.link_advertise.empty()) arguments.insert(arguments.end(), {"--link-advertise", options.link_advertise});
  if (!options.hostfile.empty()) arguments.insert(arguments.end(), {"--hostfile", options.hostfile});
  if (!options.rsh_agent.empty()) arguments.insert(arguments.end(), {"--rsh-agent", options.rsh_agent});
  if (!options.zmq.empty()) arguments.insert(arguments.end(), {"--zmq", options.zmq});
  if (!options.gpus.empty()) arguments.insert(arguments.end(), {"--gpus", options.gpus});
  return arguments;
}

std::vector<char*> Pointers(std::vector<std::string>& arguments) {
  std::vector<char*> pointers;
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Starts the coordinator in a session of its own, its standard streams at /dev/null and the log.
Result<pid_t> Spawn(const std::vector<std::string>& arguments, const std::string& log_path) {
  std::vector<std::string> copies = arguments;
  const std::vector<char*> pointers = Pointers(copies);
  const int log = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) return Fail(ErrorCode::kIo, "{}: cannot write the coordinator's log: {}", log_path, std::strerror(errno));
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setsid();
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, STDIN_FILENO);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
  const int code = errno;
  ::close(log);
  if (pid < 0) return Fail(ErrorCode::kIo, "cannot start {}: {}", arguments[0], std::strerror(code));
  return pid;
}

std::string ReadLog(const std::string& path) {
  PosixFileSystem files;
  return files.Read(path).value_or("");
}

// The end of what was written behind `from`.
std::string LogTail(const std::string& path, size_t from) {
  const std::string text = ReadLog(path);
  return text.substr(std::max(std::min(from, text.size()), text.size() - std::min(text.size(), kLogTailBytes)));
}

void PrintUp(const CliContext& context, const std::string& state, const LocalEndpoints& endpoints, const std::string& version,
             bool started) {
  if (context.json)
    return context.PrintJson({{"http", endpoints.http},
                              {"link", endpoints.link},
                              {"zmq", endpoints.zmq},
                              {"pid", endpoints.pid},
                              {"state", state},
                              {"join_token", state + "/join-token"},
                              {"version", version},
                              {"started", started}});
  fmt::print("coordinator {} at {} (pid {})\n", started ? "is up" : "is already running",
             context.out.Paint(Colour::kBold, endpoints.http), endpoints.pid);
  fmt::print("  web page {}/    ZeroMQ {}    state {}    log {}/coordinator.log\n", endpoints.http, endpoints.zmq, state, state);
  fmt::print("  your own mpirun joins with --coordinator {} --token {}/join-token\n", endpoints.link, state);
}

Status StartDetached(const CliContext& context, const std::string& state, const UpOptions& options) {
  const std::string log_path = state + "/coordinator.log";
  const size_t of_earlier_starts = ReadLog(log_path).size();
  PLATEAU_ASSIGN(const pid_t pid, Spawn(Arguments(context, state, options), log_path));
  const auto endpoints = AwaitEndpoints(state, pid, kStartTimeoutMs);
  if (!endpoints)
    return Fail(endpoints.error().code, "{}; the end of {}:\n{}", endpoints.error().message, log_path,
                LogTail(log_path, of_earlier_starts));
  PLATEAU_ASSIGN(Endpoint endpoint, ParseEndpoint(endpoints->http));
  PLATEAU_ASSIGN(const Json health, ApiClient(std::move(endpoint)).Get("/healthz"));
  PrintUp(context, state, *endpoints, health.value("version", ""), true);
  return {};
}

Status Up(const CliContext& context, const UpOptions& options) {
  PLATEAU_TRY(CheckGpuOffer(options.gpus, "--gpus"));
  const std::string state = context.StateFolder();
  PosixFileSystem files;
  PLATEAU_TRY(files.MakeDirectories(state));
  if (const auto running = FindRunning(state)) {
    PrintUp(context, state, running->endpoints, running->version, false);
    return {};
  }
  const auto arguments = Arguments(context, state, options);
  if (!files.Exists(arguments[0]))
    return Fail(ErrorCode::kNotFound, "{} is not there; build it with deploy/build.sh", arguments[0]);
  if (!options.foreground) return StartDetached(context, state, options);
  std::vector<std::string> copies = arguments;
  ::execv(copies[0].c_str(), Pointers(copies).data());
  return Fail(ErrorCode::kIo, "cannot start {}: {}", copies[0], std::strerror(errno));
}

struct ActiveJobs {
  std::vector<std::string> ids;
  size_t running = 0;  // have processes; the others wait in the queue
};

Result<ActiveJobs> FindActiveJobs(const ApiClient& client) {
  PLATEAU_ASSIGN(const Json list, client.Get("/v1/jobs"));
  ActiveJobs active;
  for (const auto& item : list.value("jobs", Json::array())) {
    const JobView job = ReadJobView(item);
    if (job.Rests()) continue;
    active.ids.push_back(job.id);
    if (job.state != "QUEUED" && job.state != "HELD") ++active.running;
  }
  return active;
}

std::string Counted(size_t jobs, const char* kind) { return fmt::format("{} {} job{}", jobs, kind, jobs == 1 ? "" : "s"); }

// What becomes of the jobs without a coordinator; empty when there are none.
std::string WhatJobsDo(size_t running, size_t waiting) {
  std::string text;
  if (running > 0)
    text = Counted(running, "running") +
           ": workers train on to their next validation and wait there; `plateau up` takes them over again";
  if (waiting > 0)
    text += fmt::format("{}{} until the next `plateau up`", text.empty() ? "" : "\n  ",
                        Counted(waiting, "waiting") + (waiting == 1 ? " stays" : " stay"));
  return text;
}

// Jobs with an attempt that was started and whose end nobody has written down: a coordinator that was killed may have left them.
std::vector<std::string> JobsLeftBehind(const std::string& state) {
  PosixFileSystem files;
  std::vector<std::string> jobs;
  const auto names = files.List(state + "/jobs");
  for (const auto& job : names ? *names : std::vector<std::string>{}) {
    const std::string folder = state + "/jobs/" + job;
    const auto attempts = files.List(folder);
    for (const auto& attempt : attempts ? *attempts : std::vector<std::string>{}) {
      const std::string path = folder + "/" + attempt;
      if (files.Exists(path + "/supervisor.json") && !files.Exists(path + "/exit.json")) jobs.push_back(job);
    }
  }
  return jobs;
}

Status Down(const CliContext& context, bool cancel_jobs) {
  const std::string state = context.StateFolder();
  const auto endpoints = ReadEndpoints(state);
  if (!endpoints || !IsProcess(endpoints->pid, kProgram)) {
    if (const auto left = JobsLeftBehind(state); cancel_jobs && !left.empty())
      return Fail(ErrorCode::kUnavailable,
                  "no coordinator runs on {}, but {} may still train under its supervisor; `plateau up` takes it over, then repeat "
                  "this command",
                  state, JoinNames(left));
    if (context.json)
      context.PrintJson({{"stopped", false}, {"state", state}});
    else
      fmt::print("no coordinator runs on {}\n", state);
    return {};
  }
  PLATEAU_ASSIGN(Endpoint endpoint, ParseEndpoint(endpoints->http));
  const ApiClient client(std::move(endpoint));
  const auto jobs = FindActiveJobs(client);
  if (cancel_jobs && jobs)
    for (const auto& id : jobs->ids) PLATEAU_TRY(CancelAndWait(client, id));
  if (::kill(endpoints->pid, SIGTERM) != 0)
    return Fail(ErrorCode::kIo, "cannot stop the coordinator (pid {}): {}", endpoints->pid, std::strerror(errno));
  if (!AwaitExit(endpoints->pid, kStopTimeoutMs))
    return Fail(ErrorCode::kUnavailable, "the coordinator (pid {}) did not stop within {} s; see {}/coordinator.log",
                endpoints->pid, kStopTimeoutMs / 1000, state);
  const size_t left = cancel_jobs || !jobs ? 0 : jobs->ids.size(), running = left == 0 ? 0 : jobs->running;
  if (context.json)
    context.PrintJson({{"stopped", true}, {"pid", endpoints->pid}, {"state", state}, {"unfinished_jobs", left}});
  else
    fmt::print("coordinator at {} (pid {}) is down\n", endpoints->http, endpoints->pid);
  if (left > 0 && !context.json) fmt::print("  {}\n", WhatJobsDo(running, left - running));
  return {};
}

}  // namespace

void AddUpCommand(CLI::App& app, CliContext& context) {
  auto options = std::make_shared<UpOptions>();
  CLI::App* command = app.add_subcommand("up", "Start a coordinator on this machine and wait until it answers");
  command->add_option("--state", context.state_folder, "State folder (default: $PLATEAU_STATE or ~/.local/state/plateau)");
  command->add_option("--http", options->http, "Address of REST and the web page (default 127.0.0.1:7080; port 0: any free one)");
  command->add_option("--link", options->link, "Address for workers (default 127.0.0.1:7081; port 0: any free one)");
  command->add_option("--link-advertise", options->link_advertise,
                      "HOST or HOST:PORT by which workers on other hosts reach the coordinator (default: the address of --link)");
  command->add_option("--hostfile", options->hostfile, "Hosts to train on, Open MPI's format: `host slots=CORES` a line")
      ->check(CLI::ExistingFile);
  command->add_option("--rsh-agent", options->rsh_agent, "How other hosts are reached (default ssh)");
  command->add_option("--zmq", options->zmq,
                      "Address of the same interface over ZeroMQ (default 127.0.0.1:7082; any free port when --http's is 0)");
  command->add_option(
      "--gpus", options->gpus,
      "GPUs of this machine offered to jobs: how many (2), which (0,3), one (3,) or none (0); default: those that CUDA shows here");
  CLI::Option* foreground = command->add_flag("--foreground", options->foreground, "Stay in this terminal until Ctrl-C");
  command->add_flag("--detach", options->detach, "Run in the background (the default)")->excludes(foreground);
  AddJsonFlag(*command, context);
  command->footer(
      "Examples:\n  plateau up\n  plateau up --state /srv/plateau --http 127.0.0.1:0\n  plateau up --foreground\n  plateau up "
      "--link 10.0.0.1:7081 --hostfile hosts\n  plateau up --gpus 2,3");
  command->callback([&context, options] {
    if (const auto status = Up(context, *options); !status) context.Report(status.error());
  });
}

void AddDownCommand(CLI::App& app, CliContext& context) {
  auto cancel_jobs = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("down", "Stop the coordinator of this machine");
  command->add_option("--state", context.state_folder, "State folder (default: $PLATEAU_STATE or ~/.local/state/plateau)");
  command->add_flag("--cancel-jobs", *cancel_jobs, "Cancel the unfinished jobs first and wait until they have stopped");
  AddJsonFlag(*command, context);
  command->footer("Examples:\n  plateau down\n  plateau down --cancel-jobs");
  command->callback([&context, cancel_jobs] {
    if (const auto status = Down(context, *cancel_jobs); !status) context.Report(status.error());
  });
}

}  // namespace plateau
