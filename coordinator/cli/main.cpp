// The command line of Plateau: builds the parts, names the commands, hands local verbs to plateau-worker.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <unistd.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/text.h"
#include "coordinator/cli/context.h"
#include "coordinator/cli/control_command.h"
#include "coordinator/cli/dataset_command.h"
#include "coordinator/cli/jobs_command.h"
#include "coordinator/cli/logs_command.h"
#include "coordinator/cli/node_command.h"
#include "coordinator/cli/report_command.h"
#include "coordinator/cli/submit_command.h"
#include "coordinator/cli/up_command.h"

namespace plateau {
namespace {

// Verbs that plateau-worker has; other unknown ones are handed to it as well unless they look like a slip.
const std::vector<std::string> kWorkerVerbs{"train",  "evaluate", "predict", "summary",  "init",   "probe", "bench",
                                            "export", "import",   "doctor",  "features", "ingest", "fuse",  "devices"};

std::string ProgramFolder() {
  std::error_code code;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", code);
  return code ? "." : self.parent_path().string();
}

void AddCommands(CLI::App& app, CliContext& context) {
  AddUpCommand(app, context);
  AddDownCommand(app, context);
  AddSubmitCommand(app, context);
  AddJobsCommand(app, context);
  AddShowCommand(app, context);
  AddWatchCommand(app, context);
  AddLogsCommand(app, context);
  AddLrCommand(app, context);
  AddCancelCommand(app, context);
  AddPauseCommand(app, context);
  AddResumeCommand(app, context);
  AddCheckpointCommand(app, context);
  AddReportCommand(app, context);
  AddNodeCommand(app, context);
  AddDatasetCommand(app, context);
}

// Verbs whose first word may be a job instead of a checkpoint's or run's folder: its run folder stands for it. What is a path, or no job of
// the coordinator's, stays as it is, and the verb says what is wrong with it.
std::string CheckpointOf(const CliContext& context, const std::string& verb, const std::string& text) {
  constexpr const char* kVerbs[] = {"evaluate", "predict", "features", "export"};
  const bool takes = std::find(std::begin(kVerbs), std::end(kVerbs), verb) != std::end(kVerbs);
  if (!takes || text.empty() || text[0] == '-' || text.find('/') != std::string::npos || std::filesystem::exists(text)) return text;
  const auto client = context.Client();
  if (!client) return text;
  const auto id = client->ResolveJob(text);
  if (!id) return text;
  const auto job = client->Get(JobPath(*id));
  return job ? job->value("output", text) : text;
}

// Becomes `plateau-worker VERB ...`, which is told by argv[0] how it was called; returns only when that failed.
int BecomeWorker(CliContext& context, int argc, char** argv) {
  std::string program = context.program_folder + "/plateau-worker";
  std::vector<char*> arguments;
  for (int i = 0; i < argc; ++i) arguments.push_back(argv[i]);
  std::string checkpoint = argc > 2 ? CheckpointOf(context, argv[1], argv[2]) : "";
  if (argc > 2) arguments[2] = checkpoint.data();
  arguments.push_back(nullptr);
  ::execv(program.c_str(), arguments.data());
  context.Report(
      {errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
       fmt::format("\"{}\" is not a command of plateau, and {} cannot be run: {}", argv[1], program, std::strerror(errno))});
  return context.exit_code;
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) names.push_back(command->get_name());
  return names;
}

int Main(int argc, char** argv) {
  const SystemClock clock;
  CliContext context(clock);
  context.out = DetectStyle(STDOUT_FILENO);
  context.err = DetectStyle(STDERR_FILENO);
  context.program_folder = ProgramFolder();
  CLI::App app("Plateau: trains very deep ConvNets on a cluster.", "plateau");
  app.footer(
      "Verbs of plateau-worker (train, evaluate, fuse, predict, features, export, import, summary, ...) work here too: plateau summary --help\n"
      "Start:  plateau up  then  plateau submit SPEC.yaml --follow\n"
      "Exit codes: 0 done, 1 failure, 2 usage or input, 3 the job's loss was not finite.");
  app.set_version_flag("--version", std::string("plateau " PLATEAU_VERSION));
  app.require_subcommand(1);
  AddConnectionOptions(app, context);  // before the command as well as behind it
  AddCommands(app, context);
  const std::vector<std::string> names = CommandNames(app);
  if (argc > 1 && argv[1][0] != '-' && std::find(names.begin(), names.end(), argv[1]) == names.end()) {
    const std::string verb = argv[1];
    const bool known = std::find(kWorkerVerbs.begin(), kWorkerVerbs.end(), verb) != kWorkerVerbs.end();
    const std::string nearest = known ? "" : NearestName(verb, names);
    if (nearest.empty()) return BecomeWorker(context, argc, argv);
    context.Report({ErrorCode::kInvalidInput,
                    fmt::format("there is no command \"{}\", did you mean {}? `plateau --help` lists them", verb, nearest)});
    return context.exit_code;
  }
  if (argc == 1) {
    fmt::print("{}", app.help());
    return 0;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  return context.exit_code;
}

}  // namespace
}  // namespace plateau

int main(int argc, char** argv) { return plateau::Main(argc, argv); }
