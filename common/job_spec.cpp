// The schema: every section of a specification, its defaults, ranges and bad combinations.
#include "common/job_spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/spec_reader.h"
#include "common/text.h"

namespace plateau {
namespace {

using nlohmann::json;

constexpr double kHuge = 1e12;

std::string Absolute(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error).lexically_normal().string();
  return error ? path : absolute.size() > 1 && absolute.back() == '/' ? absolute.substr(0, absolute.size() - 1) : absolute;
}

// "1ep", "500it", "30m".
Result<Interval> ParseInterval(const json& value, const std::string& field) {
  const auto refuse = [&] {
    return Fail(ErrorCode::kInvalidInput, "{}: {} is not an interval; write epochs (1ep), iterations (500it) or a time (30m, 90s, 2h)", field,
                value.dump());
  };
  if (!value.is_string()) return refuse();
  const std::string text = value.get<std::string>();
  double amount = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), amount);
  if (error != std::errc() || !(amount > 0) || !std::isfinite(amount)) return refuse();
  const std::string unit(rest, text.data() + text.size());
  if (unit == "ep") return Interval{Interval::Unit::kEpochs, amount};
  if (unit == "it") return std::floor(amount) == amount ? Result<Interval>(Interval{Interval::Unit::kIterations, amount}) : refuse();
  auto seconds = ParseDuration(text, field);
  if (!seconds) return refuse();
  return Interval{Interval::Unit::kSeconds, *seconds};
}

void ReadInterval(SpecReader& reader, const char* field, const std::string& where, Interval& out) {
  if (const auto* value = reader.Value(field)) {
    auto interval = ParseInterval(*value, where + "." + field);
    if (interval) out = *interval;
    else reader.Refuse(field, interval.error().message.substr(interval.error().message.find(": ") + 2));
  }
}

// "conv1_1", ["conv1_1", "fc6"], "all" or "vgg-first4-fc3".
void ReadLayers(SpecReader& reader, std::vector<std::string>& layers) {
  const auto* value = reader.Value("layers");
  if (value == nullptr) return;
  const json list = value->is_array() ? *value : json::array({*value});
  const auto named = [](const json& name) { return name.is_string() && !name.get<std::string>().empty(); };
  if (list.empty() || !std::all_of(list.begin(), list.end(), named))
    return reader.Refuse("layers", value->dump() + " is neither all, nor vgg-first4-fc3, nor a list of layer names");
  layers = list.get<std::vector<std::string>>();
  for (const char* group : {"all", "vgg-first4-fc3"})
    if (layers.size() > 1 && std::find(layers.begin(), layers.end(), group) != layers.end())
      reader.Refuse("layers", fmt::format("\"{}\" stands for a group of layers and goes alone, without other names", group));
}

Status ReadInitFrom(SpecReader reader, JobSpec::InitFrom& from) {
  reader.Text("job", from.job);
  reader.Text("checkpoint", from.checkpoint);
  if (from.job.empty() == from.checkpoint.empty())
    reader.Refuse("job", "give exactly one of job (a job's name or id) and checkpoint (a folder)");
  ReadLayers(reader, from.layers);
  reader.Choice("on_mismatch", {"refuse", "skip"}, from.on_mismatch);
  from.checkpoint = from.checkpoint.empty() ? "" : Absolute(from.checkpoint);
  return reader.Finish();
}

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
  if (const auto* from = reader.Value("init_from"); from != nullptr && !from->is_null())
    reader.Adopt(ReadInitFrom(reader.Section("init_from"), spec.model.init_from.emplace()));
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
  reader.OnlyValue("precision", "fp32", "bf16 and tf32 come with the CUDA backend");
  reader.OnlyValue("fc_exchange", "allreduce", "factors are not implemented yet");
  return reader.Finish();
}

