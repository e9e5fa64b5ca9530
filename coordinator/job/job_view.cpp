// JSON views of a job.
#include "coordinator/job/job_view.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "common/clock.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
Json TextOrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }
Json Time(int64_t unix_ms) { return unix_ms > 0 ? Json(FormatUtc(unix_ms)) : Json(nullptr); }
std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json BestJson(const Job& job) {
  if (job.lr.best_validation < 1 || job.lr.best_validation > static_cast<int>(job.validations.size())) return nullptr;
  const auto& best = *job.validations[static_cast<size_t>(job.lr.best_validation) - 1];
  return {{"metric", job.spec->lr_metric},
          {"value", Number(best.value)},
          {"validation", best.report.number},
          {"step", best.report.step}};
}

Json CheckpointJson(const Job& job) {
  if (job.checkpoints.empty()) return nullptr;
  return {{"path", job.checkpoints.back().path}, {"step", job.checkpoints.back().step}};
}

// The newest result of an evaluation; null while there is none.
Json ResultJson(const std::string& text) {
  Json result = text.empty() ? Json(nullptr) : Json::parse(text, nullptr, false);
  return result.is_object() ? result : Json(nullptr);
}

// The network that a job trains, or has tested.
Json NetworkJson(const Job& job) {
  if (job.Trains()) return job.spec->model.network;
  const Json result = ResultJson(job.result);
  return result.is_object() && result.contains("network") ? result.at("network") : Json("");
}

// Of each rank of the current attempt; empty: it runs on the CPU.
std::vector<std::string> GpusByRank(const Job& job) {
  std::vector<std::string> gpus;
  if (job.Current() != nullptr)
    for (const auto& share : job.Current()->shares) gpus.insert(gpus.end(), share.gpus.begin(), share.gpus.end());
  return gpus;
}

Json WorkersJson(const Job& job, Moment now) {
  Json workers = Json::array();
  const auto gpus = GpusByRank(job);
  for (const auto& w : job.workers) {
    if (!w.seen) continue;
    workers.push_back({{"rank", w.rank},
                       {"host", w.host},
                       {"pid", w.pid},
                       {"gpu", static_cast<size_t>(w.rank) < gpus.size() ? Json(gpus[static_cast<size_t>(w.rank)]) : Json(nullptr)},
                       {"step", w.step},
                       {"phase", w.phase},
                       {"heartbeat_age_s", static_cast<double>(now.monotonic_ms - w.heard_ms) / 1000.0},
                       {"progress_age_s", static_cast<double>(now.monotonic_ms - w.moved_ms) / 1000.0}});
  }
  return workers;
}

Json AttemptsJson(const Job& job) {
  Json attempts = Json::array();
  for (const auto& a : job.attempts) {
    Json nodes = Json::array();
    for (const auto& share : a.shares)
      nodes.push_back({{"node", share.node}, {"workers", share.workers}, {"cores", share.cores}, {"gpus", share.gpus}});
    attempts.push_back({{"number", a.number},
                        {"state", a.state},
                        {"reason", a.reason},
                        {"message", a.message},
                        {"started", Time(a.started_ms)},
                        {"ended", Time(a.ended_ms)},
                        {"exit_code", a.exit_code >= 0 ? Json(a.exit_code) : Json(nullptr)},
                        {"external", a.external},
                        {"device", TextOrNull(a.device)},
                        {"device_why", TextOrNull(a.device_why)},
                        {"nodes", nodes}});
  }
  return attempts;
}

// Running time that counts towards resources.time_limit.
double RanSeconds(const Job& job, Moment now) {
  int64_t ran_ms = job.ran_ms;
  if (HasProcesses(job.state)) ran_ms += std::max<int64_t>(0, now.unix_ms - job.Current()->started_ms);
  return static_cast<double>(ran_ms) / 1000.0;
}

// Running time of all its attempts: neither waiting nor pauses, as `started` and `ended` alone would have it.
double RanInAllSeconds(const Job& job, Moment now) {
  int64_t ran_ms = 0;
  for (const auto& a : job.attempts)
    ran_ms += std::max<int64_t>(0, (a.ended_ms > 0 ? a.ended_ms : HasProcesses(job.state) ? now.unix_ms : a.started_ms) - a.started_ms);
  return static_cast<double>(ran_ms) / 1000.0;
}

// Of the newest attempt.
Json DeviceJson(const Job& job) { return job.Current() == nullptr ? Json(nullptr) : TextOrNull(job.Current()->device); }
Json DeviceWhyJson(const Job& job) { return job.Current() == nullptr ? Json(nullptr) : TextOrNull(job.Current()->device_why); }

