// Makes a run's parts from its specification.
#include "worker/train/setup.h"

#include <sched.h>

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "dataset/sampler.h"
#include "worker/backend/device/device.h"
#include "worker/collective/peers.h"
#include "worker/train/agreement.h"
#include "worker/train/choices_files.h"
#include "worker/train/compile_alike.h"
#include "worker/train/device_share.h"
#include "worker/train/host_lanes.h"
#include "worker/train/host_trainer.h"

namespace plateau {
namespace {

void WarnOfNarrowAffinity(int threads) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0 || CPU_COUNT(&cores) >= threads) return;
  LogWarning(
      "{} threads share {} cores: this rank is bound too narrowly; start mpirun with --map-by slot:PE={} (or --bind-to none)",
      threads, CPU_COUNT(&cores), threads);
}

Status CheckSplits(const Manifest& manifest, const std::string& store) {
  for (const char* name : {"train", "val"}) {
    const SplitInfo* split = manifest.Split(name);
    if (split == nullptr || split->records == 0)
      return Fail(ErrorCode::kInvalidInput, "data.store {}: has no {} images, and training needs them; ingest them with --{}",
                  store, name, name);
  }
  if (manifest.classes.size() < 2)
    return Fail(ErrorCode::kInvalidInput, "data.store {}: has {} class; training needs at least two", store,
                manifest.classes.size());
  return {};
}

RunIdentity MakeIdentity(const JobSpec& spec, const Manifest& manifest, const PreparedRun& run, int world_size) {
  RunIdentity identity;
  identity.spec_json = JobSpecToJson(spec).dump();
  identity.metric = spec.lr_metric;
  identity.global_batch = spec.training.global_batch;
  identity.preprocessing = MakePreprocessing(spec, manifest);
  identity.validation_scale = spec.validation.scale;
  identity.network = spec.model.network;
  identity.width = spec.model.width;
  identity.classes = manifest.classes;
  identity.store_name = manifest.name;
  identity.store_checksum = manifest.Split("train")->checksum;
  identity.images = static_cast<int64_t>(manifest.Split("train")->records);
  identity.fingerprint = {.ranks = world_size,
                          .threads_per_rank = spec.resources.threads_per_worker,
                          .lanes = run.loop.shape.lanes,
                          .micro_batch = run.loop.shape.lane_rows,
                          .device = run.engine->description(),
                          .precision = PrecisionName(run.precision),
                          .libraries = fmt::format("plateau 0.1.0, gcc {}", __VERSION__),
                          .algorithms = run.training->algorithms()};
  if (run.choices) identity.choices = run.choices->all();
  return identity;
}

// What this rank can find out alone: everything but engine and plans.
struct OpenedRun {
  PreparedRun run;
  Network network;
};

Result<OpenedRun> OpenRun(FileSystem& files, const JobSpec& spec, int rank, int world_size,
                          const std::optional<RunIdentity>& recorded) {
  if (spec.kind != "train")
    return Fail(ErrorCode::kInvalidInput, "kind: {} is not trained; give the specification to `plateau-worker {}`", spec.kind,
                spec.kind);
  if (world_size > spec.training.global_batch)
    return Fail(ErrorCode::kInvalidInput, "training.global_batch: {} images cannot be split over {} ranks; start at most {} ranks",
                spec.training.global_batch, world_size, spec.training.global_batch);
  OpenedRun opened;
  PreparedRun& run = opened.run;
  PLATEAU_ASSIGN(run.device, ChooseDevice(spec.resources.device, LocalRank(), "resources.device"));
  PLATEAU_ASSIGN(run.precision, ChoosePrecision(run.device, spec.training.precision, "training.precision"));
  PLATEAU_TRY(CheckCollective(run.device, spec.resources.collective, "resources.collective"));
  if (rank == 0 && spec.resources.device != DeviceKind::kCpu)
    LogInfo("resources.device: {} takes {}", DeviceKindName(spec.resources.device), run.device.reason);
  WarnOfNarrowAffinity(spec.resources.threads_per_worker);
  PLATEAU_ASSIGN(run.store, StoreReader::Open(files, spec.data.store));
  const Manifest& manifest = run.store->manifest();
  PLATEAU_TRY(CheckSplits(manifest, spec.data.store));
  PLATEAU_ASSIGN(opened.network, MakeNetwork(spec.model.network, {.width = spec.model.width,
                                                                  .classes = static_cast<int>(manifest.classes.size()),
                                                                  .channels = manifest.channels,
                                                                  .dropout = spec.training.dropout}));
  PLATEAU_ASSIGN(run.shapes, InferShapes(opened.network, spec.data.crop, spec.data.crop));
  if (run.device.cuda)
    run.choices = OpenChoices(files, rank, recorded ? recorded->choices : ChoiceTable(), RecordedChoices::Use::kTraining);
  run.loop.spec = spec;
  return opened;
}

