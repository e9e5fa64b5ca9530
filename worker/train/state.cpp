// state.json: encoding, decoding, and the questions a resume asks of it.
#include "worker/train/state.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include <nlohmann/json.hpp>

#include "common/compute.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kStateVersion = 1;

// JSON has no infinity and no NaN: they are null.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
double NumberOr(const Json& value, double absent) { return value.is_null() ? absent : value.get<double>(); }

Json LrStateToJson(const LrState& s) {
  return {
      {"lr", s.lr},   {"best", Number(s.best)},           {"validations", s.validations}, {"best_validation", s.best_validation},
      {"bad", s.bad}, {"cooldown_left", s.cooldown_left}, {"decays", s.decays},           {"stopped", s.stopped}};
}

LrState LrStateFromJson(const Json& j) {
  return {.lr = j.at("lr"),
          .best = NumberOr(j.at("best"), std::numeric_limits<double>::infinity()),
          .validations = j.at("validations"),
          .best_validation = j.at("best_validation"),
          .bad = j.at("bad"),
          .cooldown_left = j.at("cooldown_left"),
          .decays = j.at("decays"),
          .stopped = j.at("stopped")};
}

Json RecordToJson(const ValidationRecord& r) {
  return {{"validation", r.report.number},
          {"step", r.report.step},
          {"epoch", r.report.epoch},
          {"images", r.report.images},
          {"top1_correct", r.report.top1_correct},
          {"top5_correct", r.report.top5_correct},
          {"loss", Number(r.report.loss)},
          {"value", Number(r.value)},
          {"action", LrActionName(r.decision.action)},
          {"lr", r.decision.lr},
          {"improved", r.decision.improved},
          {"reason", r.decision.reason}};
}

LrAction ActionFromName(const std::string& name) {
  for (const LrAction action : {LrAction::kKeep, LrAction::kDecay, LrAction::kStop})
    if (name == LrActionName(action)) return action;
  throw std::invalid_argument("action \"" + name + "\" is none of keep, decay, stop");
}

ValidationRecord RecordFromJson(const Json& j) {
  ValidationRecord r;
  r.report = {.number = j.at("validation"),
              .step = j.at("step"),
              .epoch = j.at("epoch"),
              .images = j.at("images"),
              .top1_correct = j.at("top1_correct"),
              .top5_correct = j.at("top5_correct"),
              .loss = NumberOr(j.at("loss"), std::nan(""))};
  r.value = NumberOr(j.at("value"), std::nan(""));
  r.decision = {.validation = r.report.number,
                .action = ActionFromName(j.at("action")),
                .lr = j.at("lr"),
                .improved = j.at("improved"),
                .reason = j.at("reason")};
  return r;
}

Json FingerprintToJson(const Fingerprint& f) {
  return {{"ranks", f.ranks},         {"threads_per_rank", f.threads_per_rank},
          {"lanes", f.lanes},         {"micro_batch", f.micro_batch},
          {"device", f.device},       {"precision", f.precision},
          {"libraries", f.libraries}, {"algorithms", f.algorithms}};
}

// Files of the first releases name no precision; then the CPU had but one.
std::string PrecisionFromJson(const Json& j) {
  const bool cpu = j.at("device").get<std::string>().starts_with("cpu");
  return j.value("precision", cpu ? PrecisionName(Precision::kFp32) : "");
}

Fingerprint FingerprintFromJson(const Json& j) {
  return {.ranks = j.at("ranks"),
          .threads_per_rank = j.at("threads_per_rank"),
          .lanes = j.at("lanes"),
          .micro_batch = j.at("micro_batch"),
          .device = j.at("device"),
          .precision = PrecisionFromJson(j),
          .libraries = j.at("libraries"),
          .algorithms = j.at("algorithms")};
}

Json PreprocessingToJson(const RunIdentity& id) {
  const Preprocessing& p = id.preprocessing;
  return {{"channel_order", "RGB"},
          {"mean", p.mean},
          {"standard_deviation", p.standard_deviation},
          {"crop", p.crop},
          {"train_scale", {p.scale_low, p.scale_high}},
          {"validation_scale", id.validation_scale},
          {"flip", p.flip},
          {"colour", p.colour}};
}

