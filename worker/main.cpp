// plateau-worker: the MPI program. Sends its output where the launcher wants it, then runs one verb.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <CLI/CLI.hpp>

#include "common/log.h"
#include "common/messages.h"
#include "worker/backend/device/granted_gpu.h"
#include "worker/bench_verb.h"
#include "worker/collective/nccl_environment.h"
#include "worker/devices_verb.h"
#include "worker/doctor_verb.h"
#include "worker/evaluate_verb.h"
#include "worker/export_verb.h"
#include "worker/features_verb.h"
#include "worker/fuse_verb.h"
#include "worker/import_verb.h"
#include "worker/ingest_verb.h"
#include "worker/init_verb.h"
#include "worker/predict_verb.h"
#include "worker/probe_verb.h"
#include "worker/stack_traces.h"
#include "worker/summary_verb.h"
#include "worker/train/pulse.h"
#include "worker/train_verb.h"

namespace {

// Before anything else can speak or fail: stdout and stderr go to <PLATEAU_LOG_DIR>/rank-<n>.log when the launcher set it. The
// rank's number is known before MPI_Init from the launcher's environment.
void RedirectOutput() {
  const char* folder = std::getenv(plateau::kLogDirectoryVariable);
  if (folder == nullptr || *folder == '\0') return;
  const char* rank = "0";
  for (const char* name : {"PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"})
    if (const char* value = std::getenv(name)) rank = value;
  const std::string path = std::string(folder) + "/rank-" + rank + ".log";
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) {
    std::fprintf(stderr, "%s: cannot be written; this rank's output stays where it is\n", path.c_str());
    return;
  }
  ::dup2(file, STDOUT_FILENO);
  ::dup2(file, STDERR_FILENO);
  ::close(file);
}

// What usage lines call this program: `plateau VERB` becomes it.
std::string CalledAs(const std::string& program) {
  const std::string name = program.substr(program.rfind('/') + 1);
  return name == "plateau" ? name : "plateau-worker";
}

}  // namespace

int main(int argc, char** argv) {
  plateau::FixNcclAlgorithm();                     // while there is one thread
  const auto granted = plateau::TakeGrantedGpu();  // likewise
  RedirectOutput();
  const plateau::StackTraces traces(STDERR_FILENO);
  plateau::InitLog("");
  if (!granted) {
    plateau::LogError("{}", granted.error().message);
    return plateau::ExitCode(granted.error().code);
  }
  if (*granted && !(*granted)->empty()) plateau::LogInfo("GPU {} of this host is this rank's, as device 0", **granted);
  plateau::DieWithLauncher();
  CLI::App app("Plateau's worker: trains and evaluates VGG networks, alone or as ranks of mpirun.",
               CalledAs(argc > 0 ? argv[0] : ""));
  app.require_subcommand(1);
  int exit_code = 0;
  plateau::AddTrainVerb(app, exit_code);
  plateau::AddEvaluateVerb(app, exit_code);
  plateau::AddFuseVerb(app, exit_code);
  plateau::AddPredictVerb(app, exit_code);
  plateau::AddFeaturesVerb(app, exit_code);
  plateau::AddExportVerb(app, exit_code);
  plateau::AddImportVerb(app, exit_code);
  plateau::AddIngestVerb(app, exit_code);
  plateau::AddInitVerb(app, exit_code);
  plateau::AddProbeVerb(app, exit_code);
  plateau::AddSummaryVerb(app, exit_code);
  plateau::AddBenchVerb(app, exit_code);
  plateau::AddDevicesVerb(app, exit_code);
  plateau::AddDoctorVerb(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  return exit_code;
}
