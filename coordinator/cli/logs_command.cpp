// Log text by offset; following waits on the job's events between reads.
#include "coordinator/cli/logs_command.h"

#include <cstdio>
#include <cstdlib>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/text.h"
#include "coordinator/cli/interrupt_notice.h"
#include "coordinator/cli/job_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kPollS = 1;  // new text is looked for that often while a log is followed
constexpr int kPollTimeoutMs = 30'000;

struct LogOptions {
  std::string job;
  std::string file = "rank-0.log";
  int rank = 0;
  int attempt = 0;  // 0: the newest
  bool follow = false;
  bool list = false;
};

struct Chunk {
  std::string text;
  int64_t next_offset = 0;
  int attempt = 0;
};

Result<Chunk> ReadChunk(const ApiClient& client, const std::string& id, const LogOptions& options, int attempt, int64_t offset) {
  std::string target = JobPath(id, fmt::format("/logs?file={}&offset={}", EscapeUrl(options.file), offset));
  if (attempt > 0) target += fmt::format("&attempt={}", attempt);
  PLATEAU_ASSIGN(const auto response, client.GetRaw(target));
  PLATEAU_TRY(ToStatus(response, target));
  Chunk chunk{response.body, offset + static_cast<int64_t>(response.body.size()), attempt};
  if (const auto at = response.headers.find("plateau-next-offset"); at != response.headers.end())
    chunk.next_offset = std::atoll(at->second.c_str());
  if (const auto at = response.headers.find("plateau-attempt"); at != response.headers.end())
    chunk.attempt = std::atoi(at->second.c_str());
  return chunk;
}

void Print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// All text from an offset on, chunk after chunk; the attempt read and the offset reached are kept in the arguments.
Status Drain(const ApiClient& client, const std::string& id, const LogOptions& options, int& attempt, int64_t& offset) {
  while (true) {
    PLATEAU_ASSIGN(const Chunk chunk, ReadChunk(client, id, options, attempt, offset));
    attempt = chunk.attempt;
    if (chunk.text.empty() || chunk.next_offset <= offset) return {};
    Print(chunk.text);
    offset = chunk.next_offset;
  }
}

// Reads on until the job ends; a newer attempt's log follows the one before.
Status Follow(const ApiClient& client, const std::string& id, const LogOptions& options) {
  int attempt = options.attempt;
  int64_t offset = 0, last_event = 0;
  while (true) {
    PLATEAU_ASSIGN(const Json raw, client.Get(JobPath(id)));
    const JobView job = ReadJobView(raw);
    if (auto status = Drain(client, id, options, attempt, offset); !status && status.error().code != ErrorCode::kNotFound)
      return status;
    if (options.attempt == 0 && job.attempt > attempt && attempt > 0) {
      fmt::print("--- attempt {} ---\n", job.attempt);
      attempt = job.attempt;
      offset = 0;
      continue;
    }
    if (job.Rests() || (options.attempt > 0 && job.attempt > options.attempt)) return {};
    const std::string wait = JobPath(id, fmt::format("/events?after={}&wait={}", last_event, kPollS));
    PLATEAU_ASSIGN(const Json events, client.Get(wait, kPollTimeoutMs));
    last_event = events.value("last", last_event);
  }
}

Status List(const CliContext& context, const ApiClient& client, const std::string& id) {
  PLATEAU_ASSIGN(const Json list, client.Get(JobPath(id, "/logs?list=1")));
  if (context.json) {
    context.PrintJson(list);
    return {};
  }
  Table table({"ATTEMPT", "FILE", "SIZE"});
  table.RightAlign({0, 2});
  for (const auto& attempt : list.value("attempts", Json::array()))
    for (const auto& file : attempt.value("files", Json::array()))
      table.Add(
          {std::to_string(attempt.value("attempt", 0)), file.value("name", ""), HumanBytes(file.value("bytes", uint64_t{0}))});
  fmt::print("{}", table.Render(context.out));
  return {};
}

Status RunLogs(const CliContext& context, const LogOptions& options) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const std::string id, client.ResolveJob(options.job));
  if (options.list) return List(context, client, id);
  if (options.follow) {
    const InterruptNotice notice("The job goes on. Read its log again with: plateau logs " + id + " --follow");
    return Follow(client, id, options);
  }
  int attempt = options.attempt;
  int64_t offset = 0;
  if (!context.json) return Drain(client, id, options, attempt, offset);
  PLATEAU_ASSIGN(const Chunk chunk, ReadChunk(client, id, options, attempt, offset));
  context.PrintJson(
      {{"job", id}, {"attempt", chunk.attempt}, {"file", options.file}, {"next_offset", chunk.next_offset}, {"text", chunk.text}});
  return {};
}

}  // namespace

void AddLogsCommand(CLI::App& app, CliContext& context) {
  auto options = std::make_shared<LogOptions>();
  CLI::App* command = app.add_subcommand("logs", "Print the log of a rank");
  command->add_option("job", options->job, "Job id, an unambiguous beginning of one, or \"last\"")->required();
  CLI::Option* rank = command->add_option("--rank", options->rank, "Which rank (default 0)")->check(CLI::NonNegativeNumber);
  command->add_option("--attempt", options->attempt, "Which attempt (default: the newest)")->check(CLI::PositiveNumber);
  command->add_option("--file", options->file, "A log file by name, such as mpirun.log")->excludes(rank);
  command->add_flag("--follow,-f", options->follow, "Go on until the job ends, over restarts");
  command->add_flag("--list", options->list, "List the log files");
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer(
      "Examples:\n  plateau logs last --follow\n  plateau logs vgg-a-tiny-1 --rank 1 --attempt 2\n  plateau logs vgg-a-tiny-1 "
      "--file mpirun.log\n"
      "  plateau logs vgg-a-tiny-1 --list");
  command->callback([&context, options, rank] {
    if (rank->count() > 0) options->file = fmt::format("rank-{}.log", options->rank);
    if (const auto status = RunLogs(context, *options); !status) context.Report(status.error());
  });
}

}  // namespace plateau
