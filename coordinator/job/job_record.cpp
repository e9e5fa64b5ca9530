// JSON texts of what the store keeps.
#include "coordinator/job/job_record.h"

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "common/clock.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kRecordVersion = 1;

// JSON has no infinity and no NaN: null stands for the value that `absent` names on reading.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
double ToNumber(const Json& value, double absent) { return value.is_null() ? absent : value.get<double>(); }
const double kNotANumber = std::numeric_limits<double>::quiet_NaN();
const double kInfinite = std::numeric_limits<double>::infinity();

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json SharesJson(const Attempt& a) {
  Json shares = Json::array();
  for (const auto& share : a.shares)
    shares.push_back({{"node", share.node}, {"workers", share.workers}, {"cores", share.cores}, {"gpus", share.gpus}});
  return shares;
}

// A record of an earlier version knows cores of this machine only, its number of workers is in the specification; a later one knows
// no GPUs.
std::vector<NodeShare> ParseShares(const Json& j, int workers) {
  if (j.contains("cores")) return {{kLocalNode, workers, j.at("cores").get<std::vector<int>>()}};
  std::vector<NodeShare> shares;
  for (const auto& one : j.at("shares"))
    shares.push_back({one.at("node"), one.at("workers"), one.at("cores").get<std::vector<int>>(),
                      one.value("gpus", std::vector<std::string>{})});
  return shares;
}

Json AttemptJson(const Attempt& a) {
  return {{"number", a.number},     {"token", a.token},
          {"state", a.state},       {"reason", a.reason},
          {"message", a.message},   {"finished", a.finished},
          {"retry", a.retry},       {"shares", SharesJson(a)},
          {"device", a.device},     {"device_why", a.device_why},
          {"external", a.external}, {"missing_gpus", a.missing_gpus},
          {"key", a.key},           {"started_ms", a.started_ms},
          {"ended_ms", a.ended_ms}, {"exit_code", a.exit_code}};
}

Attempt ParseAttempt(const Json& j, int workers) {
  Attempt a;
  a.number = j.at("number");
  a.token = j.at("token");
  a.state = j.at("state");
  a.reason = j.at("reason");
  a.message = j.at("message");
  a.finished = j.at("finished");
  a.retry = j.at("retry");
  a.shares = ParseShares(j, workers);
  a.device = j.value("device", "");
  a.device_why = j.value("device_why", "");
  a.missing_gpus = j.value("missing_gpus", std::vector<std::string>{});  // absent in records of earlier releases
  a.started_ms = j.at("started_ms");
  a.ended_ms = j.at("ended_ms");
  a.exit_code = j.at("exit_code");
  a.external = j.value("external", false);  // absent in records of the first release
  a.key = j.value("key", "");
  return a;
}

Json CheckpointJson(const CheckpointRecord& c) {
  return {{"step", c.step},         {"validation", c.validation}, {"metric", Number(c.metric)}, {"path", c.path},
          {"checksum", c.checksum}, {"bytes", c.bytes},           {"lineage", c.lineage},       {"order", c.order}};
}

CheckpointRecord ParseCheckpoint(const Json& j) {
  return {j.at("step"),  j.at("validation"),    ToNumber(j.at("metric"), kNotANumber), j.at("path"), j.at("checksum"),
          j.at("bytes"), j.value("lineage", 0), j.value("order", int64_t{0})};
}

const char* StopText(StopTarget stop) {
  switch (stop) {
    case StopTarget::kNone: return "";
    case StopTarget::kCancel: return "cancel";
    case StopTarget::kPause: return "pause";
    case StopTarget::kTimeLimit: return "time_limit";
  }
  return "";
}

Json LrStateJson(const LrState& s) {
  return {
      {"lr", s.lr},   {"best", Number(s.best)},           {"validations", s.validations}, {"best_validation", s.best_validation},
      {"bad", s.bad}, {"cooldown_left", s.cooldown_left}, {"decays", s.decays},           {"stopped", s.stopped}};
}

LrState ParseLrState(const Json& j) {
  return {j.at("lr"),          ToNumber(j.at("best"), kInfinite),
          j.at("validations"), j.at("best_validation"),
          j.at("bad"),         j.at("cooldown_left"),
          j.at("decays"),      j.at("stopped")};
}

Json CurveJson(const Curve& p) {
  return {{"step", p.step},
          {"epoch", p.epoch},
          {"loss", Number(p.loss)},
          {"lr", Number(p.lr)},
          {"images_per_s", Number(p.images_per_s)}};
}

Curve ParseCurve(const Json& j) {
  return {j.at("step"), j.at("epoch"), ToNumber(j.at("loss"), kNotANumber), ToNumber(j.at("lr"), 0),
          ToNumber(j.at("images_per_s"), 0)};
}

// Runs `parse` on the text's JSON; every exception of the JSON library becomes an error that names `what`.
template <typename T, typename Parse>
Result<T> Parsed(std::string_view text, const char* what, Parse parse) {
  try {
    const Json json = Json::parse(text);
    if (json.at("v") != kRecordVersion) {
      return Fail(ErrorCode::kCorrupt, "{} has version {}, this coordinator reads {}; use the coordinator that wrote this state",
                  what, json.at("v").dump(), kRecordVersion);
    }
    return parse(json);
  } catch (const nlohmann::json::exception& error) {
    return Fail(ErrorCode::kCorrupt, "{} in the state store cannot be read: {}", what, error.what());
  }
}