Status ReadLr(SpecReader reader, JobSpec& spec) {
  auto& lr = spec.lr;
  reader.Real("initial", 1e-12, 1e6, lr.initial);
  std::string policy = "plateau";
  reader.Choice("policy", {"plateau", "constant"}, policy);
  lr.kind = policy == "plateau" ? LrKind::kPlateau : LrKind::kConstant;
  reader.Choice("metric", {"val_top1_error", "val_top5_error", "val_loss"}, spec.lr_metric);
  reader.Real("factor", 1e-6, 0.999999, lr.factor);
  reader.Integer("patience", 0, 1000000, lr.patience);
  reader.Real("threshold", 0, 0.999999, lr.threshold);
  reader.Integer("cooldown", 0, 1000000, lr.cooldown);
  reader.Integer("max_decays", 0, 1000, lr.max_decays);
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
  std::string device = "auto";
  reader.Choice("device", {"auto", "cpu", "cuda"}, device);
  resources.device = device == "cpu" ? DeviceKind::kCpu : device == "cuda" ? DeviceKind::kCuda : DeviceKind::kAuto;
  reader.Integer("threads_per_worker", 1, 1024, resources.threads_per_worker);
  reader.Integer("priority", 0, 100, resources.priority);
  if (const auto* limit = reader.Value("time_limit")) {
    auto seconds = ParseDuration(limit->is_string() ? limit->get<std::string>() : limit->dump(), "time_limit");
    if (!seconds) reader.Refuse("time_limit", seconds.error().message.substr(12));
    else if (*seconds < 1) reader.Refuse("time_limit", limit->dump() + " is shorter than 1s");
    else resources.time_limit_s = *seconds;
  }
  if (resources.workers > spec.training.global_batch)
    reader.Refuse("workers", fmt::format("{} workers cannot share a global batch of {}; use at most {} workers", resources.workers,
                                         spec.training.global_batch, spec.training.global_batch));
  resources.min_workers = resources.workers;
  reader.Integer("min_workers", 1, 65536, resources.min_workers);
  if (resources.min_workers > resources.workers)
    reader.Refuse("min_workers", fmt::format("{} is more than resources.workers ({}); it is the smallest number of workers that the job may "
                                             "start with", resources.min_workers, resources.workers));
  reader.OnlyValue("max_workers", resources.workers, "jobs never get more workers than resources.workers");
  reader.OnlyValue("collective", "mpi", "NCCL comes with the CUDA backend");
  return reader.Finish();
}

