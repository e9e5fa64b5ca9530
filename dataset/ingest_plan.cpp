// Chooses shards, lists tasks, and sums the source's lists up.
#include "dataset/ingest_plan.h"

#include <algorithm>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "dataset/sealed_json.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kShardBytes = uint64_t{512} << 20;  // wanted size of a shard when --shards is not given
constexpr uint64_t kShardImages = 500;                 // and a number that gives small sets shards to work on in parallel,
constexpr uint64_t kSmallSetShards = 16;               // up to this many

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

// Not the jobs: the store does not depend on them.
std::string PlanText(const DataSource& source, const std::vector<SplitPlan>& plans, const IngestOptions& options) {
  ChecksumStream classes;
  for (const auto& info : source.classes) {
    const std::string line = info.synset + " " + info.words + "\n";
    classes.Add(line.data(), line.size());
  }
  Json splits = Json::array();
  for (const auto& plan : plans) {
    ChecksumStream list;
    const RawShape raw = plan.source->raw();
    for (const auto& image : plan.source->images()) {
      const std::string line = fmt::format("{} {} {} {}\n", image.offset, image.bytes, image.label, image.name);
      list.Add(line.data(), line.size());
    }
    splits.push_back({{"name", plan.source->split()},
                      {"sources", plan.source->images().size()},
                      {"shards", plan.shards},
                      {"raw", {raw.height, raw.width, raw.channels}},
                      {"list", ChecksumText(list.Value())}});
  }
  Json plan = Json::object();
  plan["version"] = 1;
  plan["store_seed"] = options.seed;
  plan["resize"] = ResizeModeName(options.resize);
  plan["classes"] = ChecksumText(classes.Value());
  plan["splits"] = std::move(splits);
  return SealJson(plan);
}

}  // namespace

uint64_t IngestPlan::Images() const {
  uint64_t images = 0;
  for (const auto& split : splits) images += split.source->images().size();
  return images;
}

ShardTask IngestPlan::Task(size_t number, std::string building) const {
  const TaskPlan& task = tasks.at(number);
  const SplitPlan& split = splits.at(task.split);
  return {split.source, split.layout, task.shard, task.split == 0, resize, std::move(building)};
}

IngestPlan PlanIngest(const DataSource& source, const IngestOptions& options) {
  IngestPlan plan;
  plan.splits = PlanSplits(source, options);
  plan.resize = options.resize;
  for (size_t split = 0; split < plan.splits.size(); ++split)
    for (uint64_t shard = 0; shard < plan.splits[split].shards; ++shard)
      plan.tasks.push_back({split, shard, fmt::format("{}/{:05}", plan.splits[split].source->split(), shard)});
  plan.text = PlanText(source, plan.splits, options);
  return plan;
}

std::string StoreName(const IngestOptions& options) {
  if (!options.name.empty()) return options.name;
  const auto path = std::filesystem::absolute(options.out).lexically_normal();
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

}  // namespace plateau
