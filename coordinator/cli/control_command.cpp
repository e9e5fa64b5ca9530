// Commands that change a job's course.
#include "coordinator/cli/control_command.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "coordinator/cli/follow.h"
#include "coordinator/cli/interrupt_notice.h"
#include "coordinator/cli/job_view.h"
#include "coordinator/cli/pipeline_follow.h"
#include "coordinator/cli/pipeline_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kPollTimeoutMs = 60'000;

Result<Json> PostAction(const CliContext& context, const std::string& text, const std::string& action) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const std::string id, client.ResolveJob(text));
  return client.Post(JobPath(id, "/" + action));
}

// The job's events after `last_event`, which moves on; waits for one when there is none yet.
Result<Json> NextEvents(const ApiClient& client, const std::string& id, int64_t& last_event) {
  PLATEAU_ASSIGN(Json events, client.Get(JobPath(id, fmt::format("/events?after={}&wait=30", last_event)), kPollTimeoutMs));
  last_event = events.value("last", last_event);
  return events;
}

void RunAction(CliContext& context, const std::string& text, const std::string& action, bool follow) {
  if (const auto client = context.Client(); client)
    if (const std::string pipeline = FindPipelineId(*client, text); !pipeline.empty())
      return RunPipelineAction(context, pipeline, action, follow);
  const auto job = PostAction(context, text, action);
  if (!job) return context.Report(job.error());
  const JobView view = ReadJobView(*job);
  if (context.json && !follow) return context.PrintJson(*job);
  if (!context.json) {
    fmt::print("{} is {}{}\n", context.out.Paint(Colour::kBold, view.id), view.state,
               view.message.empty() ? "" : ": " + view.message);
    std::fflush(stdout);
  }
  if (!follow) return;
  FollowJob(context, view.id, {.old_events = 3});
  // Waiting for a job to stop is a success when it stopped as asked.
  if (action != "resume" && context.exit_code == 1) context.exit_code = 0;
}

void RunCheckpoint(CliContext& context, const std::string& text) {
  const auto published = [&]() -> Result<Json> {
    PLATEAU_ASSIGN(const ApiClient client, context.Client());
    PLATEAU_ASSIGN(const std::string id, client.ResolveJob(text));
    const InterruptNotice notice("The order stands: the checkpoint is written all the same. See it with: plateau show " + id);
    PLATEAU_ASSIGN(const Json event, OrderCheckpoint(client, id));
    PLATEAU_ASSIGN(const Json job, client.Get(JobPath(id)));
    const std::string output = job.value("output", "");
    return Json{{"job", id}, {"path", output + "/" + event.value("path", "")}, {"step", event.value("step", int64_t{0})}};
  }();
  if (!published) return context.Report(published.error());
  if (context.json) return context.PrintJson(*published);
  fmt::print("{}\n", published->value("path", ""));
}

void AddAction(CLI::App& app, CliContext& context, const std::string& action, const char* help, const char* follow_help,
               const char* examples) {
  struct Options {
    std::string job;
    bool follow = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(action, help);
  command->add_option("job", options->job, "Job id, an unambiguous beginning of one, or \"last\"; cancel and resume: or a pipeline")->required();
  command->add_flag("--follow,-f", options->follow, follow_help);
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer(examples);
  command->callback([&context, options, action] { RunAction(context, options->job, action, options->follow); });
}

}  // namespace

Status CancelAndWait(const ApiClient& client, const std::string& id) {
  auto answer = client.Post(JobPath(id, "/cancel"));
  if (!answer && answer.error().code == ErrorCode::kConflict) answer = client.Get(JobPath(id));
  PLATEAU_ASSIGN(Json job, std::move(answer));
  for (int64_t last_event = job.value("last_event", int64_t{0}); !ReadJobView(job).Ended();) {
    PLATEAU_TRY(NextEvents(client, id, last_event));
    PLATEAU_ASSIGN(job, client.Get(JobPath(id)));
  }
  return {};
}

Result<Json> OrderCheckpoint(const ApiClient& client, const std::string& id) {
  PLATEAU_ASSIGN(const Json ordered, client.Post(JobPath(id, "/checkpoint")));
  const int64_t order = ordered.at("checkpoint_order").value("number", int64_t{0});
  for (int64_t last_event = ordered.value("last_event", int64_t{0});;) {
    PLATEAU_ASSIGN(const Json job, client.Get(JobPath(id)));
    PLATEAU_ASSIGN(const Json page, NextEvents(client, id, last_event));
    for (const auto& event : page.at("events"))
      if (event.value("type", "") == "published" && event.value("order", int64_t{0}) >= order) return event;
    const JobView view = ReadJobView(job);
    if (!view.Rests()) continue;
    return Fail(
        ErrorCode::kConflict, "{} is {} and wrote no checkpoint for this order{}", id, view.state,
        view.checkpoint_path.empty() ? "; it has none" : fmt::format("; its newest is {}/{}", view.output, view.checkpoint_path));
  }
}

void AddCancelCommand(CLI::App& app, CliContext& context) {
  AddAction(app, context, "cancel", "Stop a job; it writes a checkpoint first, so that it can be resumed",
            "Wait until it has stopped", "Examples:\n  plateau cancel vgg-a-tiny-1\n  plateau cancel last --follow\n  plateau cancel vgg-paper-1    # a pipeline: all of its jobs");
}

void AddPauseCommand(CLI::App& app, CliContext& context) {
  AddAction(app, context, "pause", "Stop a job for a while; it writes a checkpoint first, and `plateau resume` goes on from there",
            "Wait until it has stopped", "Examples:\n  plateau pause vgg-a-tiny-1\n  plateau pause last --follow");
}

void AddCheckpointCommand(CLI::App& app, CliContext& context) {
  auto job = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "checkpoint", "Have a running job write a checkpoint at its next step, wait for it and print its folder; training goes on");
  command->add_option("job", *job, "Job id, an unambiguous beginning of one, or \"last\"")->required();
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer("Examples:\n  plateau checkpoint last\n  cp -r \"$(plateau checkpoint vgg-a-tiny-1)\" kept/");
  command->callback([&context, job] { RunCheckpoint(context, *job); });
}

void AddResumeCommand(CLI::App& app, CliContext& context) {
  AddAction(app, context, "resume", "Queue a failed, cancelled or paused job again; it goes on from its newest checkpoint",
            "Watch it until it ends", "Examples:\n  plateau resume vgg-a-tiny-1 --follow\n  plateau resume last --json\n  plateau resume vgg-paper-1    # a pipeline: those of its jobs that stopped");
}

}  // namespace plateau
