// One rank's part of a test, and what rank 0 makes of the whole.
#include "worker/evaluate_run.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>
#include <tuple>

#include <nlohmann/json.hpp>

#include "common/clock.h"
#include "common/job_spec.h"
#include "common/log.h"
#include "common/progress.h"
#include "worker/collective/mpi.h"
#include "worker/evaluate/group_loader.h"
#include "worker/evaluate/posteriors_file.h"
#include "worker/evaluate_kept.h"
#include "worker/evaluate_model.h"
#include "worker/evaluate_report.h"
#include "worker/train/agreement.h"
#include "worker/train/choices_files.h"
#include "worker/train/compile_alike.h"
#include "worker/train/rank_link.h"
#include "worker/train/start_progress.h"
#include "worker/train/watched_collective.h"

namespace plateau {
namespace {

// What lives as long as the rank.
struct Rank {
  EvaluateOptions options;
  Collective& collective;
  Pulse& pulse;
  StopFlag& stop;
  StartProgress& watch;
  CoordinatorLink* link = nullptr;  // nullptr without a coordinator
  PosixFileSystem files;
  SystemClock clock;
  bool zero() const { return collective.rank() == 0; }
};

// What is tested, alike on every rank.
struct Test {
  TestSettings settings;
  int threads = 1;
  std::unique_ptr<StoreReader> store;
  const SplitInfo* split = nullptr;
  TestedModel model;
  std::vector<TestedImage> images;
  std::vector<ImageGroup> groups;
  const Manifest& manifest() const { return store->manifest(); }
  int classes() const { return static_cast<int>(manifest().classes.size()); }
};

struct Outcome {
  TestCounts counts;
  PosteriorsPart part;  // only where a file of them is wanted
  double seconds = 0;
  bool stopped = false;
};

Status ToStatus(const auto& result) {
  if (result) return {};
  return Fail(result.error());
}

// The cores that this rank may use; where it is bound to none of its own, its part of them all.
int UsableThreads() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  const int all = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  const int mine = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : all;
  const char* local = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  const int ranks = local == nullptr ? 1 : std::max(std::atoi(local), 1);
  return std::max(mine < all ? mine : mine / ranks, 1);
}

bool WantsPosteriors(const EvaluateOptions& options) { return !options.posteriors.empty(); }

// Path of a job's file, relative to the job's folder.
std::string FileOfAttempt(const EvaluateOptions& options, const char* name) {
  return EvaluateAttemptFolder(options.attempt) + "/" + name;
}

// Collective: what the specification says, read on rank 0, put into every rank's options.
Status TakeSpec(Rank& rank) {
  EvaluateOptions& options = rank.options;
  if (options.spec_path.empty()) return {};
  const auto read = [&]() -> Result<std::string> {
    PLATEAU_ASSIGN(const JobSpec spec, LoadJobSpec(options.spec_path));
    if (spec.kind != "evaluate")
      return Fail(ErrorCode::kInvalidInput, "{}: kind: {} is not evaluate; it is for plateau-worker {}", options.spec_path,
                  spec.kind, spec.kind);
    if (spec.evaluate.checkpoint.empty())
      return Fail(ErrorCode::kInvalidInput, "{}: evaluate.checkpoint is missing; a job is only known to a coordinator",
                  options.spec_path);
    return JobSpecToJson(spec).dump();
  };
  PLATEAU_ASSIGN(const std::string text, ShareText(rank.collective, rank.zero() ? read() : Result<std::string>(std::string())));
  PLATEAU_ASSIGN(const JobSpec spec, ParseJobSpecText(text, options.spec_path));
  const Evaluation& evaluate = spec.evaluate;
  options.checkpoint = evaluate.checkpoint;
  options.store = evaluate.store;
  options.split = evaluate.split;
  options.settings = {.scales = evaluate.scales, .mode = evaluate.mode, .flip = evaluate.flip};
  if (evaluate.batch > 0) options.settings.batch = evaluate.batch;
  options.device = spec.resources.device;
  options.precision = evaluate.precision;
  options.threads = spec.resources.threads_per_worker;
  options.per_class = evaluate.per_class;
  options.output = spec.output + "/" + (options.job.empty() ? spec.name : options.job);
  options.posteriors = evaluate.posteriors ? options.output + "/" + FileOfAttempt(options, kPosteriorsFile) : "";
  return {};
}

Status OpenStore(Rank& rank, Test& test) {
  const EvaluateOptions& options = rank.options;
  PLATEAU_ASSIGN(test.store, StoreReader::Open(rank.files, options.store));
  test.split = test.manifest().Split(options.split);
  if (test.split != nullptr && test.split->records > 0) return {};
  std::string names;
  for (const SplitInfo& split : test.manifest().splits)
    names += fmt::format("{}{} ({} images)", names.empty() ? "" : ", ", split.name, split.records);
  return Fail(ErrorCode::kInvalidInput, "{}: no images in a split \"{}\"; it has {}", options.store, options.split, names);
}

// Rank 0, before hours of work: whether the outputs' folders can be written.
Status CheckOutputs(Rank& rank) {
  const EvaluateOptions& options = rank.options;
  if (!options.output.empty())
    PLATEAU_TRY(rank.files.MakeDirectories(options.output + "/" + EvaluateAttemptFolder(options.attempt)));
  if (!WantsPosteriors(options)) return {};
  const std::string probe = fmt::format("{}.tmp-{}", options.posteriors, ::getpid());
  PLATEAU_ASSIGN(auto file, rank.files.Create(probe));
  PLATEAU_TRY(file->Close());
  return rank.files.Remove(probe);
}

int64_t ImagesOf(const Rank& rank, const Test& test) {
  const auto records = static_cast<int64_t>(test.split->records);
  return rank.options.limit > 0 ? std::min(rank.options.limit, records) : records;
}

// Collective: store and network; the answer is the same on every rank.
Result<Test> Open(Rank& rank) {
  Collective& collective = rank.collective;
  const EvaluateOptions& options = rank.options;
  Test test{.settings = options.settings, .threads = options.threads > 0 ? options.threads : UsableThreads()};
  PLATEAU_TRY(Agree(collective, OpenStore(rank, test)));
  const bool of_spec = !options.spec_path.empty();
  PLATEAU_ASSIGN(const Compute compute, ChooseTogether(collective, options.device, options.precision,
                                                       of_spec ? options.spec_path + ": resources.device" : "--device",
                                                       of_spec ? options.spec_path + ": evaluate.precision" : "--precision"));
  if (rank.zero() && !options.spec_path.empty() && options.device == DeviceKind::kAuto) LogInfo("device: auto takes {}", compute.device.reason);
  PLATEAU_ASSIGN(test.model, LoadTestedModel(rank.files, collective, options.checkpoint, test.manifest(), test.settings,
                                             test.threads, compute, &rank.pulse.progress, &rank.watch));
  return test;
}

// Collective: what the ranks will run; the answer is the same on every rank.
Status Plan(Rank& rank, Test& test) {
  Collective& collective = rank.collective;
  auto survey = SurveyImages(*test.store, *test.split, test.settings, ImagesOf(rank, test), collective.rank(),
                             collective.world_size(), &rank.pulse.progress);
  PLATEAU_TRY(Agree(collective, ToStatus(survey)));
  test.images = std::move(*survey);
  ShareSurvey(collective, test.images);
  test.groups = MakeGroups(test.images, test.settings, test.model.identity.preprocessing.crop, test.manifest().channels);
  return {};
}

// Collective; errors are the same on every rank. Devices choose algorithms by timing: rank 0 does so for the passes of all ranks. A
// rank alone chooses as it goes.
Status ChooseAlike(Rank& rank, Test& test) {
  Collective& collective = rank.collective;
  if (!test.model.choices || collective.world_size() == 1) return {};
  if (rank.zero()) LogInfo("rank 0 chooses the algorithms of all ranks");
  const auto choose = [&]() -> Status {
    std::set<std::tuple<Engine*, int, int, int>> known;
    const TestEngines engines = test.model.engines();
    for (size_t i = 0; rank.zero() && i < test.groups.size(); ++i) {
      for (const TestPass& pass : PassesOf(engines, test.settings, test.model.identity.preprocessing.crop, test.groups[i])) {
        const auto& [batch, height, width, training] = pass.options;
        if (rank.stop.raised() || !known.insert({pass.engine, batch, height, width}).second) continue;
        const auto plan = pass.engine->Compile(pass.options);
        if (!plan && rank.stop.raised()) continue;
        if (!plan) return Fail(plan.error().code, "{} (--batch bounds the rows of a pass)", plan.error().message);
        ++rank.pulse.progress;
      }
    }
    return {};
  };
  PLATEAU_TRY(CompileAlike(rank.files, test.model.choices.get(), collective, choose));
  // Where rank 0 was stopped, choices are missing: all stop.
  std::array<int64_t, 1> stopped{rank.stop.raised() ? 1 : 0};
  collective.AllReduceSum(std::span<int64_t>(stopped));
  if (stopped[0] > 0) rank.stop.Raise();
  return {};
}

void AddToPart(std::span<const float> posteriors, const ImageGroup& group, PosteriorsPart& part) {
  part.images.insert(part.images.end(), group.images.begin(), group.images.end());
  part.values.insert(part.values.end(), posteriors.begin(), posteriors.end());
}

// This rank's groups; faults throw Failure.
Outcome RunGroups(Rank& rank, Test& test) {
  const GroupRange range = ShareOfRank(test.groups, rank.collective.rank(), rank.collective.world_size());
  const std::span groups = std::span(test.groups).subspan(range.first, range.last - range.first);
  Preprocessing preprocessing = test.model.identity.preprocessing;
  preprocessing.channels = test.manifest().channels;
  const auto loader = GroupLoader::Start(*test.store, *test.split, preprocessing, test.settings, groups, test.threads,
                                         test.model.engine().takes_pixels(), &rank.pulse.progress);
  Tester tester(test.model.engines(), test.settings, preprocessing.crop, preprocessing.channels, test.classes(),
                [&stop = rank.stop] { return stop.raised(); });
  Outcome outcome{.counts = TestCounts(test.classes(), rank.options.per_class)};
  double cost = 0, done_cost = 0;
  for (const ImageGroup& group : groups) cost += group.cost;
  Progress progress({.label = "evaluate",
                     .unit = "images",
                     .total = test.images.size(),
                     .quiet = rank.options.quiet || rank.options.json || !rank.zero()},
                    rank.clock);
  const int64_t begin_ms = rank.clock.MonotonicMs();
  while (!rank.stop.raised()) {
    auto loaded = loader->Next();
    if (!loaded) throw Failure(loaded.error().code, loaded.error().message);
    if (*loaded == nullptr) break;
    const ImageGroup& group = *(*loaded)->group;
    const std::span<const float> posteriors = tester.Run(**loaded);
    if (posteriors.empty()) break;  // stopped
    const auto classes = static_cast<size_t>(test.classes());
    for (size_t i = 0; i < group.images.size(); ++i)
      outcome.counts.Add(posteriors.subspan(i * classes, classes), test.images[static_cast<size_t>(group.images[i])].label);
    if (WantsPosteriors(rank.options)) AddToPart(posteriors, group, outcome.part);
    loader->Recycle(std::move(*loaded));
    done_cost += group.cost;
    rank.pulse.step = outcome.counts.images();
    // Ranks have equal shares: rank 0's part of the work stands for all.
    progress.Update(static_cast<uint64_t>(done_cost / cost * static_cast<double>(test.images.size())));
  }
  if (!rank.stop.raised()) progress.Finish(test.images.size());
  outcome.seconds = static_cast<double>(rank.clock.MonotonicMs() - begin_ms) / 1000;
  outcome.stopped = rank.stop.raised();
  return outcome;
}

TestSubject SubjectOf(const Rank& rank, const Test& test, const Outcome& outcome) {
  const TestedModel& model = test.model;
  const bool job = !rank.options.output.empty();
  return {
      .scales = test.settings.scales,
      .mode = EvaluationModeName(test.settings.mode),
      .flip = test.settings.flip,
      .crop = model.identity.preprocessing.crop,
      .seconds = outcome.seconds,
      .device = model.engine().description(),
      .precision = PrecisionName(model.precision),
      .ranks = rank.collective.world_size(),
      .threads = test.threads,
      .checkpoint = model.folder,
      .checkpoint_checksum = model.manifest_checksum,
      .step = model.step,
      .network = model.identity.network,
      .width = model.identity.width,
      .classes = test.classes(),
      .store = test.manifest().name,
      .split = test.split->name,
      .split_checksum = test.split->checksum,
      .posteriors = job && WantsPosteriors(rank.options) ? FileOfAttempt(rank.options, kPosteriorsFile) : rank.options.posteriors,
      .per_class = job && rank.options.per_class ? FileOfAttempt(rank.options, kPerClassFile) : ""};
}

PosteriorsHead HeadOf(const Test& test, const TestSubject& subject) {
  PosteriorsHead head{.classes = test.classes()};
  for (size_t i = 0; i < test.images.size(); ++i) {
    head.labels.push_back(test.images[i].label);
    head.ordinals.push_back(static_cast<int64_t>(SourceOrdinal(*test.split, i)));
  }
  std::string scales;
  for (const int scale : subject.scales) scales += fmt::format("{}{}", scales.empty() ? "" : ",", scale);
  head.metadata = {{"checkpoint", subject.checkpoint},
                   {"checkpoint_checksum", subject.checkpoint_checksum},
                   {"network", subject.network},
                   {"store", subject.store},
                   {"split", subject.split},
                   {"split_checksum", subject.split_checksum},
                   {"scales", scales},
                   {"mode", subject.mode},
                   {"flip", subject.flip ? "true" : "false"}};
  return head;
}

// Collective. The files of a job, result.json last.
Status WriteOutputs(Rank& rank, const Test& test, const TestSubject& subject, const Outcome& outcome) {
  if (WantsPosteriors(rank.options))
    PLATEAU_TRY(WritePosteriors(rank.files, rank.collective, rank.options.posteriors, HeadOf(test, subject), outcome.part));
  if (!rank.zero() || rank.options.output.empty()) return {};
  if (rank.options.per_class)
    PLATEAU_TRY(WriteFileAtomic(rank.files, rank.options.output + "/" + subject.per_class,
                                PerClassToJson(outcome.counts, test.manifest().classes).dump() + "\n"));
  return WriteFileAtomic(rank.files, rank.options.output + "/" + FileOfAttempt(rank.options, kResultFile),
                         ResultToJson(subject, outcome.counts).dump(2) + "\n");
}

void Print(const Rank& rank, const Test& test, const TestSubject& subject, const TestCounts& counts) {
  if (!rank.zero()) return;
  if (rank.options.json) {
    auto json = ResultToJson(subject, counts);
    if (counts.per_class()) json["per_class"] = PerClassToJson(counts, test.manifest().classes);
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}", ResultText(subject, counts));
    if (counts.per_class()) fmt::print("{}", PerClassText(counts, test.manifest().classes));
  }
  std::fflush(stdout);
}

