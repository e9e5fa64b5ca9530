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
#include "coordinator/cli/follow.h"
#include "coordinator/cli/job_view.h"

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

void MakeAbsolute(Json& document, const char* section, const char* field) {
  Json* parent = section == nullptr ? &document : document.contains(section) ? &document[section] : nullptr;
  if (parent == nullptr || !parent->is_object() || !parent->contains(field)) return;
  Json& value = (*parent)[field];
  if (!value.is_string() || value.get<std::string>().empty()) return;
  value = std::filesystem::absolute(value.get<std::string>()).lexically_normal().string();
}

Result<Json> Submit(const CliContext& context, const SubmitOptions& options) {
  PLATEAU_ASSIGN(const Json spec, PrepareSpec(options.path, options.settings));
  PLATEAU_ASSIGN(const ApiClient client, context.Client());
  std::map<std::string, std::string> headers{{"Content-Type", "application/json"}};
  if (!options.key.empty()) headers["Idempotency-Key"] = options.key;
  return client.Post(options.force ? "/v1/jobs?force=true" : "/v1/jobs", spec.dump(), headers);
}

void RunSubmit(CliContext& context, const SubmitOptions& options) {
  const auto job = Submit(context, options);
  if (!job) return context.Report(job.error());
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
  MakeAbsolute(document, "data", "store");
  MakeAbsolute(document, nullptr, "output");
  return document;
}

void AddSubmitCommand(CLI::App& app, CliContext& context) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* command = app.add_subcommand("submit", "Submit a job specification");
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
      "Exit codes: 0 submitted (with --follow: completed), 1 failed, cancelled or paused, 2 refused, 3 NAN_LOSS.");
  command->callback([&context, options] { RunSubmit(context, *options); });
}

}  // namespace plateau
