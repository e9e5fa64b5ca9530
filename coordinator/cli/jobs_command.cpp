// Each command: ask, then print the answer as text or JSON.
#include "coordinator/cli/jobs_command.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "coordinator/cli/follow.h"
#include "coordinator/cli/job_view.h"
#include "coordinator/cli/pipeline_follow.h"
#include "coordinator/cli/pipeline_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kJobHelp = "Job id, an unambiguous beginning of one, or \"last\"";
constexpr const char* kJobOrPipelineHelp = "Job id, an unambiguous beginning of one, or \"last\"; or a pipeline's id or name";

struct JobsOptions {
  bool active = false, all = false;
};

Result<std::vector<PipelineRow>> AskPipelines(const ApiClient& client, bool active) {
  PLATEAU_ASSIGN(const Json list, client.Get("/v1/pipelines"));
  std::vector<PipelineRow> rows;
  for (const auto& item : list.value("pipelines", Json::array())) {
    PipelineRow row = ReadPipelineRow(item);
    if (!active || !row.Rests()) rows.push_back(std::move(row));
  }
  return rows;
}

// Jobs of pipelines are folded into one line each unless --all is given; JSON has them all.
Status PrintJobs(const CliContext& context, const JobsOptions& options) {
  const bool active = options.active;
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(Json list, client.Get("/v1/jobs"));
  bool folded = false;
  Json kept = Json::array();
  std::vector<JobView> jobs;
  for (const auto& item : list.value("jobs", Json::array())) {
    JobView job = ReadJobView(item);
    if (active && job.Ended()) continue;
    kept.push_back(item);
    folded = folded || !job.pipeline.empty();
    if (job.pipeline.empty() || options.all) jobs.push_back(std::move(job));
  }
  list["jobs"] = std::move(kept);
  if (context.json) {
    context.PrintJson(list);
    return {};
  }
  const int64_t now_ms = context.clock.NowMs();
  if (!folded || !jobs.empty()) fmt::print("{}", RenderJobs(context.out, jobs, now_ms));
  if (!folded) return {};
  PLATEAU_ASSIGN(const auto pipelines, AskPipelines(client, active));
  fmt::print("{}{}", jobs.empty() ? "" : "\n", RenderPipelines(context.out, pipelines, now_ms));
  return {};
}

Status PrintJob(const CliContext& context, const std::string& text) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  if (const std::string pipeline = FindPipelineId(client, text); !pipeline.empty()) return PrintPipeline(context, pipeline);
  PLATEAU_ASSIGN(const std::string id, client.ResolveJob(text));
  PLATEAU_ASSIGN(const Json job, client.Get(JobPath(id)));
  if (context.json) {
    context.PrintJson(job);
    return {};
  }
  PLATEAU_ASSIGN(const Json metrics, client.Get(JobPath(id, "/metrics?after_step=999999999999")));
  PLATEAU_ASSIGN(const Json history, client.Get(JobPath(id, "/lr-history")));
  fmt::print("{}",
             RenderJob(context.out, ReadJobView(job), ReadValidations(metrics), ReadDecisions(history), context.clock.NowMs()));
  return {};
}

Status PrintLrHistory(const CliContext& context, const std::string& text, bool only_changes) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const std::string id, client.ResolveJob(text));
  PLATEAU_ASSIGN(const Json history, client.Get(JobPath(id, "/lr-history")));
  if (context.json)
    context.PrintJson(history);
  else
    fmt::print("{}", RenderDecisions(context.out, history.value("metric", ""), ReadDecisions(history), only_changes));
  return {};
}

void Watch(CliContext& context, const std::string& text, const FollowOptions& options) {
  const auto client = context.Client();
  if (!client) return context.Report(client.error());
  if (const std::string pipeline = FindPipelineId(*client, text); !pipeline.empty()) return FollowPipeline(context, pipeline);
  const auto id = client->ResolveJob(text);
  if (!id) return context.Report(id.error());
  FollowJob(context, *id, options);
}

void ReportStatus(CliContext& context, const Status& status) {
  if (!status) context.Report(status.error());
}

}  // namespace

void AddJobsCommand(CLI::App& app, CliContext& context) {
  auto options = std::make_shared<JobsOptions>();
  CLI::App* command = app.add_subcommand("jobs", "List jobs, newest first");
  command->add_flag("--active,-a", options->active, "Leave out the jobs that ended");
  command->add_flag("--all", options->all, "The jobs of pipelines one by one, not a line for each pipeline");
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer("Examples:\n  plateau jobs\n  plateau jobs --active --json");
  command->callback([&context, options] { ReportStatus(context, PrintJobs(context, *options)); });
}

void AddShowCommand(CLI::App& app, CliContext& context) {
  auto job = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("show", "Show one job: progress, workers, attempts, validations, learning rate changes");
  command->add_option("job", *job, kJobOrPipelineHelp)->required();
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer("Examples:\n  plateau show vgg-a-tiny-1\n  plateau show last --json\n  plateau show vgg-paper-1    # a pipeline: its jobs");
  command->callback([&context, job] { ReportStatus(context, PrintJob(context, *job)); });
}

void AddLrCommand(CLI::App& app, CliContext& context) {
  auto job = std::make_shared<std::string>();
  auto changes = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("lr", "Show a job's learning rate decisions with their reasons");
  command->add_option("job", *job, kJobHelp)->required();
  command->add_flag("--changes", *changes, "Only the decisions that changed the rate or ended the run");
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer("Examples:\n  plateau lr last\n  plateau lr vgg-a-tiny-1 --changes");
  command->callback([&context, job, changes] { ReportStatus(context, PrintLrHistory(context, *job, *changes)); });
}

void AddWatchCommand(CLI::App& app, CliContext& context) {
  auto job = std::make_shared<std::string>();
  auto options = std::make_shared<FollowOptions>();
  CLI::App* command = app.add_subcommand("watch", "Watch a job until it ends; Ctrl-C leaves it running");
  command->add_option("job", *job, kJobOrPipelineHelp)->required();
  command->add_option("--events", options->old_events, "How many earlier events to show first")->capture_default_str();
  command->add_option("--until-step", options->until_step, "Stop watching, with exit code 0, once the job is at this step");
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer(
      "Examples:\n  plateau watch last\n  plateau watch vgg-a-tiny-1 --json | jq .type\n"
      "Exit codes: 0 the job completed, 1 it failed, was cancelled or paused, 3 it failed with NAN_LOSS.");
  command->callback([&context, job, options] { Watch(context, *job, *options); });
}

}  // namespace plateau