// Collective.
Status MakeEngine(OpenedRun& opened, Collective& collective, Pulse& pulse, StartWatch* watch) {
  PreparedRun& run = opened.run;
  const JobSpec& spec = run.loop.spec;
  EngineOptions options{.threads = spec.resources.threads_per_worker,
                        .seed = spec.reproducibility.seed,
                        .crop = spec.data.crop,
                        .progress = &pulse.progress,
                        .precision = run.precision,
                        .collective = spec.resources.collective,
                        .choices = run.choices.get(),
                        .watch = watch};
  PLATEAU_TRY(ShareDevices(run.device, collective, options));
  auto engine = CreateEngine(run.device, std::move(opened.network), options);
  PLATEAU_TRY(Agree(collective, engine ? Status() : Fail(engine.error())));
  run.engine = std::move(*engine);
  return {};
}

// Sums over ranks of different kinds would never meet.
Status RequireOneKind(const DeviceChoice& device, Collective& collective) {
  int64_t with_cuda = device.cuda ? 1 : 0;
  collective.AllReduceSum(std::span(&with_cuda, 1));
  if (with_cuda == 0 || with_cuda == collective.world_size()) return {};
  return Fail(ErrorCode::kInvalidInput, "resources.device: auto finds a CUDA device on {} of {} ranks; use device: cpu, or hosts that "
              "all have devices (plateau doctor says why one has none)", with_cuda, collective.world_size());
}

// Collective. On the CPU a rank plans with half of its part of the machine: what it takes is estimated, and images want room too.
Result<int> LargestLanes(const PreparedRun& run, int most_rows, Collective& collective) {
  const int crop = run.loop.spec.data.crop;
  if (run.device.cuda) return run.engine->LargestBatch({.batch = most_rows, .height = crop, .width = crop});
  return HostLaneRows(run.engine->network(), crop, most_rows, PartOfMemory(collective, ReadHostMemory()) / 2);
}

// The largest lane of the run that goes on, where it was computed by as many ranks on a device of this kind; else -1. Rank 0 has
// read it.
int RecordedLane(const PreparedRun& run, const std::optional<RunIdentity>& recorded, Collective& collective) {
  int lane = -1;
  if (recorded && recorded->fingerprint.ranks == collective.world_size() &&
      recorded->fingerprint.device.starts_with("cuda") == run.device.cuda)
    lane = recorded->largest_lane;
  collective.Broadcast({reinterpret_cast<char*>(&lane), sizeof(lane)}, 0);
  return lane;
}

// The largest part of a rank's batch that is computed at once, 0 for all of it. `auto` takes `recorded` where it fits on every
// rank, else what does; on a device it is refused where no cut does. Collective.
Result<int> MicroBatch(const PreparedRun& run, int most_rows, int recorded, Collective& collective) {
  const JobSpec& spec = run.loop.spec;
  if (spec.training.micro_batch > 0) return spec.training.micro_batch;
  const auto mine = LargestLanes(run, most_rows, collective);
  PLATEAU_TRY(Agree(collective, mine ? Status() : Fail(mine.error().code, "training.micro_batch: auto: {}", mine.error().message)));
  const std::vector<int64_t> fits = Gather(collective, *mine);
  const int lane = LargestLane(recorded, static_cast<int>(*std::min_element(fits.begin(), fits.end())), most_rows);
  if (lane == 0 || collective.rank() != 0) return lane;
  if (lane == recorded)
    LogInfo("training.micro_batch: auto takes {}, as before this resume", lane);
  else
    LogInfo("training.micro_batch: auto takes {}: the {} images of a rank do not fit into {} at once", lane, most_rows,
            run.device.cuda ? "the device's memory" : "half of its part of the machine's memory");
  return lane;
}