Json JobJson(const Job& job, Moment now, bool summary) {
  const double limit_s = job.spec->resources.time_limit_s;
  int64_t step = job.curve.step;
  if (!job.workers.empty() && job.workers[0].seen) step = std::max(step, job.workers[0].step);
  Json json{{"id", job.id},
            {"name", job.spec->name},
            {"kind", job.spec->kind},
            {"pipeline", job.pipeline.empty() ? Json(nullptr) : Json(job.pipeline)},
            {"state", JobStateName(job.state)},
            {"reason", job.reason},
            {"message", job.message},
            {"created", Time(job.created_ms)},
            {"started", Time(job.started_ms)},
            {"ended", Time(job.ended_ms)},
            {"priority", job.spec->resources.priority},
            {"network", NetworkJson(job)},
            {"device", DeviceJson(job)},
            {"device_why", DeviceWhyJson(job)},
            {"step", step},
            {"max_steps", job.spec->training.max_steps ? Json(*job.spec->training.max_steps) : Json(nullptr)},
            {"epoch", job.curve.epoch},
            {"max_epochs", job.Trains() ? Json(job.spec->training.max_epochs) : Json(nullptr)},
            {"loss", job.curve.step > 0 ? Number(job.curve.loss) : Json(nullptr)},
            {"lr", VariesByStep(job.spec->lr) && job.curve.step > 0 ? Number(job.curve.lr) : Json(job.lr.lr)},
            {"images_per_s", Number(job.curve.images_per_s)},
            {"best", BestJson(job)},
            {"attempt", job.attempts.size()},
            {"restarts", job.restarts},
            {"max_restarts", job.spec->fault.max_restarts},
            {"ran_s", RanSeconds(job, now)},
            {"ran_in_all_s", RanInAllSeconds(job, now)},
            {"time_limit_s", limit_s > 0 ? Json(limit_s) : Json(nullptr)},
            {"checkpoint", CheckpointJson(job)},
            {"checkpoint_order", {{"number", job.checkpoint_order}, {"open", job.checkpoint_ordered}}},
            {"output", job.OutputFolder()},
            {"last_event", job.last_event}};
  if (!job.Trains()) {
    json["lr"] = nullptr;
    json["result"] = ResultJson(job.result);
  }
  if (summary) return json;
  Json dependencies = Json::array();
  for (const auto& one : AllDependencies(*job.spec))
    dependencies.push_back({{"job", one.job}, {"condition", DependencyConditionName(one.condition)}});
  json["depends_on"] = dependencies;
  json["workers"] = WorkersJson(job, now);
  json["attempts"] = AttemptsJson(job);
  json["spec"] = JobSpecToJson(*job.spec);
  return json;
}

std::string Joined(std::span<const std::string> texts) {
  std::string joined;
  for (const auto& text : texts) {
    if (!joined.empty()) joined += ',';
    joined += text;
  }
  return joined;
}

// The rate of the step that follows a validation. The report's epoch says how many images the split has.
double RateAfter(const Job& job, const DecidedValidation& one) {
  if (!(one.report.epoch > 0)) return one.decision.lr;
  const double batch = static_cast<double>(job.spec->training.global_batch);
  const auto images = static_cast<int64_t>(std::llround(static_cast<double>(one.report.step) * batch / one.report.epoch));
  return RateAt(job.spec->lr, one.decision.lr, LengthOf(*job.spec, images), one.report.step);
}

}  // namespace

std::string JobViewText(const Job& job, Moment now, bool summary) { return Dump(JobJson(job, now, summary)); }

std::string JobListText(std::span<const std::shared_ptr<const Job>> jobs, Moment now) {
  Json list = Json::array();
  for (const auto& job : jobs) list.push_back(JobJson(*job, now, true));
  return Dump({{"jobs", list}});
}

std::string EvaluationSummary(const std::string& result) {
  const Json json = ResultJson(result);
  const auto number = [&json](const char* name) {
    return json.is_object() && json.contains(name) && json.at(name).is_number() ? json.at(name).get<double>() : 0.0;
  };
  return fmt::format("top-1 error {:.4f}, top-5 error {:.4f} over {:.0f} images", number("top1_error"), number("top5_error"), number("images"));
}

std::string LrHistoryText(const Job& job) {
  auto policy = JobSpecToJson(*job.spec).value("lr", Json::object());
  policy.erase("metric");
  Json decisions = Json::array();
  for (const auto& one : job.validations) {
    const auto& d = one->decision;
    decisions.push_back({{"validation", d.validation},
                         {"step", one->report.step},
                         {"epoch", one->report.epoch},
                         {"value", Number(one->value)},
                         {"action", LrActionName(d.action)},
                         {"lr", d.lr},
                         {"rate", RateAfter(job, *one)},
                         {"improved", d.improved},
                         {"reason", d.reason},
                         {"time", Time(one->time_ms)}});
  }
  return Dump({{"policy", policy},
               {"metric", job.spec->lr_metric},
               {"decisions", decisions}});
}

std::string MetricsText(const Job& job, std::span<const std::string> points) {
  Json validations = Json::array();
  for (const auto& one : job.validations) {
    const auto& v = one->report;
    validations.push_back({{"number", v.number},
                           {"step", v.step},
                           {"epoch", v.epoch},
                           {"images", v.images},
                           {"top1_error", v.Top1Error()},
                           {"top5_error", v.Top5Error()},
                           {"loss", Number(v.loss)}});
  }
  return "{\"points\":[" + Joined(points) + "],\"validations\":" + Dump(validations) + "}";
}

std::string EventsText(std::span<const std::string> events, int64_t last) {
  return "{\"events\":[" + Joined(events) + "],\"last\":" + std::to_string(last) + "}";
}

}  // namespace plateau
