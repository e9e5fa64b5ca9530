// One rank's whole life, from joining the group to its exit code.
#include "worker/train/run.h"

#include <unistd.h>

#include <optional>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/spec_source.h"
#include "worker/collective/mpi.h"
#include "worker/train/agreement.h"
#include "worker/train/choices_files.h"
#include "worker/train/join.h"
#include "worker/train/rank_link.h"
#include "worker/train/resume.h"
#include "worker/train/run_folder.h"
#include "worker/train/setup.h"
#include "worker/train/start_progress.h"
#include "worker/train/watched_collective.h"

namespace plateau {
namespace {

// What lives as long as the rank, whatever the run comes to.
struct Rank {
  const TrainOptions& options;
  WatchedCollective& collective;
  Pulse& pulse;
  StopFlag& stop;
  CoordinatorLink* link = nullptr;  // nullptr without a coordinator
  PosixFileSystem files;
  SystemClock clock;
  bool zero() const { return collective.rank() == 0; }
};

Result<std::string> ReadSpec(const TrainOptions& options, FileSystem& files) {
  PLATEAU_ASSIGN(const std::string text, files.Read(options.spec_path));
  PLATEAU_ASSIGN(auto document, YamlToJson(text, options.spec_path));
  for (const auto& [field, value] : options.settings) PLATEAU_TRY(SetField(document, field, value));
  const auto spec = ParseJobSpecJson(nlohmann::json(document), options.spec_path, options.force);
  if (!spec) return Fail(Located(spec.error(), {options.spec_path, options.settings}, options.spec_path));
  return JobSpecToJson(*spec).dump();
}

// Where this attempt writes. Without a coordinator rank 0 takes the folder's lock and the next free number.
struct AttemptFolder {
  std::string run_folder, job;
  int attempt = 1;
  std::unique_ptr<FolderLock> lock;
  std::string path() const { return fmt::format("{}/attempt-{}", run_folder, attempt); }
};

std::string RunFolder(const TrainOptions& options, const JobSpec& spec) {
  return spec.output + "/" + (options.job.empty() ? spec.name : options.job);
}

Result<AttemptFolder> OpenAttempt(Rank& rank, const JobSpec& spec) {
  AttemptFolder folder;
  folder.job = rank.options.job.empty() ? spec.name : rank.options.job;
  folder.run_folder = RunFolder(rank.options, spec);
  folder.attempt = rank.options.attempt;
  Status status;
  if (rank.zero()) {
    status = [&]() -> Status {
      PLATEAU_TRY(rank.files.MakeDirectories(folder.run_folder));
      if (rank.link == nullptr) {
        PLATEAU_ASSIGN(folder.lock, FolderLock::Take(folder.run_folder));
        PLATEAU_ASSIGN(const int newest, NewestAttempt(rank.files, folder.run_folder));
        folder.attempt = newest + 1;
      }
      return rank.files.MakeDirectories(folder.path());
    }();
  }
  PLATEAU_TRY(Agree(rank.collective, status));
  rank.collective.Broadcast({reinterpret_cast<char*>(&folder.attempt), sizeof(folder.attempt)}, 0);
  return folder;
}

Status ToStatus(const auto& result) {
  if (result) return {};
  return Fail(result.error());
}

std::string Counted(int count, const char* thing) { return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s"); }

void LogBeginning(const Rank& rank, const PreparedRun& run, const AttemptFolder& folder, const TrainState& state) {
  const JobSpec& spec = run.loop.spec;
  if (!rank.zero()) return;
  if (rank.link == nullptr && spec.resources.workers != rank.collective.world_size())
    LogInfo("resources.workers is {}, and {} {} started: {} it is", spec.resources.workers,
            Counted(rank.collective.world_size(), "rank"), rank.collective.world_size() == 1 ? "was" : "were",
            Counted(rank.collective.world_size(), "rank"));
  LogInfo("job {} attempt {}: {} width {:g}, {} classes, crop {}, batch {} over {} ({} of {} on rank 0), {}", folder.job,
          folder.attempt, spec.model.network, spec.model.width, run.loop.identity.classes.size(), spec.data.crop,
          spec.training.global_batch, Counted(rank.collective.world_size(), "rank"), Counted(run.loop.shape.lanes, "lane"),
          run.loop.shape.lane_rows, run.engine->description());
  LogInfo("{} training images, step {} of {}, lr {:g}; checkpoints go to {}", run.loop.identity.images, state.step,
          run.loop.length.total_steps, RateAt(spec.lr, state.lr.lr, run.loop.length, state.step), folder.path());
  for (const std::string& line : run.training->algorithms()) LogDebug("{}", line);
}

// Rank 0's helpers, built in order; others have none.
struct RankZero {
  std::unique_ptr<Authority> authority;
  std::unique_ptr<CheckpointSaver> saver;
  std::unique_ptr<Reporter> reporter;
  std::optional<RankZeroParts> parts;
};

RankZero MakeRankZero(Rank& rank, const PreparedRun& run, const AttemptFolder& folder, const TrainState& state) {
  const JobSpec& spec = run.loop.spec;
  RankZero zero;
  if (!rank.zero()) return zero;
  zero.authority = rank.link != nullptr ? MakeLinkAuthority(*rank.link, spec.lr)
                                        : MakeLocalAuthority(rank.files, folder.run_folder, spec.lr,
                                                             {spec.checkpoint.keep_last, spec.checkpoint.keep_best});
  zero.saver = std::make_unique<CheckpointSaver>(rank.files, folder.path(), *zero.authority, run.engine->parameters(),
                                                 spec.resources.threads_per_worker, rank.pulse);
  zero.reporter = std::make_unique<Reporter>(ReporterOptions{.metrics_path = folder.path() + "/metrics.jsonl",
                                                             .first_step = state.step,
                                                             .total_steps = run.loop.length.total_steps,
                                                             .images_per_epoch = run.loop.identity.images,
                                                             .global_batch = spec.training.global_batch,
                                                             .metric = spec.lr_metric,
                                                             .terminal = ::isatty(STDERR_FILENO) == 1},
                                             rank.clock, *zero.authority);
  zero.parts.emplace(RankZeroParts{*zero.authority, *zero.saver, *zero.reporter});
  return zero;
}

// The algorithms are chosen and the ranks have joined, or a stop came first: there is nothing yet that a checkpoint could keep.
struct Begun {
  PreparedRun run;
  std::unique_ptr<Trainer> trainer;
  bool stopped = false;
  int64_t step = 0;  // rank 0: of the checkpoint that the run goes on from, if any
};

Result<Begun> Begin(Rank& rank, const JobSpec& spec, StartProgress& progress) {
  Begun begun;
  std::optional<RunIdentity> recorded;
  if (rank.zero())
    if (auto state = ReadRecorded(rank.files, RunFolder(rank.options, spec), rank.options.resume)) {
      begun.step = state->train.step;
      recorded = std::move(state->identity);
    }
  const Status done = [&]() -> Status {
    PLATEAU_ASSIGN(begun.run, PrepareRun(rank.files, spec, rank.collective, rank.pulse, recorded, &progress));
    auto trainer = MakeTrainer(begun.run, rank.collective, rank.pulse);
    PLATEAU_TRY(Agree(rank.collective, ToStatus(trainer)));
    begun.trainer = std::move(*trainer);
    return {};
  }();
  progress.Close();
  if (done) return begun;
  int64_t stopped = progress.stopped() ? 1 : 0;  // perhaps another rank's: all have the error
  rank.collective.AllReduceSum(std::span(&stopped, 1));
  begun.stopped = stopped > 0;
  if (begun.stopped) return begun;
  return Fail(Located(done.error(), {rank.options.spec_path, rank.options.settings}, ""));
}

// The coordinator hears of a stop as it would behind a step. `step`: that of the checkpoint to go on from.
void LeaveUnbegun(Rank& rank, int64_t step) {
  rank.pulse.phase = "done";
  if (!rank.zero()) return;
  LogInfo("stopped on command in front of the first step: nothing was trained and nothing is lost; the same command {}",
          step == 0 ? "begins again" : fmt::format("goes on from step {}", step));
  if (rank.link == nullptr) return;
  if (const Status told = rank.link->Finish({.step = step, .reason = "STOPPED"}, kFarewellMs); !told)
    LogWarning("{}", told.error().message);
}

// The run itself; the answer is the same on every rank.
tl::expected<void, TrainFault> Train(Rank& rank) {
  const auto refuse = [](const Error& error) {
    return tl::unexpected(TrainFault{.error = error, .reason = FailureReason(error.code)});
  };
  Collective& collective = rank.collective;
  const auto text = ShareText(collective, rank.zero() ? ReadSpec(rank.options, rank.files) : Result<std::string>(std::string()));
  if (!text) return refuse(text.error());
  const auto spec = ParseJobSpecText(*text, rank.options.spec_path, true);  // rank 0 has judged it
  if (const Status agreed = Agree(collective, ToStatus(spec)); !agreed) return refuse(agreed.error());
  StartProgress progress(rank.pulse, rank.stop, rank.clock, {.speaks = rank.zero(), .terminal = ::isatty(STDERR_FILENO) == 1});
  auto begun = Begin(rank, *spec, progress);
  if (!begun) return refuse(begun.error());
  if (begun->stopped) {
    LeaveUnbegun(rank, begun->step);
    return {};
  }
  PreparedRun* const run = &begun->run;
  Trainer& trainer = *begun->trainer;
  auto folder = OpenAttempt(rank, *spec);
  if (!folder) return refuse(folder.error());
  RunIdentity& identity = run->loop.identity;
  identity.job = folder->job;
  identity.attempt = folder->attempt;
  if (rank.link == nullptr) run->loop.stop_after_s = spec->resources.time_limit_s;  // with a coordinator, that one counts
  auto beginning = BeginOrResume(rank.files, collective, run->engine->parameters(),
                                 {folder->run_folder, rank.options.resume, spec->training.init, spec->reproducibility.seed, spec->lr,
                                  spec->model.init_from, &run->engine->network()},
                                 identity);
  if (!beginning) return refuse(beginning.error());
  Status noted;
  if (beginning->warm_start) noted = WriteFileAtomic(rank.files, folder->path() + "/warm_start.json", WarmStartJson(*beginning->warm_start));
  if (const Status agreed = Agree(collective, noted); !agreed) return refuse(agreed.error());
  TrainState& state = beginning->state;
  run->loop.unpublished = beginning->unpublished;
  std::unique_ptr<TraceWriter> trace;
  if (!rank.options.trace.empty()) {
    auto opened =
        TraceWriter::Open(rank.options.trace, collective.rank(), run->engine->network(), run->shapes, spec->reproducibility.seed);
    if (const Status agreed = Agree(collective, ToStatus(opened)); !agreed) return refuse(agreed.error());
    trace = std::move(*opened);
  }
  rank.pulse.step = state.step;
  LogBeginning(rank, *run, *folder, state);
  RankZero zero = MakeRankZero(rank, *run, *folder, state);
  WatchedTrainer watched(trainer, rank.collective);
  const bool behind = trainer.depth() > 0;  // the host's own trainer is seen layer by layer
  TrainLoop loop(run->loop,
                 {*run->engine, behind ? static_cast<Trainer&>(watched) : trainer, *run->training, *run->validation, *run->store,
                  collective, rank.clock, rank.pulse, rank.stop, zero.parts ? &*zero.parts : nullptr, trace.get()},
                 std::move(state));
  auto end = loop.Run();
  if (!end) {
    collective.Barrier();  // a rank that is still summing needs the others' trainers
    return tl::unexpected(end.error());
  }
  if (!rank.zero()) return {};
  zero.reporter->Finish(rank.pulse.step);
  LogInfo("ended at step {}: {}", rank.pulse.step.load(), *end);
  if (*end == "STOPPED" && rank.link == nullptr)
    LogInfo("a checkpoint of step {} is in {}; the same command{} goes on from it", rank.pulse.step.load(), folder->path(),
            rank.options.resume == "auto" ? "" : " with --resume auto");
  if (const Status told = zero.authority->Finish({.step = rank.pulse.step, .reason = *end}); !told)
    LogWarning("{}", told.error().message);
  return {};
}

// A run that the user's own mpirun started becomes a job before anything else. Collective.
Result<TrainOptions> Join(TrainOptions options, Collective& collective) {
  if (options.coordinator.empty() || options.attempt > 0) return options;
  PosixFileSystem files;
  const auto spec = collective.rank() == 0 ? ReadSpec(options, files) : Result<std::string>(std::string());
  PLATEAU_ASSIGN(
      const Registered registered,
      JoinCoordinator(files, collective,
                      {.coordinator = options.coordinator, .token_file = options.join_token_file, .job = options.job}, spec));
  options.job = registered.job;
  options.attempt = registered.attempt;
  options.token = registered.token;
  return options;
}

// What the coordinator hears of a fault that all ranks share.
Failed FailedOf(const TrainFault& fault) {
  return {.reason = fault.reason,
          .message = fault.error.message,
          .step = fault.step,
          .layer = fault.layer,
          .retry = fault.reason != "NAN_LOSS" && fault.reason != "BAD_INPUT"};
}

}  // namespace

int RunTrain(const TrainOptions& given) {
  StopFlag stop;
  StopOnSignals(stop);  // before MPI, whose start takes a good part of a second: the default of SIGUSR1 would end the rank
  auto collective = StartCollective();
  if (!collective) {
    LogError("{}", collective.error().message);
    return ExitCode(collective.error().code);
  }
  Pulse pulse;
  WatchedCollective world(**collective, pulse);
  if (world.world_size() > 1) InitLog(fmt::format("rank {}", world.rank()));
  const auto leave = [&world](const Error& error) {
    if (world.rank() == 0) LogError("{}", error.message);
    world.Finish();
    return ExitCode(error.code);
  };
  const auto joined = Join(given, world);
  if (!joined) return leave(joined.error());
  const TrainOptions& options = *joined;
  auto link = OpenRankLink(options.coordinator, options.job, options.attempt, world.rank(), pulse, stop, options.token);
  if (const Status agreed = Agree(world, ToStatus(link)); !agreed) return leave(agreed.error());
  TellMissingGpu(link->get());
  try {
    Rank rank{options, world, pulse, stop, link->get()};
    const auto done = Train(rank);
    if (!done && world.rank() == 0) {
      LogError("{}", done.error().error.message);
      if (*link) (*link)->Fail(FailedOf(done.error()));
    }
    world.Barrier();
    link->reset();  // gives the last message time to leave
    world.Finish();
    return done ? 0 : ExitCode(done.error().error.code);
  } catch (const Failure& fault) {
    LeaveAlone(world, std::move(*link), pulse, {fault.code(), fault.what()});
  } catch (const std::exception& fault) {
    LeaveAlone(world, std::move(*link), pulse, {ErrorCode::kInternal, fault.what()});
  }
}

}  // namespace plateau