void PreprocessingFromJson(const Json& j, RunIdentity& id) {
  Preprocessing& p = id.preprocessing;
  p.mean = j.at("mean");
  p.standard_deviation = j.at("standard_deviation");
  p.crop = j.at("crop");
  p.scale_low = j.at("train_scale").at(0);
  p.scale_high = j.at("train_scale").at(1);
  p.flip = j.at("flip");
  p.colour = j.at("colour");
  id.validation_scale = j.at("validation_scale");
}

// The newest validation, for whoever decides what to keep.
Json MetricToJson(const CheckpointState& state) {
  if (state.train.history.empty()) return nullptr;
  const ValidationRecord& last = state.train.history.back();
  return {{"name", state.identity.metric},
          {"value", Number(last.value)},
          {"validation", last.report.number},
          {"step", last.report.step}};
}

// False where one of them is not known.
bool PrecisionDiffers(const Fingerprint& now, const Fingerprint& then) {
  return !now.precision.empty() && !then.precision.empty() && now.precision != then.precision;
}

std::string PrecisionWords(const std::string& precision) {
  if (precision == PrecisionName(Precision::kBf16)) return "bf16 (8 significant bits)";
  if (precision == PrecisionName(Precision::kTf32)) return "fp32 with products of tf32 (11 significant bits)";
  return precision + " (24 significant bits)";
}

}  // namespace

std::string EncodeState(const CheckpointState& state) {
  const RunIdentity& id = state.identity;
  const TrainState& train = state.train;
  Json history = Json::array(), classes = Json::array();
  for (const ValidationRecord& record : train.history) history.push_back(RecordToJson(record));
  for (const ClassInfo& c : id.classes) classes.push_back({{"synset", c.synset}, {"words", c.words}});
  const int64_t position = train.step * id.global_batch;
  const int64_t images = std::max<int64_t>(id.images, 1);  // imported weights have seen none that are known
  const Json json = {
      {"version", kStateVersion},
      {"job", id.job},
      {"attempt", id.attempt},
      {"lineage", id.lineage},
      {"step", train.step},
      {"end_reason", train.end_reason},
      {"stream", {{"position", position}, {"epoch", position / images}, {"in_epoch", position % images}}},
      {"metric", MetricToJson(state)},
      {"lr", {{"state", LrStateToJson(train.lr)}, {"history", history}}},
      {"last_validation_step", train.last_validation_step},
      {"seconds_since_validation", train.seconds_since_validation},
      {"seconds_since_checkpoint", train.seconds_since_checkpoint},
      {"model", {{"network", id.network}, {"width", id.width}}},
      {"global_batch", id.global_batch},
      {"preprocessing", PreprocessingToJson(id)},
      {"store", {{"name", id.store_name}, {"checksum", id.store_checksum}, {"images", id.images}}},
      {"fingerprint", FingerprintToJson(id.fingerprint)},
      {"largest_lane", id.largest_lane},
      {"algorithm_choices", id.choices},
      {"spec", Json::parse(id.spec_json)},
      {"classes", classes},
  };
  return json.dump(2) + "\n";
}

Result<CheckpointState> DecodeState(const std::string& text, const std::string& path) {
  try {
    const Json j = Json::parse(text);
    if (j.at("version") != kStateVersion)
      return Fail(ErrorCode::kUnsupported, "{}: state version {}, this build reads {}; use the build that wrote it", path,
                  j.at("version").dump(), kStateVersion);
    CheckpointState state;
    RunIdentity& id = state.identity;
    id.job = j.at("job");
    id.attempt = j.at("attempt");
    id.lineage = j.at("lineage");
    id.metric = j.at("metric").is_null() ? "" : j.at("metric").at("name");
    id.network = j.at("model").at("network");
    id.width = j.at("model").at("width");
    id.global_batch = j.at("global_batch");
    PreprocessingFromJson(j.at("preprocessing"), id);
    id.store_name = j.at("store").at("name");
    id.store_checksum = j.at("store").at("checksum");
    id.images = j.at("store").at("images");
    id.fingerprint = FingerprintFromJson(j.at("fingerprint"));
    id.largest_lane = j.value("largest_lane", -1);
    if (j.contains("algorithm_choices")) j.at("algorithm_choices").get_to(id.choices);  // absent before there were devices
    id.spec_json = j.at("spec").dump();
    for (const Json& c : j.at("classes")) id.classes.push_back({.synset = c.at("synset"), .words = c.at("words")});
    TrainState& train = state.train;
    train.step = j.at("step");
    train.end_reason = j.at("end_reason");
    train.lr = LrStateFromJson(j.at("lr").at("state"));
    for (const Json& r : j.at("lr").at("history")) train.history.push_back(RecordFromJson(r));
    train.last_validation_step = j.at("last_validation_step");
    train.seconds_since_validation = j.at("seconds_since_validation");
    train.seconds_since_checkpoint = j.at("seconds_since_checkpoint");
    return state;
  } catch (const std::exception& fault) {
    return Fail(ErrorCode::kCorrupt, "{}: {}; use an older checkpoint", path, fault.what());
  }
}

