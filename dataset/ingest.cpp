// Plans shards, builds them on a few threads, and publishes the store.
#include "dataset/ingest.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "common/progress.h"
#include "dataset/ingest_rejects.h"
#include "dataset/ingest_shard.h"
#include "dataset/ingest_state.h"
#include "dataset/sealed_json.h"
#include "dataset/task_pool.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kShardBytes = uint64_t{512} << 20;  // wanted size of a shard when --shards is not given
constexpr uint64_t kShardImages = 500;                 // and a number that gives small sets shards to work on in parallel,
constexpr uint64_t kSmallSetShards = 16;               // up to this many

struct SplitPlan {
  const ImageSource* source;
  StoreLayout layout;
  uint64_t shards;
};

struct TaskPlan {
  size_t split;
  uint64_t shard;
  std::string folder;  // "train/00000"
};

uint64_t ChooseShards(const ImageSource& source) {
  uint64_t bytes = 0;
  for (const auto& image : source.images()) bytes += image.bytes;
  const uint64_t images = source.images().size();
  return std::max({uint64_t{1}, bytes / kShardBytes + 1, std::min(kSmallSetShards, images / kShardImages)});
}

// The splits with their shards: --shards counts train's; the others get their part of it.
std::vector<SplitPlan> PlanSplits(const DataSource& source, const IngestOptions& options) {
  std::vector<SplitPlan> plans;
  const uint64_t train_images = source.splits.front()->images().size();
  for (const auto& split : source.splits) {
    const uint64_t images = split->images().size();
    const uint64_t part = std::max<uint64_t>(1, options.shards * images / train_images);
    const uint64_t shards = std::min(images, options.shards == 0 ? ChooseShards(*split) : plans.empty() ? options.shards : part);
    plans.push_back({split.get(), StoreLayout(options.seed, plans.size(), images, shards), shards});
  }
  return plans;
}

// Equal for equal work: the source's lists, the classes, and what decides the shards. Not the jobs.
std::string PlanText(const DataSource& source, const std::vector<SplitPlan>& plans, const IngestOptions& options) {
  ChecksumStream classes;
  for (const auto& info : source.classes) {
    const std::string line = info.synset + " " + info.words + "\n";
    classes.Add(line.data(), line.size());
  }
  Json splits = Json::array();
  for (const auto& plan : plans) {
    ChecksumStream list;
    for (const auto& image : plan.source->images()) {
      const std::string line = fmt::format("{} {} {} {}\n", image.offset, image.bytes, image.label, image.name);
      list.Add(line.data(), line.size());
    }
    splits.push_back({{"name", plan.source->split()},
                      {"sources", plan.source->images().size()},
                      {"shards", plan.shards},
                      {"list", ChecksumText(list.Value())}});
  }
  Json plan = Json::object();
  plan["version"] = 1;
  plan["store_seed"] = options.seed;
  plan["classes"] = ChecksumText(classes.Value());
  plan["splits"] = std::move(splits);
  return SealJson(plan);
}

// XXH3-64 over the little-endian XXH3-64 of every stored record's value, in source order.
std::string SplitChecksum(const SplitPlan& plan, const std::map<uint64_t, RejectedImage>& rejected,
                          const std::vector<const ShardResult*>& shards) {
  ChecksumStream stream;
  for (uint64_t ordinal = 0; ordinal < plan.source->images().size(); ++ordinal) {
    if (rejected.contains(ordinal)) continue;
    const Location at = plan.layout.Of(ordinal);
    const uint64_t checksum = shards[at.shard]->record_checksums[at.slot];
    stream.Add(&checksum, sizeof(checksum));
  }
  return ChecksumText(stream.Value());
}

