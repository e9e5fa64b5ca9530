// Formats ingest, info and verify results.
#include "coordinator/cli/dataset_report.h"

#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/text.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kRecordsShown = 20;  // damaged records listed in text; JSON has all

std::string Line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

std::string AbsolutePath(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

uint64_t SplitBytes(const SplitInfo& split) {
  uint64_t bytes = 0;
  for (const auto& shard : split.shards) bytes += shard.bytes;
  return bytes;
}

Json SplitsJson(const Manifest& manifest) {
  Json splits = Json::object();
  for (const auto& split : manifest.splits)
    splits[split.name] = {{"records", split.records},
                          {"rejected", split.rejected.size()},
                          {"checksum", split.checksum},
                          {"shards", split.shards.size()},
                          {"bytes", SplitBytes(split)}};
  return splits;
}

std::string SplitLines(const Manifest& manifest) {
  std::string text;
  for (const auto& split : manifest.splits)
    text += fmt::format("  {:<6} {} records, {} rejected, {} shards, {}, checksum {}\n", split.name, split.records,
                        split.rejected.size(), split.shards.size(), HumanBytes(SplitBytes(split)), split.checksum);
  return text;
}

double Rate(const IngestReport& report) { return report.seconds > 0 ? static_cast<double>(report.images) / report.seconds : 0; }

Json MomentsJson(const PixelMoments& moments) {
  Json json = Json::object();
  json["mean"] = moments.mean;
  json["standard_deviation"] = moments.standard_deviation;
  json["covariance_eigenvalues"] = moments.covariance_eigenvalues;
  json["covariance_eigenvectors"] = moments.covariance_eigenvectors;
  return json;
}

}  // namespace

std::string IngestText(const IngestReport& report, const std::string& store) {
  std::string text = fmt::format("{}: store \"{}\", {} classes\n", store, report.manifest.name, report.manifest.classes.size());
  text += SplitLines(report.manifest);
  text += fmt::format("  {} images in {}, {:.0f} images/s", report.images, HumanDuration(report.seconds), Rate(report));
  if (report.converted > 0) text += fmt::format(", {} converted or made smaller", report.converted);
  if (report.reused_shards > 0) text += fmt::format(", {} shards were finished before", report.reused_shards);
  text += "\n";
  for (const auto& split : report.manifest.splits)
    if (!split.rejected.empty()) return text + fmt::format("  rejected images and their reasons: {}/rejected.jsonl\n", store);
  return text;
}

std::string IngestJson(const IngestReport& report, const std::string& store) {
  Json json = Json::object();
  json["name"] = report.manifest.name;
  json["store"] = AbsolutePath(store);
  json["splits"] = SplitsJson(report.manifest);
  json["classes"] = report.manifest.classes.size();
  json["converted"] = report.converted;
  json["images"] = report.images;
  json["reused_shards"] = report.reused_shards;
  json["seconds"] = report.seconds;
  json["images_per_s"] = Rate(report);
  return Line(json);
}

std::string InfoText(const Manifest& manifest, const std::string& store) {
  const auto& moments = manifest.moments;
  std::string text = fmt::format("{}: store \"{}\", format {}, {} classes, made {}\n", store, manifest.name,
                                 manifest.format_version, manifest.classes.size(), manifest.created);
  text += fmt::format("  from {}, resize {}, {} channel{}\n", manifest.source, manifest.resize, manifest.channels,
                      manifest.channels == 1 ? "" : "s");
  text += SplitLines(manifest);
  text += fmt::format("  mean RGB            {:.3f} {:.3f} {:.3f}\n", moments.mean[0], moments.mean[1], moments.mean[2]);
  text += fmt::format("  standard deviation  {:.3f} {:.3f} {:.3f}\n", moments.standard_deviation[0], moments.standard_deviation[1],
                      moments.standard_deviation[2]);
  text += fmt::format("  colour eigenvalues  {:.5f} {:.5f} {:.5f} (on the [0,1] scale)\n", moments.covariance_eigenvalues[0],
                      moments.covariance_eigenvalues[1], moments.covariance_eigenvalues[2]);
  return text;
}

std::string InfoJson(const Manifest& manifest, const std::string& store) {
  Json json = Json::object(), classes = Json::array();
  for (const auto& info : manifest.classes) classes.push_back({{"synset", info.synset}, {"words", info.words}});
  json["name"] = manifest.name;
  json["store"] = AbsolutePath(store);
  json["format_version"] = manifest.format_version;
  json["created"] = manifest.created;
  json["source"] = manifest.source;
  json["store_seed"] = manifest.store_seed;
  json["resize"] = manifest.resize;
  json["channels"] = manifest.channels;
  json["splits"] = SplitsJson(manifest);
  json["moments"] = MomentsJson(manifest.moments);
  json["classes"] = std::move(classes);
  return Line(json);
}

std::string VerifyText(const VerifyReport& report, const std::string& store) {
  const std::string checked = fmt::format("{} shards, {} files, {} records, {} in {}", report.shards, report.files, report.records,
                                          HumanBytes(report.bytes), HumanDuration(report.seconds));
  if (report.problems.empty()) return fmt::format("{}: sound: {}\n", store, checked);
  std::string text =
      fmt::format("{}: {} problem{}: read {}\n", store, report.problems.size(), report.problems.size() == 1 ? "" : "s", checked);
  for (const auto& problem : report.problems) {
    const std::string place =
        problem.shard.empty() || problem.file.empty() ? problem.shard + problem.file : problem.shard + "/" + problem.file;
    text += fmt::format("  {}: {}\n", place, problem.what);
    for (size_t i = 0; i < std::min(kRecordsShown, problem.records.size()); ++i) {
      const auto& record = problem.records[i];
      text += fmt::format("    record key {} source ordinal {}{}\n", record.slot, record.source_ordinal,
                          record.name.empty() ? "" : " name " + record.name);
    }
    if (problem.records.size() > kRecordsShown)
      text += fmt::format("    and {} more (--json lists all)\n", problem.records.size() - kRecordsShown);
  }
  return text + "  put the named files back from a copy, or ingest again with --overwrite\n";
}

std::string VerifyJson(const VerifyReport& report, const std::string& store) {
  Json json = Json::object(), problems = Json::array();
  for (const auto& problem : report.problems) {
    Json records = Json::array();
    for (const auto& record : problem.records)
      records.push_back({{"key", record.slot}, {"source_ordinal", record.source_ordinal}, {"name", record.name}});
    problems.push_back({{"shard", problem.shard}, {"file", problem.file}, {"what", problem.what}, {"records", std::move(records)}});
  }
  json["store"] = AbsolutePath(store);
  json["sound"] = report.problems.empty();
  json["shards"] = report.shards;
  json["files"] = report.files;
  json["records"] = report.records;
  json["bytes"] = report.bytes;
  json["seconds"] = report.seconds;
  json["problems"] = std::move(problems);
  return Line(json);
}

std::string SynthesizeText(const SynthesizeOptions& options, const std::string& out, const std::string& format) {
  return fmt::format("{}: {} training and {} validation images in {} classes, as {}\n", out, options.train, options.val,
                     options.classes, format == "folder" ? "class folders" : "train.tar, val.tar, val.txt, synset_words.txt");
}

std::string SynthesizeJson(const SynthesizeOptions& options, const std::string& out, const std::string& format) {
  Json json = Json::object();
  json["out"] = AbsolutePath(out);
  json["format"] = format;
  json["classes"] = options.classes;
  json["train"] = options.train;
  json["val"] = options.val;
  json["size"] = options.side;
  json["seed"] = options.seed;
  return Line(json);
}

}  // namespace plateau