Status ReadRest(SpecReader& root, JobSpec& spec) {
  SpecReader checkpoint = root.Section("checkpoint");
  ReadInterval(checkpoint, "every", "checkpoint", spec.checkpoint.every);
  checkpoint.Integer("keep_last", 1, 1000000, spec.checkpoint.keep_last);
  checkpoint.Integer("keep_best", 0, 1000000, spec.checkpoint.keep_best);
  PLATEAU_TRY(checkpoint.Finish());
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
  root.Choice("kind", {"train"}, spec.kind);
  root.Text("name", spec.name, true);
  if (!spec.name.empty()) PLATEAU_TRY(CheckName(root, spec.name));
  root.Text("output", spec.output, true);
  for (const char* section : {"model", "data", "training", "lr", "validation", "resources", "checkpoint", "fault", "reproducibility"})
    root.Value(section);
  PLATEAU_TRY(root.Finish());
  PLATEAU_TRY(ReadModel(root.Section("model"), spec));
  PLATEAU_TRY(ReadData(root.Section("data"), spec));
  PLATEAU_TRY(ReadTraining(root.Section("training"), spec, force));
  PLATEAU_TRY(ReadLr(root.Section("lr"), spec));
  PLATEAU_TRY(ReadValidation(root.Section("validation"), spec));
  PLATEAU_TRY(ReadResources(root.Section("resources"), spec));
  PLATEAU_TRY(ReadRest(root, spec));
  spec.output = Absolute(spec.output);
  spec.data.store = Absolute(spec.data.store);
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

namespace {

nlohmann::ordered_json ModelToJson(const JobSpec::Model& model) {
  using Json = nlohmann::ordered_json;
  Json out{{"network", model.network}, {"width", model.width}};
  if (!model.init_from) return out;
  const JobSpec::InitFrom& from = *model.init_from;
  Json init = from.job.empty() ? Json{{"checkpoint", from.checkpoint}} : Json{{"job", from.job}};
  init["layers"] = from.layers.size() == 1 ? Json(from.layers[0]) : Json(from.layers);
  init["on_mismatch"] = from.on_mismatch;
  out["init_from"] = std::move(init);
  return out;
}

}  // namespace

nlohmann::ordered_json JobSpecToJson(const JobSpec& spec) {
  using Json = nlohmann::ordered_json;
  const auto& d = spec.data;
  const auto& t = spec.training;
  const Json scale = d.train_scale_low == d.train_scale_high ? Json(d.train_scale_low) : Json{d.train_scale_low, d.train_scale_high};
  Json training{{"global_batch", t.global_batch}, {"max_epochs", t.max_epochs}};
  if (t.max_steps) training["max_steps"] = *t.max_steps;
  training.update({{"momentum", t.momentum}, {"weight_decay", t.weight_decay}, {"weight_decay_bias", t.weight_decay_bias},
                   {"dropout", t.dropout}, {"init", InitSchemeText(t.init)}, {"micro_batch", t.micro_batch > 0 ? Json(t.micro_batch) : Json("auto")}});
  Json resources{{"workers", spec.resources.workers}, {"min_workers", spec.resources.min_workers}};
  const char* device = spec.resources.device == DeviceKind::kCpu ? "cpu" : spec.resources.device == DeviceKind::kCuda ? "cuda" : "auto";
  resources.update({{"device", device}, {"threads_per_worker", spec.resources.threads_per_worker}, {"priority", spec.resources.priority}});
  if (spec.resources.time_limit_s > 0) resources["time_limit"] = fmt::format("{}s", spec.resources.time_limit_s);
  return Json{
      {"version", spec.version},
      {"kind", spec.kind},
      {"name", spec.name},
      {"output", spec.output},
      {"model", ModelToJson(spec.model)},
      {"data", {{"store", d.store}, {"train_scale", scale}, {"crop", d.crop},
                {"normalize", d.normalize == Normalize::kMean ? "mean" : "mean_std"}, {"augment", {{"flip", d.flip}, {"colour", d.colour}}}}},
      {"training", training},
      {"lr", {{"initial", spec.lr.initial}, {"policy", LrKindName(spec.lr.kind)}, {"metric", spec.lr_metric}, {"factor", spec.lr.factor},
              {"patience", spec.lr.patience}, {"threshold", spec.lr.threshold}, {"cooldown", spec.lr.cooldown}, {"max_decays", spec.lr.max_decays}}},
      {"validation", {{"every", IntervalText(spec.validation.every)}, {"scale", spec.validation.scale}}},
      {"resources", resources},
      {"checkpoint", {{"every", IntervalText(spec.checkpoint.every)}, {"keep_last", spec.checkpoint.keep_last}, {"keep_best", spec.checkpoint.keep_best}}},
      {"fault", {{"max_restarts", spec.fault.max_restarts}, {"hang_timeout", fmt::format("{}s", spec.fault.hang_timeout_s)}}},
      {"reproducibility", {{"seed", spec.reproducibility.seed}, {"mode", spec.reproducibility.mode}}}};
}

Result<double> ParseDuration(std::string_view text, const std::string& field) {
  double amount = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), amount);
  const std::string_view unit(rest, static_cast<size_t>(text.data() + text.size() - rest));
  const double factor = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 0;
  if (error != std::errc() || factor == 0 || !(amount > 0) || amount * factor > kHuge)
    return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is not a duration; write a number and a unit: 90s, 30m, 2h or 1.5d", field, text);
  return amount * factor;
}

std::string IntervalText(const Interval& interval) {
  switch (interval.unit) {
    case Interval::Unit::kEpochs: return fmt::format("{}ep", interval.amount);
    case Interval::Unit::kIterations: return fmt::format("{}it", static_cast<int64_t>(interval.amount));
    case Interval::Unit::kSeconds: return fmt::format("{}s", interval.amount);
  }
  return "1ep";
}

std::string InitSchemeText(const InitScheme& init) {
  switch (init.kind) {
    case InitScheme::Kind::kHe: return "he";
    case InitScheme::Kind::kGlorot: return "glorot";
    case InitScheme::Kind::kGaussian: return fmt::format("gaussian({})", init.sigma);
  }
  return "he";
}

Result<InitScheme> ParseInitScheme(std::string_view text, const std::string& field) {
  if (text == "he") return InitScheme{InitScheme::Kind::kHe};
  if (text == "glorot") return InitScheme{InitScheme::Kind::kGlorot};
  if (text == "gaussian") return InitScheme{InitScheme::Kind::kGaussian};
  constexpr std::string_view kFront = "gaussian(";
  if (text.starts_with(kFront) && text.ends_with(")")) {
    double sigma = 0;
    const char* end = text.data() + text.size() - 1;
    const auto [rest, error] = std::from_chars(text.data() + kFront.size(), end, sigma);
    if (error == std::errc() && rest == end && sigma > 0 && sigma < 100) return InitScheme{InitScheme::Kind::kGaussian, sigma};
  }
  return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is not an initialisation; use he, glorot or gaussian(0.01)", field, text);
}

}  // namespace plateau