std::string StoreName(const IngestOptions& options) {
  if (!options.name.empty()) return options.name;
  const auto path = std::filesystem::absolute(options.out).lexically_normal();
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

Manifest MakeManifest(const DataSource& source, const std::vector<SplitPlan>& plans, const std::vector<TaskPlan>& tasks,
                      const std::vector<ShardResult>& results, const RejectLog& rejects, const IngestOptions& options) {
  Manifest manifest;
  manifest.name = StoreName(options);
  manifest.store_seed = options.seed;
  manifest.classes = source.classes;
  manifest.source = source.description;
  MomentSums moments;
  for (size_t split = 0; split < plans.size(); ++split) {
    SplitInfo info;
    info.name = plans[split].source->split();
    info.sources = plans[split].source->images().size();
    std::vector<const ShardResult*> shards;
    for (size_t task = 0; task < tasks.size(); ++task) {
      if (tasks[task].split != split) continue;
      shards.push_back(&results[task]);
      info.shards.push_back(results[task].info);
      info.records += results[task].info.records;
      moments.Add(results[task].moments);
    }
    for (const auto& [ordinal, image] : rejects.Of(split)) info.rejected.push_back(ordinal);
    info.checksum = SplitChecksum(plans[split], rejects.Of(split), shards);
    manifest.splits.push_back(std::move(info));
  }
  manifest.moments = FinishMoments(moments);
  return manifest;
}

// Builds every shard or takes it from the run before. `results` is by task.
Status BuildAll(FileSystem& files, const Clock& clock, const std::vector<SplitPlan>& plans, const std::vector<TaskPlan>& tasks,
                const IngestOptions& options, IngestState& state, RejectLog& rejects, std::vector<ShardResult>& results,
                IngestReport& report) {
  uint64_t total = 0;
  for (const auto& plan : plans) total += plan.source->images().size();
  Progress progress({.label = "ingest " + StoreName(options), .unit = "images", .total = total, .quiet = options.quiet}, clock);
  std::atomic<uint64_t> done{0}, handled{0}, reused{0};
  std::atomic<bool> stop{false};
  Status cause;
  const auto status = RunTasks(tasks.size(), options.jobs, [&](uint64_t number) -> Status {
    const TaskPlan& task = tasks[number];
    const SplitPlan& plan = plans[task.split];
    if (auto kept = state.Load(task.folder)) {
      for (const auto& image : kept->rejected) rejects.Add(task.split, image);
      results[number] = std::move(*kept);
      ++reused;
      progress.Update(done += plan.layout.Slots(task.shard));
      return {};
    }
    const ShardTask build{plan.source, plan.layout, task.shard, task.split == 0, state.BuildingFolder(task.folder)};
    auto result = BuildShard(files, build, [&](const RejectedImage* rejected) -> Status {
      if (rejected != nullptr && !rejects.Add(task.split, *rejected)) stop = true;
      if (stop) return Fail(ErrorCode::kConflict, "stopped: another task failed");
      ++handled;
      progress.Update(++done);
      return {};
    });
    auto saved = result ? state.Save(task.folder, *result) : Status(Fail(result.error()));
    if (saved)
      results[number] = std::move(*result);
    else if (!stop.exchange(true))
      cause = saved;  // later ones only follow from it
    return saved;
  });
  progress.Finish(done);
  report.images = handled;
  report.reused_shards = reused;
  return cause ? status : cause;
}

}  // namespace

Result<IngestReport> Ingest(FileSystem& files, const Clock& clock, const DataSource& source, const IngestOptions& options) {
  const int64_t started_ms = clock.MonotonicMs();
  const auto plans = PlanSplits(source, options);
  std::vector<TaskPlan> tasks;
  for (size_t split = 0; split < plans.size(); ++split)
    for (uint64_t shard = 0; shard < plans[split].shards; ++shard)
      tasks.push_back({split, shard, fmt::format("{}/{:05}", plans[split].source->split(), shard)});
  PLATEAU_ASSIGN(auto state, IngestState::Open(files, options.out, PlanText(source, plans, options), options.overwrite));
  std::vector<const ImageSource*> sources;
  for (const auto& split : source.splits) sources.push_back(split.get());
  RejectLog rejects(std::move(sources), options.max_rejected);
  std::vector<ShardResult> results(tasks.size());
  IngestReport report;
  const auto built = BuildAll(files, clock, plans, tasks, options, *state, rejects, results, report);
  const auto few_enough = rejects.Check(options.out);
  if (built || !few_enough) PLATEAU_TRY(WriteFileAtomic(files, options.out + "/rejected.jsonl", rejects.Text()));
  PLATEAU_TRY(few_enough);
  PLATEAU_TRY(built);
  for (const auto& result : results) report.converted += result.converted;
  report.manifest = MakeManifest(source, plans, tasks, results, rejects, options);
  report.manifest.created = FormatUtc(clock.NowMs());
  PLATEAU_TRY(WriteFileAtomic(files, options.out + "/manifest.json", ManifestText(report.manifest)));
  PLATEAU_TRY(state->Close());
  report.seconds = static_cast<double>(clock.MonotonicMs() - started_ms) / 1000;
  return report;
}

}  // namespace plateau
