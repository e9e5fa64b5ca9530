// Command line of `plateau-worker fuse`: the mean of several posteriors files, and its errors.
#include "worker/fuse_verb.h"

#include <memory>

#include <nlohmann/json.hpp>

#include "worker/collective/single.h"
#include "worker/evaluate/posteriors_file.h"
#include "worker/evaluate_report.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  std::vector<std::string> files;
  std::string posteriors;
  bool json = false;
};

std::string Field(const std::map<std::string, std::string>& metadata, const std::string& name) {
  const auto found = metadata.find(name);
  return found == metadata.end() ? "" : found->second;
}

Json CountsToJson(const TestCounts& counts) {
  return {{"images", counts.images()},         {"correct1", counts.correct1()},     {"correct5", counts.correct5()},
          {"top1_error", counts.top1_error()}, {"top5_error", counts.top5_error()}, {"loss", counts.mean_loss()}};
}

void PrintJson(const Fusion& fusion, const std::string& written) {
  Json out{{"version", 1}, {"kind", "fuse"}};
  out.update(CountsToJson(fusion.counts));
  for (const char* name : {"store", "split", "split_checksum"}) out[name] = Field(fusion.mean.head.metadata, name);
  out["posteriors"] = written.empty() ? Json(nullptr) : Json(written);
  out["models"] = Json::array();
  for (const FusedPart& part : fusion.parts) {
    Json model = CountsToJson(part.counts);
    model["file"] = part.path;
    for (const char* name : {"checkpoint", "checkpoint_checksum", "network", "scales", "mode", "flip"})
      model[name] = Field(part.metadata, name);
    out["models"].push_back(std::move(model));
  }
  fmt::print("{}\n", out.dump(2));
}

void PrintText(const Fusion& fusion, const std::string& written) {
  for (const FusedPart& part : fusion.parts)
    fmt::print("{}: {} {} at {}: {}\n", part.path, Field(part.metadata, "network"), Field(part.metadata, "mode"),
               Field(part.metadata, "scales"), ErrorsText(part.counts));
  fmt::print("mean of {}: {}\n", fusion.parts.size(), ErrorsText(fusion.counts));
  if (!written.empty()) fmt::print("posteriors in {}\n", written);
}

Status RunFuse(const Flags& flags) {
  PosixFileSystem files;
  PLATEAU_ASSIGN(const Fusion fusion, FusePosteriors(files, flags.files, false));
  if (!flags.posteriors.empty()) {
    PosteriorsPart all{.images = std::vector<int64_t>(fusion.mean.head.labels.size()), .values = fusion.mean.values};
    for (size_t i = 0; i < all.images.size(); ++i) all.images[i] = static_cast<int64_t>(i);
    SingleCollective alone;
    PLATEAU_TRY(WritePosteriors(files, alone, flags.posteriors, fusion.mean.head, all));
  }
  if (flags.json)
    PrintJson(fusion, flags.posteriors);
  else
    PrintText(fusion, flags.posteriors);
  return {};
}

}  // namespace

void AddFuseVerb(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("fuse", "Average the posteriors of several models and count their errors");
  verb->footer(
      "The files come from `plateau evaluate --posteriors`, all on the same images; others are refused.\n"
      "Examples:\n"
      "  plateau fuse d.safetensors e.safetensors\n"
      "  plateau fuse d-256.safetensors d-384.safetensors e.safetensors --json --posteriors d-and-e.safetensors");
  verb->add_option("files", flags->files, "Posteriors files")->required();
  verb->add_option("--posteriors", flags->posteriors, "Write the mean to this file");
  verb->add_flag("--json", flags->json, "The result as JSON");
  verb->callback([flags, &exit_code] {
    const Status status = RunFuse(*flags);
    if (status) return;
    fmt::print(stderr, "plateau-worker fuse: {}\n", status.error().message);
    exit_code = ExitCode(status.error().code);
  });
}

}  // namespace plateau