std::string WhyNotResumable(const RunIdentity& now, const RunIdentity& then) {
  const auto differs = [](const char* what, const auto& a, const auto& b) {
    return fmt::format("{} is {} now and was {} in the checkpoint", what, a, b);
  };
  if (now.network != then.network) return differs("model.network", now.network, then.network);
  if (now.width != then.width) return differs("model.width", now.width, then.width);
  if (now.classes.size() != then.classes.size()) return differs("the number of classes", now.classes.size(), then.classes.size());
  if (now.global_batch != then.global_batch) return differs("training.global_batch", now.global_batch, then.global_batch);
  if (now.store_checksum != then.store_checksum)
    return differs("the training set's checksum", now.store_checksum, then.store_checksum);
  const Preprocessing &a = now.preprocessing, &b = then.preprocessing;
  if (a.crop != b.crop) return differs("data.crop", a.crop, b.crop);
  for (size_t c = 0; c < 3; ++c) {
    if (a.mean[c] != b.mean[c]) return differs("the subtracted mean", a.mean[c], b.mean[c]);
    if (a.standard_deviation[c] != b.standard_deviation[c])
      return differs("the standard deviation that pixels are divided by (data.normalize)", a.standard_deviation[c],
                     b.standard_deviation[c]);
  }
  const auto seed = [](const std::string& spec) { return Json::parse(spec).at("reproducibility").at("seed").dump(); };
  if (seed(now.spec_json) != seed(then.spec_json))
    return differs("reproducibility.seed", seed(now.spec_json), seed(then.spec_json));
  return "";
}

std::string DifferenceMeans(const Fingerprint& now, const Fingerprint& then, bool batch_norm) {
  if (PrecisionDiffers(now, then))
    return fmt::format(
        "from here on values are {} and were {}: losses and weights differ as between two runs of these precisions, from "
        "the first step on and by far more than their last bits",
        PrecisionWords(now.precision), PrecisionWords(then.precision));
  const auto cut = [](const Fingerprint& f) { return std::tie(f.ranks, f.lanes, f.micro_batch); };
  if (batch_norm && cut(now) != cut(then))
    return "batch norm takes mean and variance of other lanes from here on, so that this is another run, not one whose last bits "
           "differ";
  return "sums are formed by other algorithms or in another order: a step's results differ in their last bits, and later steps "
         "build on "
         "that";
}

std::string FingerprintDifference(const Fingerprint& now, const Fingerprint& then) {
  std::string text;
  const auto add = [&](const char* what, const auto& a, const auto& b) {
    if (a != b) text += fmt::format("{}{} {} (was {})", text.empty() ? "" : ", ", what, a, b);
  };
  add("ranks", now.ranks, then.ranks);
  add("threads", now.threads_per_rank, then.threads_per_rank);
  add("lanes", now.lanes, then.lanes);
  add("micro-batch", now.micro_batch, then.micro_batch);
  add("device", now.device, then.device);
  if (PrecisionDiffers(now, then)) add("precision", now.precision, then.precision);
  add("libraries", now.libraries, then.libraries);
  if (text.empty() && now.algorithms != then.algorithms) text = "algorithms of some layers";
  return text;
}

}  // namespace plateau
