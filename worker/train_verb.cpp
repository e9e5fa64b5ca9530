// `plateau-worker train`: command line of a training rank.
#include "worker/train_verb.h"

#include <memory>

#include <CLI/CLI.hpp>

#include "worker/train/run.h"

namespace plateau {
namespace {

constexpr const char* kFooter = R"(Examples:
  plateau-worker train job.yaml
  mpirun -np 4 --map-by slot:PE=2 plateau-worker train job.yaml --set resources.threads_per_worker=2
  mpirun -np 4 plateau-worker train job.yaml --coordinator tcp://node-1:7081 --token join-token
  mpirun -np 4 plateau-worker train job.yaml --coordinator tcp://node-1:7081 --token join-token --job vgg-a-tiny-3
  mpirun -np 2 plateau-worker train job.yaml --resume none --set lr.initial=0.001 --set training.max_epochs=10

Checkpoints, metrics.jsonl and current.json go to <output>/<name>; running the same command again goes on from the newest checkpoint.
With --coordinator the run is a job like any other: the coordinator decides its learning rate, publishes its checkpoints and
shows it; they go to <output>/<job id>, and --job JOB goes on with it.
Ctrl-C, SIGTERM or SIGUSR1 makes all ranks write a checkpoint at the next step and leave with exit code 0. Under mpirun (4.1):
  kill -USR1 MPIRUN_PID   is handed on at once and waits for as long as it takes; mpirun's exit code is 0
  Ctrl-C, SIGTERM         reach the ranks a second later, and another second later they are killed; mpirun's exit code is 1.
                          --mca odls_base_sigkill_timeout 30 makes both waits 30 s, for checkpoints that take longer
Exit codes: 0 finished or stopped on command, 2 bad input, 3 the loss became NaN or infinite, 1 anything else.)";

// "field=value" -> {"field", "value"}
std::pair<std::string, std::string> SplitSetting(const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) throw CLI::ValidationError("--set", "'" + setting + "' is not field=value");
  return {setting.substr(0, equals), setting.substr(equals + 1)};
}

}  // namespace

void AddTrainVerb(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<TrainOptions>();
  auto settings = std::make_shared<std::vector<std::string>>();
  CLI::App* verb = app.add_subcommand("train", "Train a network: data-parallel SGD over the ranks that mpirun started");
  verb->add_option("spec", options->spec_path, "Job specification, YAML or JSON")->required();
  verb->add_option("--resume", options->resume,
                   "auto: from the newest checkpoint; none: from fresh weights; or a checkpoint's folder")
      ->capture_default_str();
  verb->add_option("--set", *settings, "Change a field of the specification: training.max_epochs=3")->allow_extra_args(false);
  verb->add_flag("--force", options->force, "Allow combinations known to diverge");
  verb->add_option("--trace", options->trace, "Write samples, crops and dropout masks of every step to FILE.rank-<n>");
  CLI::Option* coordinator =
      verb->add_option("--coordinator", options->coordinator, "Worker link of the coordinator: tcp://HOST:PORT");
  CLI::Option* token =
      verb->add_option("--token", options->join_token_file,
                       "File with the coordinator's join token (default: $PLATEAU_TOKEN): this run becomes a job of "
                       "the coordinator");
  CLI::Option* job = verb->add_option("--job", options->job, "The job to go on with, or given by the coordinator");
  CLI::Option* attempt = verb->add_option("--attempt", options->attempt, "Attempt number (given by the coordinator)");
  token->needs(coordinator)->excludes(attempt);
  job->needs(coordinator);
  attempt->needs(job);
  verb->footer(kFooter);
  verb->callback([options, settings, &exit_code] {
    for (const std::string& setting : *settings) options->settings.push_back(SplitSetting(setting));
    exit_code = RunTrain(*options);
  });
}

}  // namespace plateau