// What to change in the specification when this rank's memory does not do.
std::string MemoryAdvice(const PreparedRun& run, int rank_rows) {
  const JobSpec& spec = run.loop.spec;
  if (!run.device.cuda) return fmt::format("set training.micro_batch below {}", run.loop.shape.lane_rows);
  if (spec.training.micro_batch == 0)
    return "training.micro_batch: auto found that it fits: another process has taken memory since (nvidia-smi)";
  const auto fits = run.engine->LargestBatch({.batch = rank_rows, .height = spec.data.crop, .width = spec.data.crop});
  if (!fits) return fmt::format("no training.micro_batch does: {}", fits.error().message);
  return fmt::format("training.micro_batch: {} is too large for a rank of {} rows: {} fits, which auto takes",
                     spec.training.micro_batch, rank_rows, std::min(*fits, rank_rows));
}

// An error of memory with what to change.
tl::unexpected<Error> Advised(const Error& error, const PreparedRun& run, int rank_rows) {
  if (error.code != ErrorCode::kUnavailable) return Fail(error);
  return Fail(error.code, "{}; {}", error.message, MemoryAdvice(run, rank_rows));
}

// `for_all`: also what only a rank of more rows runs, whose algorithms are then chosen here.
Status CompilePlans(PreparedRun& run, int most_lane_rows, bool for_all) {
  const int crop = run.loop.spec.data.crop;
  const auto compile = [&](int rows, bool training) -> Result<Plan*> {
    auto plan = run.engine->Compile({.batch = rows, .height = crop, .width = crop, .training = training});
    if (!plan) return Advised(plan.error(), run, run.loop.shape.rows());
    return plan;
  };
  PLATEAU_ASSIGN(run.training, compile(run.loop.shape.lane_rows, true));
  PLATEAU_ASSIGN(run.validation, compile(most_lane_rows, false));
  if (!for_all) return {};
  const auto of_others = compile(most_lane_rows, true);
  return of_others ? Status() : Fail(of_others.error());
}

}  // namespace

Result<PreparedRun> PrepareRun(FileSystem& files, const JobSpec& spec, Collective& collective, Pulse& pulse,
                               const std::optional<RunIdentity>& recorded, StartWatch* watch) {
  const int rank = collective.rank(), world_size = collective.world_size();
  auto opened = OpenRun(files, spec, rank, world_size, recorded);
  PLATEAU_TRY(Agree(collective, opened ? Status() : Fail(opened.error())));
  PLATEAU_TRY(RequireOneKind(opened->run.device, collective));
  PLATEAU_TRY(MakeEngine(*opened, collective, pulse, watch));
  PreparedRun run = std::move(opened->run);
  // The same on every rank, also when ranks train on different numbers of rows: it is the stride by which they share the set.
  const int most_rows = (spec.training.global_batch + world_size - 1) / world_size;
  PLATEAU_ASSIGN(const int micro_batch, MicroBatch(run, most_rows, RecordedLane(run, recorded, collective), collective));
  run.loop.shape = CutIntoLanes(RankRows(spec.training.global_batch, rank, world_size).size(), micro_batch);
  const int most_lane_rows = CutIntoLanes(most_rows, micro_batch).lane_rows;
  PLATEAU_TRY(CompileAlike(files, run.choices.get(), collective,
                           [&] { return CompilePlans(run, most_lane_rows, run.choices != nullptr && rank == 0); }));
  run.loop.identity = MakeIdentity(spec, run.store->manifest(), run, world_size);
  run.loop.identity.largest_lane = micro_batch;
  run.loop.length = LengthOf(spec, run.loop.identity.images);
  return run;
}

Result<std::unique_ptr<Trainer>> MakeTrainer(PreparedRun& run, Collective& collective, Pulse& pulse) {
  const JobSpec& spec = run.loop.spec;
  const TrainerOptions options{.shape = run.loop.shape,
                               .global_batch = spec.training.global_batch,
                               .momentum = spec.training.momentum,
                               .weight_decay = spec.training.weight_decay,
                               .decay_biases = spec.training.weight_decay_bias,
                               .pixels = run.engine->takes_pixels()};
  PLATEAU_ASSIGN(std::unique_ptr<Trainer> trainer, run.engine->CreateTrainer(*run.training, options, collective));
  if (trainer != nullptr) {
    for (std::string& line : trainer->algorithms()) run.loop.identity.fingerprint.algorithms.push_back(std::move(line));
    return trainer;
  }
  return std::make_unique<HostTrainer>(*run.engine, *run.training, options, spec.resources.threads_per_worker, collective, pulse);
}

}  // namespace plateau