void TellEnd(const Rank& rank, const Finished& finished) {
  if (rank.link == nullptr || !rank.zero()) return;
  if (const Status told = rank.link->Finish(finished, kFarewellMs); !told) LogWarning("{}", told.error().message);
}

// Collective: whether an earlier attempt of this job had made this test, so that nothing is left but to report its result.
Result<bool> ReportKept(Rank& rank, const Test& test) {
  const EvaluateOptions& options = rank.options;
  if (options.output.empty() || options.attempt <= 1) return false;
  KeptResult kept;
  if (rank.zero())
    kept = FindKeptResult(rank.files, options.output, options.attempt,
                          {.checkpoint_checksum = test.model.manifest_checksum,
                           .split_checksum = test.split->checksum,
                           .mode = EvaluationModeName(test.settings.mode),
                           .scales = test.settings.scales,
                           .flip = test.settings.flip,
                           .images = ImagesOf(rank, test),
                           .posteriors = WantsPosteriors(options),
                           .per_class = options.per_class,
                           .device = test.model.engine().description(),
                           .precision = PrecisionName(test.model.precision)});
  PLATEAU_ASSIGN(const std::string text, ShareText(rank.collective, kept.text));
  if (text.empty()) return false;
  if (rank.zero()) {
    LogInfo("attempt {} of this job had ended this test; its result is reported", kept.attempt);
    if (options.json) fmt::print("{}\n", nlohmann::ordered_json::parse(text).dump(2));
  }
  TellEnd(rank, {.step = ImagesOf(rank, test), .reason = "EVALUATED", .result = text});
  return true;
}

