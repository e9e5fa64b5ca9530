// Commands that change a job's course.
#include "coordinator/cli/control_command.h"

#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "coordinator/cli/follow.h"
#include "coordinator/cli/job_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

Result<Json> PostAction(const CliContext& context, const std::string& text, const std::string& action) {
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  PLATEAU_ASSIGN(const std::string id, client.ResolveJob(text));
  return client.Post(JobPath(id, "/" + action));
}

void RunAction(CliContext& context, const std::string& text, const std::string& action, bool follow) {
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
  // Waiting for a cancelled job to end is a success when it ended as asked.
  if (action == "cancel" && context.exit_code == 1) context.exit_code = 0;
}

void AddAction(CLI::App& app, CliContext& context, const std::string& action, const char* help, const char* follow_help,
               const char* examples) {
  struct Options {
    std::string job;
    bool follow = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(action, help);
  command->add_option("job", options->job, "Job id, an unambiguous beginning of one, or \"last\"")->required();
  command->add_flag("--follow,-f", options->follow, follow_help);
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer(examples);
  command->callback([&context, options, action] { RunAction(context, options->job, action, options->follow); });
}

}  // namespace

void AddCancelCommand(CLI::App& app, CliContext& context) {
  AddAction(app, context, "cancel", "Stop a job; it writes a checkpoint first, so that it can be resumed",
            "Wait until it has stopped", "Examples:\n  plateau cancel vgg-a-tiny-1\n  plateau cancel last --follow");
}

void AddResumeCommand(CLI::App& app, CliContext& context) {
  AddAction(app, context, "resume", "Queue a failed, cancelled or paused job again; it goes on from its newest checkpoint",
            "Watch it until it ends", "Examples:\n  plateau resume vgg-a-tiny-1 --follow\n  plateau resume last --json");
}

}  // namespace plateau
