// Ordering, watching, listing and cancelling ingests over REST.
#include "coordinator/cli/ingest_command.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "coordinator/cli/ingest_view.h"
#include "coordinator/cli/interrupt_notice.h"
#include "coordinator/cli/job_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kRedrawS = 1;      // how often the figures of a live view are read again
constexpr int kLineS = 10;       // a progress line that often where lines are printed
constexpr int kReconnectS = 60;  // a coordinator that is restarted comes back within this time
constexpr int kPollMarginMs = 30'000;
// Each shard has three lines in a life without trouble; people need the others. --json has every event.
bool IsWorthALine(const EventRowView& event) {
  return event.type != "lease_granted" && event.type != "shard_built" && event.type != "committed";
}

constexpr const char* kIngestHelp = "Ingest's id, an unambiguous beginning of one, or \"last\"";

std::string IngestPath(const std::string& id, const std::string& tail = {}) {
  return "/v1/datasets" + JobPath(id, tail).substr(std::string("/v1/jobs").size());
}

Result<std::string> ResolveIngest(const ApiClient& client, const std::string& text) {
  PLATEAU_ASSIGN(const Json list, client.Get("/v1/datasets"));
  std::vector<std::string> ids;
  for (const auto& item : list.value("datasets", Json::array())) ids.push_back(item.value("id", ""));
  auto id = MatchJob(text, ids);
  if (!id && id.error().code == ErrorCode::kNotFound)
    return Fail(ErrorCode::kNotFound, "there is no ingest \"{}\"; `plateau dataset list` lists them", text);
  return id;
}

// One loop: wait for news, read the ingest, draw.
class IngestFollower {
 public:
  IngestFollower(CliContext& context, std::string id)
      : context_(context), id_(std::move(id)), live_(context.out.terminal && !context.json) {}

  void Run() {
    const InterruptNotice notice("The ingest goes on. Watch it again with: plateau dataset watch " + id_);
    for (;;) {
      const auto round = Ask();
      if (!round && !MayReconnect(round.error())) return context_.Report(round.error());
      if (!round) continue;
      away_since_ms_ = -1;
      if (*round) return;
    }
  }

 private:
  // True when the ingest has ended. It was seen ended before its events were read, so that none is missed.
  Result<bool> Ask() {
    PLATEAU_ASSIGN(const ApiClient client, context_.Client());
    PLATEAU_ASSIGN(const Json before, client.Get(IngestPath(id_)));
    const bool ended = ReadIngestView(before).Ended();
    const int wait_s = first_ || ended ? 0 : live_ ? kRedrawS : kLineS;
    for (;;) {  // an answer holds a bounded number of events
      PLATEAU_ASSIGN(const Json events, client.Get(IngestPath(id_, fmt::format("/events?after={}&wait={}", last_event_, wait_s)),
                                                   wait_s * 1000 + kPollMarginMs));
      Show(events);
      if (wait_s > 0 || events.at("events").empty()) break;
    }
    PLATEAU_ASSIGN(const Json after, client.Get(IngestPath(id_)));
    const IngestView ingest = ReadIngestView(after);
    first_ = false;
    if (ended) Finish(after, ingest);
    if (!ended && live_) Redraw(RenderIngestLive(context_.out, ingest));
    if (!ended && !live_ && !context_.json) PrintProgress(ingest);
    std::fflush(stdout);
    return ended;
  }

  void Show(const Json& events) {
    for (const auto& raw : events.at("events")) last_event_ = std::max(last_event_, raw.value("seq", int64_t{0}));
    if (context_.json)
      for (const auto& raw : events.at("events")) fmt::print("{}\n", raw.dump());
    else if (!live_)
      for (const auto& event : ReadEvents(events))
        if (IsWorthALine(event)) fmt::print("{}\n", RenderEvent(context_.out, event));
  }

  void PrintProgress(const IngestView& ingest) {
    const int64_t now_ms = context_.clock.MonotonicMs();
    if (ingest.state != "RUNNING" || now_ms - progress_ms_ < kLineS * 1000 - 500) return;
    progress_ms_ = now_ms;
    fmt::print("          {}\n", RenderIngestProgress(context_.out, ingest, context_.out.columns));
  }

  // Goes back over the lines drawn last, clears them and draws the new ones.
  void Redraw(const std::vector<std::string>& lines) {
    if (drawn_ > 0) fmt::print("\033[{}A", drawn_);
    fmt::print("\r\033[J");
    for (const auto& line : lines) fmt::print("{}\n", line);
    drawn_ = lines.size();
  }

  void Finish(const Json& raw, const IngestView& ingest) {
    context_.exit_code = ingest.ExitCode();
    if (context_.json) return (void)fmt::print("{}\n", raw.dump());
    if (live_) Redraw({});
    fmt::print("{}", RenderIngestEnd(context_.out, ingest));
  }

  // A coordinator that is restarted comes back; one that never answered is not waited for.
  bool MayReconnect(const Error& error) {
    if (first_ || error.code != ErrorCode::kUnavailable) return false;
    const int64_t now_ms = context_.clock.MonotonicMs();
    if (away_since_ms_ < 0) {
      away_since_ms_ = now_ms;
      fmt::print(stderr, "{}; trying again for {} s\n", error.message, kReconnectS);
    }
    if (now_ms - away_since_ms_ > int64_t{kReconnectS} * 1000) return false;
    std::this_thread::sleep_for(std::chrono::seconds(1));  // between attempts to connect, which fail at once
    return true;
  }