// The test itself; the answer is the same on every rank.
Status Evaluate(Rank& rank) {
  PLATEAU_TRY(TakeSpec(rank));
  PLATEAU_TRY(Agree(rank.collective, rank.zero() ? CheckOutputs(rank) : Status()));
  PLATEAU_ASSIGN(Test test, Open(rank));
  PLATEAU_ASSIGN(const bool kept, ReportKept(rank, test));
  if (kept) return {};
  PLATEAU_TRY(Plan(rank, test));
  PLATEAU_TRY(ChooseAlike(rank, test));
  rank.pulse.phase = "validate";
  Outcome outcome = RunGroups(rank, test);
  if (test.model.choices && rank.zero()) KeepTimedChoices(rank.files, *test.model.choices);
  rank.pulse.phase = "report";
  std::array<int64_t, 1> stopped{outcome.stopped ? 1 : 0};
  rank.collective.AllReduceSum(std::span<int64_t>(stopped));
  if (stopped[0] > 0) {
    if (rank.link == nullptr) return Fail(ErrorCode::kConflict, "stopped before the end: there is no result; run it again");
    TellEnd(rank, {.step = rank.pulse.step, .reason = "STOPPED"});
    return {};
  }
  outcome.counts.Share(rank.collective);
  if (outcome.counts.images() != std::ssize(test.images))
    return Fail(ErrorCode::kInternal, "counted {} images of {}; please report this", outcome.counts.images(), test.images.size());
  const TestSubject subject = SubjectOf(rank, test, outcome);
  PLATEAU_TRY(Agree(rank.collective, WriteOutputs(rank, test, subject, outcome)));
  Print(rank, test, subject, outcome.counts);
  TellEnd(rank, {.step = outcome.counts.images(), .reason = "EVALUATED", .result = ResultToJson(subject, outcome.counts).dump()});
  return {};
}

