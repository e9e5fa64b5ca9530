// Reading, editing and posting a specification.
#include "coordinator/cli/submit_command.h"

#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/job_spec.h"
#include "common/spec_source.h"
#include "coordinator/cli/follow.h"
#include "coordinator/cli/job_view.h"
#include "coordinator/cli/pipeline_follow.h"
#include "coordinator/cli/pipeline_view.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

struct SubmitOptions {
  std::string path;
  std::vector<std::string> settings;
  std::string key;
  bool follow = false;
  bool force = false;
};

Result<std::string> ReadSpecText(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  PosixFileSystem files;
  auto text = files.Read(path);
  if (!text && text.error().code == ErrorCode::kNotFound)
    return Fail(ErrorCode::kInvalidInput, "{}: there is no such file; a job specification is YAML or JSON, see deploy/recipes",
                path);
  return text;
}

void MakeAbsolute(Json& document, const std::vector<std::string>& path) {
  Json* at = &document;
  for (const auto& part : path) {
    if (!at->is_object() || !at->contains(part)) return;
    at = &(*at)[part];
  }
  if (!at->is_string() || at->get<std::string>().empty()) return;
  *at = std::filesystem::absolute(at->get<std::string>()).lexically_normal().string();
}

// Paths mean the folder of the caller, not the coordinator's.
void MakePathsAbsolute(Json& document) {
  for (const auto& path : std::vector<std::vector<std::string>>{
           {"output"}, {"data", "store"}, {"evaluate", "store"}, {"evaluate", "checkpoint"}, {"model", "init_from", "checkpoint"}})
    MakeAbsolute(document, path);
  if (!document.is_object() || !document.contains("jobs") || !document["jobs"].is_object()) return;
  for (auto& [name, job] : document["jobs"].items()) MakePathsAbsolute(job);  // of a pipeline
}

// What the coordinator calls the request's body is a file here, and what --set changed in it.
SpecSource SourceOf(const SubmitOptions& options) {
  SpecSource source{options.path == "-" ? "standard input" : options.path, {}};
  for (const auto& setting : options.settings) {
    const size_t equals = setting.find('=');
    source.settings.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));  // PrepareSpec has looked
  }
  return source;
}

Result<Json> Submit(const CliContext& context, const SubmitOptions& options) {
  PLATEAU_ASSIGN(const Json spec, PrepareSpec(options.path, options.settings));
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  std::map<std::string, std::string> headers{{"Content-Type", "application/json"}};
  if (!options.key.empty()) headers["Idempotency-Key"] = options.key;
  const bool many = spec.is_object() && spec.value("kind", Json()) == "pipeline";
  auto answer =
      client.Post(std::string(many ? "/v1/pipelines" : "/v1/jobs") + (options.force ? "?force=true" : ""), spec.dump(), headers);
  if (!answer) return Fail(Located(answer.error(), SourceOf(options), "request body"));
  return answer;
}

void ShowSubmittedPipeline(CliContext& context, const Json& answer, bool follow) {
  const PipelineRow row = ReadPipelineRow(answer);
  if (context.json && !follow) return context.PrintJson(answer);
  if (!context.json) {
    fmt::print("{} is {}: {} jobs\n", context.out.Paint(Colour::kBold, row.id), row.state, row.Jobs());
    if (!follow)
      fmt::print("  watch it: plateau watch {0}    its jobs: plateau show {0}    its tables: plateau report {0}    stop it: plateau cancel {0}\n",
                 row.id);
    std::fflush(stdout);
  }
  if (follow) FollowPipeline(context, row.id);
}

void RunSubmit(CliContext& context, const SubmitOptions& options) {
  const auto job = Submit(context, options);
  if (!job) return context.Report(job.error());
  if (job->contains("counts")) return ShowSubmittedPipeline(context, *job, options.follow);
  const JobView view = ReadJobView(*job);
  if (context.json && !options.follow) return context.PrintJson(*job);
  if (!context.json) {
    fmt::print("{} is {}\n", context.out.Paint(Colour::kBold, view.id), view.state);
    if (!options.follow)
      fmt::print("  watch it: plateau watch {0}    its log: plateau logs {0} --follow    stop it: plateau cancel {0}\n", view.id);
    std::fflush(stdout);
  }
  if (options.follow) FollowJob(context, view.id, {.old_events = 1000});
}

}  // namespace

Result<Json> PrepareSpec(const std::string& path, const std::vector<std::string>& settings) {
  PLATEAU_ASSIGN(const std::string text, ReadSpecText(path));
  PLATEAU_ASSIGN(Json document, YamlToJson(text, path == "-" ? "standard input" : path));
  for (const auto& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0)
      return Fail(ErrorCode::kInvalidInput, "--set {}: write FIELD=VALUE, such as --set training.max_epochs=3", setting);
    PLATEAU_TRY(SetField(document, setting.substr(0, equals), setting.substr(equals + 1)));
  }
  MakePathsAbsolute(document);
  return document;
}

void AddSubmitCommand(CLI::App& app, CliContext& context) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* command = app.add_subcommand("submit", "Submit a job specification or a pipeline");
  command->add_option("spec", options->path, "YAML or JSON file; - reads standard input")->required();
  command->add_option("--set", options->settings, "Change a field: --set training.max_epochs=3 (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--follow,-f", options->follow, "Watch the job until it ends; the exit code says how it ended");
  command->add_flag("--force", options->force, "Let combinations pass that are known to diverge");
  command->add_option("--idempotency-key", options->key,
                      "Submitting again with the same key gives the first job instead of a second one");
  AddJsonFlag(*command, context);
  AddConnectionOptions(*command, context);
  command->footer(
      "Examples:\n"
      "  plateau submit deploy/recipes/quickstart.yaml --set data.store=/data/set --set output=/data/runs --follow\n"
      "  plateau submit job.yaml --set lr.initial=0.005 --set resources.workers=4\n"
      "  plateau submit job.yaml --idempotency-key nightly-2026-11-22 --json\n"
      "  plateau submit deploy/recipes/vgg-paper.yaml --set data.store=/data/set --set output=/data/runs --set scale_factor=1/7 \\\n"
      "    --set training.init=he --set data.normalize=mean_std --set model.width=0.125\n"
      "Exit codes: 0 submitted (with --follow: completed), 1 failed, cancelled or paused, 2 refused, 3 NAN_LOSS.");
  command->callback([&context, options] { RunSubmit(context, *options); });
}

}  // namespace plateau
