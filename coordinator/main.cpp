// plateau-coordinator: the daemon, and the supervisor of an attempt as its `supervise` verb.
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "common/log.h"
#include "coordinator/daemon.h"
#include "coordinator/launch/supervisor.h"

namespace plateau {
namespace {

constexpr const char* kExamples = R"(
Examples:
  plateau-coordinator                                   state in ~/.local/state/plateau, REST on 127.0.0.1:7080
  plateau-coordinator --state /var/lib/plateau --http 0.0.0.0:7080
  plateau-coordinator --state ./state --http 127.0.0.1:0 --link 127.0.0.1:0     free ports, written to ./state/endpoints.json
  curl http://127.0.0.1:7080/healthz

  plateau-coordinator --link 10.0.0.1:7081 --hostfile hosts      train on several hosts: an address that they reach, and their names

There is no authentication yet: leave the addresses on loopback, or put them on a network you trust.
SIGTERM and SIGINT end the coordinator and leave running jobs running; the next start takes them up again.)";

std::string OwnProgram() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::string() : path.string();
}

// $PLATEAU_STATE, or ~/.local/state/plateau.
std::string DefaultStateFolder() {
  if (const char* state = std::getenv("PLATEAU_STATE"); state != nullptr && *state != '\0') return state;
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : "/tmp") + "/.local/state/plateau";
}

int Serve(const DaemonOptions& options) {
  sigset_t stop;
  sigemptyset(&stop);
  for (const int signal : {SIGTERM, SIGINT}) sigaddset(&stop, signal);
  ::pthread_sigmask(SIG_BLOCK, &stop, nullptr);  // before the first thread, so that only the wait below sees them
  std::signal(SIGPIPE, SIG_IGN);
  auto daemon = Daemon::Start(options, WebAssets());
  if (!daemon) {
    std::cerr << "plateau-coordinator: " << daemon.error().message << "\n";
    return ExitCode(daemon.error().code);
  }
  LogInfo("REST and web page on {}, over ZeroMQ on {}, worker link on {}, state in {}", (*daemon)->http_endpoint(),
          (*daemon)->zmq_endpoint(), (*daemon)->link_endpoint(), options.state_folder);
  int signal = 0;
  ::sigwait(&stop, &signal);
  const size_t running = (*daemon)->service().CheckHealth().running;
  if (running == 0)
    LogInfo("{}: leaving; no job is running", ::strsignal(signal));
  else
    LogInfo("{}: leaving; {} job(s) run on under their supervisors and are taken up again at the next start", ::strsignal(signal),
            running);
  daemon->reset();
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app{"Plateau's coordinator: keeps the queue of training jobs, launches their workers and decides their learning rate."};
  app.footer(kExamples);
  DaemonOptions options;
  options.state_folder = DefaultStateFolder();
  options.program = OwnProgram();
  options.worker = (std::filesystem::path(options.program).parent_path() / "plateau-worker").string();
  // The bundle brings an Open MPI of its own.
  const auto mpirun_beside = std::filesystem::path(options.program).parent_path() / "mpirun";
  if (std::filesystem::exists(mpirun_beside)) options.mpirun = mpirun_beside.string();
  bool quiet = false, no_oversubscribe = false;
  app.add_option("--state", options.state_folder,
                 "State folder on a local disk (default: $PLATEAU_STATE or ~/.local/state/plateau)");
  app.add_option("--http", options.http, "Address of REST and the web page, IP:PORT; port 0: any free one")->capture_default_str();
  app.add_option("--link", options.link, "Address of the worker link, IP:PORT; port 0: any free one")->capture_default_str();
  app.add_option("--link-advertise", options.link_advertise,
                 "HOST or HOST:PORT by which workers on other hosts reach the worker link (default: the address of --link)");
  app.add_option("--hostfile", options.hostfile, "Hosts to train on, Open MPI's format: `host slots=CORES` a line")
      ->check(CLI::ExistingFile);
  app.add_option("--rsh-agent", options.rsh_agent, "How other hosts are reached: a program and its options, run as AGENT HOST COMMAND")
      ->capture_default_str();
  app.add_option(
      "--zmq", options.zmq,
      "Address of the same interface over ZeroMQ, IP:PORT (default: port 7082 beside --http; any free one when that has port 0)");
  app.add_option("--allow-origin", options.allowed_origins,
                 "Origin of web pages that may command it besides its own, such as https://plateau.example (repeatable)");
  app.add_option("--worker", options.worker, "The plateau-worker program (default: beside this one)");
  app.add_option("--mpirun", options.mpirun, "The mpirun program")->capture_default_str();
  app.add_option("--cores", options.cores, "Cores offered to jobs (default: the machine's)")->check(CLI::PositiveNumber);
  app.add_option(
      "--gpus", options.gpus,
      "GPUs of this machine offered to jobs: how many (2), which (0,3), one (3,) or none (0); default: those that CUDA shows here");
  double lease_timeout_s = static_cast<double>(options.ingest_limits.lease_ms) / 1000;
  app.add_option("--lease-timeout", lease_timeout_s, "Seconds of silence after which an ingest worker's shard is given to another")
      ->check(CLI::Range(0.2, 86'400.0))
      ->capture_default_str();
  app.add_flag("--no-oversubscribe", no_oversubscribe,
               "Hold jobs that need more cores than there are, instead of running them alone");
  app.add_flag("--quiet", quiet, "Only warnings and errors in the log");
  std::string attempt;
  auto* supervise = app.add_subcommand("supervise", "Run one attempt to its end (started by the coordinator itself)");
  supervise->add_option("--dir", attempt, "The attempt's folder with launch.json")->required();
  CLI11_PARSE(app, argc, argv);
  if (supervise->parsed()) return RunSupervisor(attempt);

  InitLog("", quiet ? LogLevel::kWarning : LogLevel::kInfo);
  options.allow_oversubscribe = !no_oversubscribe;
  options.ingest_limits.lease_ms = static_cast<int64_t>(lease_timeout_s * 1000);
  options.state_folder = std::filesystem::absolute(options.state_folder).lexically_normal().string();
  options.worker = std::filesystem::absolute(options.worker).lexically_normal().string();
  return Serve(options);
}

}  // namespace
}  // namespace plateau

int main(int argc, char** argv) { return plateau::Main(argc, argv); }