// A job's errors are lines of its log; a user's are said as the other verbs do.
void Complain(const EvaluateOptions& options, const std::string& message) {
  if (options.coordinator.empty())
    fmt::print(stderr, "plateau-worker evaluate: {}\n", message);
  else
    LogError("{}", message);
}

}  // namespace

int RunEvaluate(const EvaluateOptions& options) {
  StopFlag stop;
  StopOnSignals(stop);  // before MPI, as training does
  auto collective = StartCollective();
  if (!collective) {
    Complain(options, collective.error().message);
    return ExitCode(collective.error().code);
  }
  Pulse pulse;
  WatchedCollective world(**collective, pulse);
  if (world.world_size() > 1) InitLog(fmt::format("rank {}", world.rank()));
  auto link = OpenRankLink(options.coordinator, options.job, options.attempt, world.rank(), pulse, stop);
  if (const Status agreed = Agree(world, ToStatus(link)); !agreed) {
    if (world.rank() == 0) Complain(options, agreed.error().message);
    world.Finish();
    return ExitCode(agreed.error().code);
  }
  TellMissingGpu(link->get());
  const auto leave = [&](const Error& error) {
    if (world.world_size() > 1 || *link) LeaveAlone(world, std::move(*link), pulse, error);
    Complain(options, error.message);  // nobody else has to be told
    world.Finish();
    return ExitCode(error.code);
  };
  try {
    const SystemClock clock;
    StartProgress watch(pulse, stop, clock, {.speaks = world.rank() == 0 && !options.quiet});
    Rank rank{options, world, pulse, stop, watch, link->get()};
    const Status done = Evaluate(rank);
    if (!done && world.rank() == 0) {
      Complain(options, done.error().message);
      if (*link) (*link)->Fail(FailureOf(done.error(), pulse.step));
    }
    world.Barrier();
    link->reset();  // gives the last message time to leave
    world.Finish();
    return done ? 0 : ExitCode(done.error().code);
  } catch (const Failure& fault) {
    return leave({fault.code(), fault.what()});
  } catch (const std::exception& fault) {
    return leave({ErrorCode::kInternal, fault.what()});
  }
}

}  // namespace plateau