Result<Job> JobFromJson(const Json& j) {
  Job job;
  job.id = j.at("id");
  job.pipeline = j.value("pipeline", "");  // absent in records of earlier releases
  if (j.contains("result")) job.result = j.at("result").dump();
  auto spec = ParseJobSpecText(j.at("spec").dump(), "stored spec of job " + job.id, true);
  if (!spec) return Fail(std::move(spec.error()));
  job.spec = std::make_shared<const JobSpec>(std::move(*spec));
  const auto state = JobStateFromName(j.at("state"));
  if (!state) return Fail(ErrorCode::kCorrupt, "job record {}: state {} is not known", job.id, j.at("state").dump());
  job.state = *state;
  job.reason = j.at("reason");
  job.message = j.at("message");
  for (const StopTarget stop : {StopTarget::kCancel, StopTarget::kPause, StopTarget::kTimeLimit})
    if (j.at("stop") == StopText(stop)) job.stop = stop;
  job.created_ms = j.at("created_ms");
  job.started_ms = j.at("started_ms");
  job.ended_ms = j.at("ended_ms");
  job.queued_ms = j.at("queued_ms");
  job.restarts = j.at("restarts");
  job.last_event = j.at("last_event");
  job.ran_ms = j.value("ran_ms", int64_t{0});  // absent in records of the first release
  job.checkpoint_order = j.value("checkpoint_order", int64_t{0});
  job.checkpoint_ordered = j.value("checkpoint_ordered", false);
  for (const auto& one : j.at("attempts")) job.attempts.push_back(ParseAttempt(one, job.spec->resources.workers));
  job.lr = ParseLrState(j.at("lr"));
  job.curve = ParseCurve(j.at("curve"));
  for (const auto& one : j.at("checkpoints")) job.checkpoints.push_back(ParseCheckpoint(one));
  job.publish_pending = j.at("publish_pending");
  job.removals_pending = j.at("removals_pending").get<std::vector<std::string>>();
  return job;
}

}  // namespace

std::string JobRecordText(const Job& job) {
  Json attempts = Json::array(), checkpoints = Json::array();
  for (const auto& one : job.attempts) attempts.push_back(AttemptJson(one));
  for (const auto& one : job.checkpoints) checkpoints.push_back(CheckpointJson(one));
  Json record{{"v", kRecordVersion}, {"id", job.id}};
  if (!job.pipeline.empty()) record["pipeline"] = job.pipeline;
  if (!job.result.empty()) record["result"] = Json::parse(job.result, nullptr, false);
  record.update(Json{
                   {"state", JobStateName(job.state)},
                   {"reason", job.reason},
                   {"message", job.message},
                   {"stop", StopText(job.stop)},
                   {"created_ms", job.created_ms},
                   {"started_ms", job.started_ms},
                   {"ended_ms", job.ended_ms},
                   {"queued_ms", job.queued_ms},
                   {"restarts", job.restarts},
                   {"last_event", job.last_event},
                   {"ran_ms", job.ran_ms},
                   {"checkpoint_order", job.checkpoint_order},
                   {"checkpoint_ordered", job.checkpoint_ordered},
                   {"attempts", attempts},
                   {"lr", LrStateJson(job.lr)},
                   {"curve", CurveJson(job.curve)},
                   {"checkpoints", checkpoints},
                   {"publish_pending", job.publish_pending},
                   {"removals_pending", job.removals_pending},
                   {"spec", JobSpecToJson(*job.spec)}});
  return Dump(record);
}

Result<Job> ParseJobRecord(std::string_view text) { return Parsed<Job>(text, "a job record", JobFromJson); }

std::string DecidedValidationText(const DecidedValidation& r) {
  const auto& v = r.report;
  const auto& d = r.decision;
  return Dump(Json{{"v", kRecordVersion},
                   {"number", v.number},
                   {"step", v.step},
                   {"epoch", v.epoch},
                   {"images", v.images},
                   {"top1_correct", v.top1_correct},
                   {"top5_correct", v.top5_correct},
                   {"loss", Number(v.loss)},
                   {"value", Number(r.value)},
                   {"action", LrActionName(d.action)},
                   {"lr", d.lr},
                   {"improved", d.improved},
                   {"reason", d.reason},
                   {"time_ms", r.time_ms}});
}

Result<DecidedValidation> ParseDecidedValidation(std::string_view text) {
  return Parsed<DecidedValidation>(text, "a validation record", [](const Json& j) -> Result<DecidedValidation> {
    DecidedValidation r;
    r.report = {j.at("number"),
                j.at("step"),
                j.at("epoch"),
                j.at("images"),
                j.at("top1_correct"),
                j.at("top5_correct"),
                ToNumber(j.at("loss"), kNotANumber)};
    const std::string action = j.at("action");
    r.decision = {r.report.number,
                  action == LrActionName(LrAction::kDecay)  ? LrAction::kDecay
                  : action == LrActionName(LrAction::kStop) ? LrAction::kStop
                                                            : LrAction::kKeep,
                  j.at("lr"), j.at("improved"), j.at("reason")};
    r.value = ToNumber(j.at("value"), kNotANumber);
    r.time_ms = j.at("time_ms");
    return r;
  });
}

std::string EventRowText(const EventRow& row) {
  Json json{{"seq", row.seq}, {"time", FormatUtc(row.time_ms)}, {"type", row.type}};
  if (row.attempt > 0) json["attempt"] = row.attempt;
  json["message"] = row.message;
  for (const auto& [name, value] : row.fields) {
    if (const auto* real = std::get_if<double>(&value))
      json[name] = Number(*real);
    else
      std::visit([&](const auto& one) { json[name] = one; }, value);
  }
  return Dump(json);
}

std::string CurveText(const Curve& point) { return Dump(CurveJson(point)); }

}  // namespace plateau
