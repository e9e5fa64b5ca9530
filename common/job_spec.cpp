// The schema: every section of a specification, its defaults, ranges and bad combinations.
#include "common/job_spec.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/spec_sections.h"
#include "common/text.h"

namespace plateau {
namespace {

using nlohmann::json;

Status ReadModel(SpecReader reader, JobSpec& spec) {
  reader.Text("network", spec.model.network, true);
  if (!spec.model.network.empty()) {
    const auto& known = KnownNetworks();
    if (std::find(known.begin(), known.end(), spec.model.network) == known.end()) {
      const std::string nearest = NearestName(spec.model.network, known);
      reader.Refuse("network", fmt::format("unknown network \"{}\"{}; this version knows {}", spec.model.network,
                                           nearest.empty() ? "" : ", did you mean " + nearest + "?", JoinNames(known)));
    }
  }
  reader.Real("width", 0.001, 16, spec.model.width);
  if (reader.Value("init_from") != nullptr) {
    auto from = ReadInitFrom(reader.Section("init_from"));
    if (!from) reader.Adopt(Fail(std::move(from.error())));
    else spec.model.init_from = std::move(*from);
  }
  return reader.Finish();
}

Status ReadData(SpecReader reader, JobSpec& spec) {
  auto& data = spec.data;
  reader.Text("store", data.store, true);
  reader.Integer("crop", 8, 4096, data.crop);
  data.train_scale_low = data.train_scale_high = std::max(256, data.crop);
  if (const auto* scale = reader.Value("train_scale")) {
    const json pair = scale->is_array() ? *scale : json::array({*scale, *scale});
    if (pair.size() != 2 || !pair[0].is_number_integer() || !pair[1].is_number_integer() || pair[0] < 1 || pair[1] > 16384 || pair[0] > pair[1]) {
      reader.Refuse("train_scale", scale->dump() + " is neither a whole number nor a range [low, high], low <= high");
    } else {
      data.train_scale_low = pair[0];
      data.train_scale_high = pair[1];
      if (data.train_scale_low < data.crop)
        reader.Refuse("train_scale", fmt::format("{} is smaller than the crop {}; make the scale at least {} or the crop smaller",
                                                 data.train_scale_low, data.crop, data.crop));
    }
  }
  std::string normalize = "mean_std";
  reader.Choice("normalize", {"mean", "mean_std"}, normalize);
  data.normalize = normalize == "mean" ? Normalize::kMean : Normalize::kMeanStd;
  SpecReader augment = reader.Section("augment");
  augment.Boolean("flip", data.flip);
  augment.Boolean("colour", data.colour);
  reader.Adopt(augment.Finish());
  return reader.Finish();
}

Status ReadTraining(SpecReader reader, JobSpec& spec, bool force) {
  auto& training = spec.training;
  reader.Integer("global_batch", 1, 1 << 20, training.global_batch);
  reader.Integer("max_epochs", 1, 1000000, training.max_epochs);
  reader.Integer64("max_steps", 1, int64_t{1} << 40, training.max_steps);
  reader.Real("momentum", 0, 0.99999, training.momentum);
  reader.Real("weight_decay", 0, 1, training.weight_decay);
  reader.Boolean("weight_decay_bias", training.weight_decay_bias);
  reader.Real("dropout", 0, 0.95, training.dropout);
  if (const auto* init = reader.Value("init")) {
    auto scheme = ParseInitScheme(init->is_string() ? init->get<std::string>() : init->dump(), "init");
    if (scheme) training.init = *scheme;
    else reader.Refuse("init", scheme.error().message.substr(6));
  }
  if (spec.data.normalize == Normalize::kMean && training.init.kind != InitScheme::Kind::kGaussian && !force)
    reader.Refuse("init", InitSchemeText(training.init) +
                              " with data.normalize: mean diverges (inputs of about +-128; NaN in the first epoch was seen); use normalize: "
                              "mean_std, or init: gaussian(0.01), or --force");
  if (const auto* micro = reader.Value("micro_batch"); micro != nullptr && *micro != "auto") {
    if (!micro->is_number_integer() || *micro < 1) reader.Refuse("micro_batch", micro->dump() + " is neither \"auto\" nor a whole number from 1 on");
    else training.micro_batch = *micro;
  }
  ReadPrecision(reader, training.precision);
  reader.OnlyValue("fc_exchange", "allreduce", "factors are not implemented yet");
  return reader.Finish();
}

Status ReadValidation(SpecReader reader, JobSpec& spec) {
  ReadInterval(reader, "every", "validation", spec.validation.every);
  spec.validation.scale = std::max((spec.data.train_scale_low + spec.data.train_scale_high) / 2, spec.data.crop);
  reader.Integer("scale", 1, 16384, spec.validation.scale);
  if (spec.validation.scale < spec.data.crop)
    reader.Refuse("scale", fmt::format("{} is smaller than data.crop {}; make it at least {}", spec.validation.scale, spec.data.crop, spec.data.crop));
  return reader.Finish();
}

Status ReadResources(SpecReader reader, JobSpec& spec) {
  auto& resources = spec.resources;
  reader.Integer("workers", 1, 65536, resources.workers);
  if (const auto* device = reader.Value("device")) {
    const auto kind = ParseDeviceKind(device->is_string() ? device->get<std::string>() : device->dump(), "device");
    if (kind)
      resources.device = *kind;
    else
      reader.Refuse("device", kind.error().message.substr(8));
  }
  std::string collective = "auto";
  reader.Choice("collective", {"auto", "mpi", "nccl"}, collective);
  resources.collective = *ParseCollectiveKind(collective, "collective");
  if (resources.collective == CollectiveKind::kNccl && resources.device == DeviceKind::kCpu)
    reader.Refuse("collective", "nccl with device: cpu: NCCL joins CUDA devices; leave the field out, or use device: cuda");
  reader.Integer("threads_per_worker", 1, 1024, resources.threads_per_worker);
  reader.Integer("priority", 0, 100, resources.priority);
  if (const auto* limit = reader.Value("time_limit")) {
    auto seconds = ParseDuration(limit->is_string() ? limit->get<std::string>() : limit->dump(), "time_limit");
    if (!seconds) reader.Refuse("time_limit", seconds.error().message.substr(12));
    else if (*seconds < 1) reader.Refuse("time_limit", limit->dump() + " is shorter than 1s");
    else resources.time_limit_s = *seconds;
  }
  if (spec.kind == "train" && resources.workers > spec.training.global_batch)
    reader.Refuse("workers", fmt::format("{} workers cannot share a global batch of {}; use at most {} workers", resources.workers,
                                         spec.training.global_batch, spec.training.global_batch));
  resources.min_workers = resources.workers;
  reader.Integer("min_workers", 1, 65536, resources.min_workers);
  if (resources.min_workers > resources.workers)
    reader.Refuse("min_workers", fmt::format("{} is more than resources.workers ({}); it is the smallest number of workers that the job may "
                                             "start with", resources.min_workers, resources.workers));
  reader.OnlyValue("max_workers", resources.workers, "jobs never get more workers than resources.workers");
  return reader.Finish();
}

Status ReadCheckpoint(SpecReader checkpoint, JobSpec& spec) {
  ReadInterval(checkpoint, "every", "checkpoint", spec.checkpoint.every);
  checkpoint.Integer("keep_last", 1, 1000000, spec.checkpoint.keep_last);
  checkpoint.Integer("keep_best", 0, 1000000, spec.checkpoint.keep_best);
  return checkpoint.Finish();
}

Status ReadRest(SpecReader& root, JobSpec& spec) {
  SpecReader fault = root.Section("fault");
  fault.Integer("max_restarts", 0, 1000000, spec.fault.max_restarts);
  if (const auto* timeout = fault.Value("hang_timeout")) {
    auto seconds = ParseDuration(timeout->is_string() ? timeout->get<std::string>() : timeout->dump(), "hang_timeout");
    if (!seconds) fault.Refuse("hang_timeout", seconds.error().message.substr(14));
    else if (*seconds < 2) fault.Refuse("hang_timeout", timeout->dump() + " is shorter than 2s, the time between two heartbeats and a margin");
    else spec.fault.hang_timeout_s = *seconds;
  }
  PLATEAU_TRY(fault.Finish());
  SpecReader reproducibility = root.Section("reproducibility");
  reproducibility.Unsigned64("seed", spec.reproducibility.seed);
  reproducibility.OnlyValue("mode", "exact", "canonical mode is not implemented yet");
  reproducibility.OnlyValue("lanes", 8, "lanes belong to canonical mode");
  return reproducibility.Finish();
}

// A job whose checkpoint is taken has to complete first; depends_on cannot ask for less.
Status CheckSources(const JobSpec& spec, const std::string& where) {
  const std::string& warm = spec.model.init_from ? spec.model.init_from->job : "";
  for (const auto& one : spec.depends_on) {
    if (one.condition == DependencyCondition::kCompleted || (one.job != warm && one.job != spec.evaluate.job)) continue;
    return Fail(ErrorCode::kInvalidInput,
                "{}: depends_on: {} with condition {}, but {} takes its checkpoint and waits for it to complete; take it out of depends_on", where,
                one.job, DependencyConditionName(one.condition), one.job == warm ? "model.init_from" : "evaluate.job");
  }
  return {};
}

Status CheckName(SpecReader& root, const std::string& name) {
  const bool plain = !name.empty() && name.size() <= 100 && name[0] != '.' && name[0] != '-' &&
                     name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == std::string::npos;
  if (!plain) root.Refuse("name", "\"" + name + "\" is not a name: use letters, digits, '.', '_' and '-' (at most 100, not beginning with '.' or '-')");
  return {};
}

}  // namespace

const std::vector<std::string>& KnownNetworks() {
  static const std::vector<std::string> kNames{"vgg-a",     "vgg-a-lrn", "vgg-b",     "vgg-c",      "vgg-d",     "vgg-e",
                                               "vgg-a-bn",  "vgg-b-bn",  "vgg-d-bn",  "vgg-e-bn",   "lenet",     "alexnet",
                                               "zfnet",     "googlenet", "resnet-18", "resnet-34",  "resnet-50", "resnet-101",
                                               "resnet-152"};
  return kNames;
}

Result<JobSpec> ParseJobSpecJson(const json& value, const std::string& where, bool force) {
  JobSpec spec;
  SpecReader root(&value, where, "");
  root.Integer("version", 1, 1, spec.version, true);
  if (value.is_object() && value.contains("kind") && value.at("kind") == "pipeline")
    root.Refuse("kind", "a pipeline is many jobs; submit it to a coordinator with `plateau submit`");
  root.Choice("kind", {"train", "evaluate"}, spec.kind);
  root.Text("name", spec.name, true);
  if (!spec.name.empty()) PLATEAU_TRY(CheckName(root, spec.name));
  root.Text("output", spec.output, true);
  const bool evaluates = spec.kind == "evaluate";
  const std::vector<const char*> sections =
      evaluates ? std::vector<const char*>{"evaluate"}
                : std::vector<const char*>{"model", "data", "training", "lr", "validation", "checkpoint"};
  for (const char* section : sections) root.Value(section);
  for (const char* section : {"resources", "fault", "reproducibility", "depends_on"}) root.Value(section);
  PLATEAU_TRY(root.Finish());
  spec.output = Absolute(spec.output);
  PLATEAU_ASSIGN(spec.depends_on, ReadDependencies(root));
  if (evaluates) {
    PLATEAU_ASSIGN(spec.evaluate, ReadEvaluation(root.Section("evaluate")));
  } else {
    PLATEAU_TRY(ReadModel(root.Section("model"), spec));
    PLATEAU_TRY(ReadData(root.Section("data"), spec));
    PLATEAU_TRY(ReadTraining(root.Section("training"), spec, force));
    PLATEAU_TRY(ReadLr(root.Section("lr"), spec));
    PLATEAU_TRY(ReadValidation(root.Section("validation"), spec));
    PLATEAU_TRY(ReadCheckpoint(root.Section("checkpoint"), spec));
    spec.data.store = Absolute(spec.data.store);
  }
  PLATEAU_TRY(ReadResources(root.Section("resources"), spec));
  const auto& precision = evaluates ? spec.evaluate.precision : spec.training.precision;
  if (const std::string wrong = WrongPrecision(precision, spec.resources.device); !wrong.empty())
    return Fail(ErrorCode::kInvalidInput, "{}: {}.precision: {}", where, evaluates ? "evaluate" : "training", wrong);
  PLATEAU_TRY(ReadRest(root, spec));
  if (!force) PLATEAU_TRY(CheckSources(spec, where));
  return spec;
}

Result<JobSpec> ParseJobSpecText(std::string_view text, const std::string& where, bool force) {
  PLATEAU_ASSIGN(const auto document, YamlToJson(text, where));
  return ParseJobSpecJson(json(document), where, force);
}

Result<JobSpec> LoadJobSpec(const std::string& path, bool force) {
  PosixFileSystem files;
  PLATEAU_ASSIGN(const std::string text, files.Read(path));
  return ParseJobSpecText(text, path, force);
}

}  // namespace plateau