  CliContext& context_;
  const std::string id_;
  const bool live_;
  bool first_ = true;
  int64_t last_event_ = 0, away_since_ms_ = -1, progress_ms_ = 0;
  size_t drawn_ = 0;
};

Result<Json> Order(const CliContext& context, const IngestOrder& order, const std::string& key) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  std::map<std::string, std::string> headers{{"Content-Type", "application/json"}};
  if (!key.empty()) headers["Idempotency-Key"] = key;
  return client.Post("/v1/datasets", IngestOrderToJson(order).dump(), headers);
}

Status PrintIngests(const CliContext& context) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const Json list, client.Get("/v1/datasets"));
  if (context.json) {
    context.PrintJson(list);
    return {};
  }
  std::vector<IngestView> ingests;
  for (const auto& item : list.value("datasets", Json::array())) ingests.push_back(ReadIngestView(item));
  fmt::print("{}", RenderIngests(context.out, ingests));
  return {};
}

Status CancelIngest(const CliContext& context, const std::string& text) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const std::string id, ResolveIngest(client, text));
  PLATEAU_ASSIGN(const Json ingest, client.Post(IngestPath(id, "/cancel")));
  if (context.json)
    context.PrintJson(ingest);
  else
    fmt::print("{}", RenderIngestEnd(context.out, ReadIngestView(ingest)));
  return {};
}

void Watch(CliContext& context, const std::string& text) {
  const auto client = context.Client();
  if (!client) return context.Report(client.error());
  const auto id = ResolveIngest(*client, text);
  if (!id) return context.Report(id.error());
  IngestFollower(context, *id).Run();
}

}  // namespace

void AddRemoteIngestOptions(CLI::App& verb, CliContext& context, RemoteIngestOptions& options) {
  CLI::Option* coordinator =
      verb.add_option_function<std::vector<std::string>>(
              "--coordinator",
              [&options](const std::vector<std::string>& given) {
                options.wanted = true;
                if (!given.empty()) options.address = given[0];
              },
              "order it from a coordinator, whose workers share the work (with a value: its address, as for --endpoint)")
          ->expected(0, 1)
          ->trigger_on_parse();
  verb.add_option("--workers", options.workers, "with --coordinator: workers that it launches (0: only those started by hand)")
      ->check(CLI::Range(0, 1024))
      ->needs(coordinator)
      ->capture_default_str();
  verb.add_flag("--detach", options.detach, "with --coordinator: do not watch it to its end")->needs(coordinator);
  verb.add_option("--idempotency-key", options.key, "with --coordinator: ordering again with the same key gives the first ingest")
      ->needs(coordinator);
  AddConnectionOptions(verb, context);
}

void OrderIngest(CliContext& context, IngestOrder order, const RemoteIngestOptions& options) {
  if (!options.address.empty()) context.endpoint_url = options.address;
  order.source = WithAbsolutePaths(order.source);
  order.options.out = std::filesystem::absolute(order.options.out).lexically_normal().string();
  order.workers = options.workers;
  const auto ordered = Order(context, order, options.key);
  if (!ordered) return context.Report(ordered.error());
  const std::string id = ordered->value("id", "");
  if (!options.detach) return IngestFollower(context, id).Run();
  if (context.json) return context.PrintJson(*ordered);
  fmt::print("{} is {}\n  watch it: plateau dataset watch {}\n", id, ordered->value("state", ""), id);
}

void AddIngestVerbs(CLI::App& dataset, CliContext& context) {
  auto id = std::make_shared<std::string>();
  CLI::App* watch = dataset.add_subcommand("watch", "Watch an ingest of the coordinator until it ends; Ctrl-C leaves it running");
  watch->add_option("ingest", *id, kIngestHelp)->required();
  AddJsonFlag(*watch, context);
  AddConnectionOptions(*watch, context);
  watch->footer(
      "Examples:\n  plateau dataset watch last\n  plateau dataset watch imagenet-1 --json | jq .type\n"
      "Exit codes: 0 completed, 2 failed for the source's sake (too many bad images), 1 failed otherwise or cancelled.");
  watch->callback([&context, id] { Watch(context, *id); });

  CLI::App* list = dataset.add_subcommand("list", "List the coordinator's ingests, newest first");
  AddJsonFlag(*list, context);
  AddConnectionOptions(*list, context);
  list->callback([&context] {
    if (const auto status = PrintIngests(context); !status) context.Report(status.error());
  });

  auto doomed = std::make_shared<std::string>();
  CLI::App* cancel =
      dataset.add_subcommand("cancel", "Cancel an ingest; finished shards stay, and the same ingest goes on from them");
  cancel->add_option("ingest", *doomed, kIngestHelp)->required();
  AddJsonFlag(*cancel, context);
  AddConnectionOptions(*cancel, context);
  cancel->callback([&context, doomed] {
    if (const auto status = CancelIngest(context, *doomed); !status) context.Report(status.error());
  });
}

}  // namespace plateau
