// Command line of an ingest worker: threads that pull shards from a coordinator.
#include "worker/ingest_verb.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <CLI/CLI.hpp>

#include "common/log.h"
#include "common/messages.h"
#include "worker/ingest/builder.h"

namespace plateau {
namespace {

constexpr const char* kFooter = R"(Examples:
  plateau-worker ingest --coordinator tcp://10.0.0.1:7081 --token join-token --jobs 8
  mpirun -np 3 --hostfile hosts --map-by ppr:1:node --enable-recovery plateau-worker ingest --coordinator tcp://10.0.0.1:7081 --token join-token

The token is the content of <state>/join-token of the coordinator; without --token it is taken from $PLATEAU_TOKEN. Every worker must see
source and store under the same paths. Ranks of one mpirun need nothing of each other; with --enable-recovery the others go on
when one dies. Start as many as you like, whenever you like; each leaves when there is nothing left to build (--stay: waits for more).
SIGTERM gives the shard under way back to the queue and leaves.
Exit codes: 0 nothing left to build, or told to stop; 2 refused by the coordinator or bad input; 1 the coordinator does not answer.)";

struct IngestVerbOptions {
  std::string coordinator, token_file, dataset;
  int jobs = 1, slot = 0, attempt = 0;
  int64_t patience_s = 600;
  bool stay = false;
};

Result<std::string> ReadToken(const std::string& path) {
  std::string token;
  if (path.empty()) {
    const char* value = std::getenv(kTokenVariable);
    if (value != nullptr) token = value;
  } else {
    PosixFileSystem files;
    PLATEAU_ASSIGN(token, files.Read(path));
  }
  while (!token.empty() && (token.back() == '\n' || token.back() == ' ')) token.pop_back();
  if (token.empty())
    return Fail(ErrorCode::kInvalidInput,
                "{}: holds no token; give --token FILE with the content of <state>/join-token of the coordinator",
                path.empty() ? std::string("$") + kTokenVariable : path);
  return token;
}

std::string HostName() {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return host;
}

// A launched worker does not outlive the supervisor that would have to answer for it.
void DieWithSupervisor() {
  const pid_t supervisor = ::getppid();
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) LogWarning("this worker will not notice at once when its supervisor dies");
  if (::getppid() != supervisor) std::_Exit(1);
}

Status Run(const IngestVerbOptions& options) {
  PLATEAU_ASSIGN(const std::string token, ReadToken(options.token_file));
  if (options.slot > 0) DieWithSupervisor();
  StopSignal stop;
  RaiseOnSignals(stop);
  uint32_t random = 0;
  if (::getentropy(&random, sizeof random) != 0) return Fail(ErrorCode::kInternal, "getentropy failed");
  IngestSender sender{.token = token,
                      .worker = fmt::format("{}-{}-{:08x}", HostName(), ::getpid(), random),
                      .host = HostName(),
                      .pid = ::getpid(),
                      .dataset = options.dataset,
                      .slot = options.slot,
                      .attempt = options.attempt};
  const ChannelOptions channel_options{.address = options.coordinator, .patience_ms = options.patience_s * 1000};
  PLATEAU_ASSIGN(const auto keeper, LeaseKeeper::Start(channel_options, sender, stop));
  PosixFileSystem files;
  OpenedSources sources;
  BuilderTotals totals;
  std::vector<Status> results(static_cast<size_t>(options.jobs));
  std::vector<std::thread> threads;
  for (int number = 0; number < options.jobs; ++number)
    threads.emplace_back([&, number] {
      IngestSender mine = sender;
      mine.worker += fmt::format("/{}", number);
      auto channel = IngestChannel::Open(channel_options, mine, stop);
      results[static_cast<size_t>(number)] =
          channel ? BuildShards(files, **channel, *keeper, sources, stop, mine.worker, options.stay, totals)
                  : Status(Fail(std::move(channel.error())));
    });
  for (auto& thread : threads) thread.join();
  LogInfo("{} shards of {} images built{}{}", totals.shards, totals.images,
          totals.lost > 0 ? fmt::format(", {} leases lost", totals.lost.load()) : "",
          totals.failed > 0 ? fmt::format(", {} shards could not be built", totals.failed.load()) : "");
  for (auto& result : results) PLATEAU_TRY(result);
  return {};
}

}  // namespace

void AddIngestVerb(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<IngestVerbOptions>();
  CLI::App* verb = app.add_subcommand("ingest", "Build shards of the record stores that a coordinator ingests");
  verb->add_option("--coordinator", options->coordinator, "Worker link of the coordinator: tcp://HOST:PORT")->required();
  verb->add_option("--token", options->token_file, "File with the coordinator's token (default: $PLATEAU_TOKEN)");
  verb->add_option("--jobs", options->jobs, "Threads; each builds a shard at a time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--dataset", options->dataset, "Serve only this ingest (default: any)");
  verb->add_flag("--stay", options->stay, "Wait for further ingests instead of leaving when there is nothing to build");
  verb->add_option("--patience", options->patience_s, "Seconds without any answer after which the coordinator is given up")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  verb->add_option("--slot", options->slot, "Number of a launched worker (given by the coordinator)");
  verb->add_option("--attempt", options->attempt, "Attempt number (given by the coordinator)");
  verb->footer(kFooter);
  verb->callback([options, &exit_code] {
    if (const auto status = Run(*options); !status) {
      std::fprintf(stderr, "plateau-worker ingest: %s\n", status.error().message.c_str());
      exit_code = ExitCode(status.error().code);
    }
  });
}

}  // namespace plateau
