// Rejected images, checksums over shards, the manifest last.
#include "dataset/ingest_finish.h"

#include <map>

#include "common/checksum.h"

namespace plateau {
namespace {

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

// 1 when every image is raw gray.
int Channels(const DataSource& source) {
  for (const auto& split : source.splits)
    if (split->raw().channels != 1) return 3;
  return 1;
}

Manifest MakeManifest(const DataSource& source, const IngestPlan& plan, const std::vector<ShardResult>& results,
                      const RejectLog& rejects, const IngestOptions& options) {
  const auto& plans = plan.splits;
  const auto& tasks = plan.tasks;
  Manifest manifest;
  manifest.name = StoreName(options);
  manifest.store_seed = options.seed;
  manifest.resize = ResizeModeName(options.resize);
  manifest.channels = Channels(source);
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

}  // namespace

RejectLog MakeRejectLog(const IngestPlan& plan, RejectLimit limit) {
  std::vector<const ImageSource*> sources;
  for (const auto& split : plan.splits) sources.push_back(split.source);
  return RejectLog(std::move(sources), limit);
}

Status WriteRejected(FileSystem& files, const RejectLog& rejects, const std::string& out) {
  return WriteFileAtomic(files, out + "/rejected.jsonl", rejects.Text());
}

Result<Manifest> FinishIngest(FileSystem& files, const Clock& clock, const DataSource& source, const IngestPlan& plan,
                              const IngestOptions& options, const std::vector<ShardResult>& results, const RejectLog& rejects) {
  PLATEAU_TRY(WriteRejected(files, rejects, options.out));
  PLATEAU_TRY(rejects.Check(options.out));
  Manifest manifest = MakeManifest(source, plan, results, rejects, options);
  manifest.created = FormatUtc(clock.NowMs());
  PLATEAU_TRY(WriteFileAtomic(files, options.out + "/manifest.json", ManifestText(manifest)));
  return manifest;
}

}  // namespace plateau
