// Makes a run's parts from its specification.
#include "worker/train/setup.h"

#include <sched.h>

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "dataset/sampler.h"
#include "worker/backend/cuda/probe.h"
#include "worker/train/host_trainer.h"

namespace plateau {
namespace {

Status CheckDevice(const JobSpec& spec, int rank) {
  if (spec.resources.device == DeviceKind::kCpu) return {};
  const CudaProbe probe = ProbeCuda();
  const std::string why = probe.devices.empty()
                              ? probe.reason
                              : fmt::format("{} is there, but this version trains on the CPU only", probe.devices.front());
  if (spec.resources.device == DeviceKind::kCuda)
    return Fail(ErrorCode::kUnsupported, "resources.device: cuda cannot be had: {}; use device: auto or cpu", why);
  if (rank == 0) LogInfo("device: auto takes the CPU: {}", why);
  return {};
}

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
                          .libraries = fmt::format("plateau 0.1.0, gcc {}", __VERSION__),
                          .algorithms = run.training->algorithms()};
  return identity;
}

}  // namespace

Result<PreparedRun> PrepareRun(FileSystem& files, const JobSpec& spec, int rank, int world_size, Pulse& pulse) {
  if (spec.kind != "train")
    return Fail(ErrorCode::kInvalidInput, "kind: {} is not trained; give the specification to `plateau-worker {}`", spec.kind,
                spec.kind);
  if (world_size > spec.training.global_batch)
    return Fail(ErrorCode::kInvalidInput, "training.global_batch: {} images cannot be split over {} ranks; start at most {} ranks",
                spec.training.global_batch, world_size, spec.training.global_batch);
  PLATEAU_TRY(CheckDevice(spec, rank));
  WarnOfNarrowAffinity(spec.resources.threads_per_worker);
  PreparedRun run;
  PLATEAU_ASSIGN(run.store, StoreReader::Open(files, spec.data.store));
  const Manifest& manifest = run.store->manifest();
  PLATEAU_TRY(CheckSplits(manifest, spec.data.store));
  PLATEAU_ASSIGN(Network network, MakeNetwork(spec.model.network, {.width = spec.model.width,
                                                                   .classes = static_cast<int>(manifest.classes.size()),
                                                                   .channels = manifest.channels,
                                                                   .dropout = spec.training.dropout}));
  const int crop = spec.data.crop;
  PLATEAU_ASSIGN(run.shapes, InferShapes(network, crop, crop));
  PLATEAU_ASSIGN(run.engine, CreateCpuEngine(std::move(network), {.threads = spec.resources.threads_per_worker,
                                                                  .seed = spec.reproducibility.seed,
                                                                  .crop = crop,
                                                                  .progress = &pulse.progress}));
  const int rows = RankRows(spec.training.global_batch, rank, world_size).size();
  run.loop.shape = CutIntoLanes(rows, spec.training.micro_batch);
  PLATEAU_ASSIGN(run.training,
                 run.engine->Compile({.batch = run.loop.shape.lane_rows, .height = crop, .width = crop, .training = true}));
  // The same on every rank, also when ranks train on different numbers of rows: it is the stride by which they share the set.
  const int most_rows = (spec.training.global_batch + world_size - 1) / world_size;
  const int validation_rows = CutIntoLanes(most_rows, spec.training.micro_batch).lane_rows;
  PLATEAU_ASSIGN(run.validation, run.engine->Compile({.batch = validation_rows, .height = crop, .width = crop, .training = false}));
  run.loop.spec = spec;
  run.loop.identity = MakeIdentity(spec, manifest, run, world_size);
  run.loop.length = LengthOf(spec, run.loop.identity.images);
  return run;
}

Result<std::unique_ptr<Trainer>> MakeTrainer(PreparedRun& run, Collective& collective, Pulse& pulse) {
  const JobSpec& spec = run.loop.spec;
  const TrainerOptions options{.shape = run.loop.shape,
                               .global_batch = spec.training.global_batch,
                               .momentum = spec.training.momentum,
                               .weight_decay = spec.training.weight_decay,
                               .decay_biases = spec.training.weight_decay_bias};
  PLATEAU_ASSIGN(std::unique_ptr<Trainer> trainer, run.engine->CreateTrainer(*run.training, options, collective));
  if (trainer != nullptr) return trainer;
  return std::make_unique<HostTrainer>(*run.engine, *run.training, options, spec.resources.threads_per_worker, collective, pulse);
}

}  // namespace plateau
