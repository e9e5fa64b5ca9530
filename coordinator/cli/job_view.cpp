// Reading the API's objects; a null or missing field keeps its default.
#include "coordinator/cli/job_view.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

const Json& Part(const Json& object, const char* name) {
  static const Json kNone;
  if (!object.is_object()) return kNone;
  const auto found = object.find(name);
  return found == object.end() ? kNone : *found;
}

std::string Text(const Json& object, const char* name) {
  const Json& value = Part(object, name);
  return value.is_string() ? value.get<std::string>() : "";
}

template <typename T>
T Number(const Json& object, const char* name) {
  const Json& value = Part(object, name);
  return value.is_number() ? value.get<T>() : T{};
}

std::optional<double> Maybe(const Json& object, const char* name) {
  const Json& value = Part(object, name);
  return value.is_number() ? std::optional<double>(value.get<double>()) : std::nullopt;
}

std::vector<WorkerRow> ReadWorkers(const Json& list) {
  std::vector<WorkerRow> rows;
  for (const auto& item : list)
    rows.push_back({Number<int>(item, "rank"), Text(item, "host"), Number<int64_t>(item, "pid"), Number<int64_t>(item, "step"),
                    Text(item, "phase"), Number<double>(item, "heartbeat_age_s"), Text(item, "gpu")});
  return rows;
}

// "localhost: GPUs 0,1; n2: GPU 3"; empty on the CPU.
std::string ReadGpus(const Json& nodes) {
  std::string text;
  for (const auto& node : nodes) {
    std::string ids;
    for (const auto& id : Part(node, "gpus"))
      if (id.is_string()) ids += (ids.empty() ? "" : ",") + id.get<std::string>();
    if (ids.empty()) continue;
    const char* kind = ids.find(',') == std::string::npos ? "GPU" : "GPUs";
    text += fmt::format("{}{}: {} {}", text.empty() ? "" : "; ", Text(node, "node"), kind, ids);
  }
  return text;
}

std::vector<AttemptRow> ReadAttempts(const Json& list) {
  std::vector<AttemptRow> rows;
  for (const auto& item : list) {
    const auto exit_code = Maybe(item, "exit_code");
    rows.push_back({Number<int>(item, "number"), Text(item, "state"), Text(item, "reason"), Text(item, "started"),
                    Text(item, "ended"), exit_code ? std::optional<int>(static_cast<int>(*exit_code)) : std::nullopt,
                    ReadGpus(Part(item, "nodes"))});
  }
  return rows;
}

}  // namespace

bool JobView::Ended() const { return state == "COMPLETED" || state == "FAILED" || state == "CANCELLED"; }

bool JobView::Rests() const { return Ended() || state == "PAUSED"; }

double JobView::Share() const {
  if (state == "COMPLETED") return 1;
  const double by_epochs = max_epochs > 0 ? epoch / max_epochs : 0;
  const double by_steps = max_steps > 0 ? static_cast<double>(step) / static_cast<double>(max_steps) : 0;
  return std::clamp(std::max(by_epochs, by_steps), 0.0, 1.0);
}

double JobView::RemainingSeconds() const {
  if (!images_per_s || *images_per_s <= 0 || global_batch <= 0 || Share() <= 0) return -1;
  const double all_steps = static_cast<double>(step) / Share();
  return (all_steps - static_cast<double>(step)) * static_cast<double>(global_batch) / *images_per_s;
}

int JobView::ExitCode() const {
  if (state == "COMPLETED") return 0;
  return state == "FAILED" && reason == "NAN_LOSS" ? 3 : 1;
}

JobView ReadJobView(const Json& job) {
  JobView view;
  view.id = Text(job, "id");
  view.name = Text(job, "name");
  view.kind = Text(job, "kind");
  view.pipeline = Text(job, "pipeline");
  view.last_event = Number<int64_t>(job, "last_event");
  view.top1_error = Maybe(Part(job, "result"), "top1_error");
  view.top5_error = Maybe(Part(job, "result"), "top5_error");
  view.state = Text(job, "state");
  view.reason = Text(job, "reason");
  if (view.reason == view.state) view.reason.clear();  // says nothing more
  view.message = Text(job, "message");
  view.created = Text(job, "created");
  view.started = Text(job, "started");
  view.ended = Text(job, "ended");
  view.network = Text(job, "network");
  view.device = Text(job, "device");
  view.device_why = Text(job, "device_why");
  view.output = Text(job, "output");
  view.priority = Number<int>(job, "priority");
  view.step = Number<int64_t>(job, "step");
  view.max_steps = Number<int64_t>(job, "max_steps");
  view.epoch = Number<double>(job, "epoch");
  view.max_epochs = Number<int>(job, "max_epochs");
  view.ran_s = Number<double>(job, "ran_s");
  view.ran_in_all_s = Maybe(job, "ran_in_all_s");
  view.time_limit_s = Number<double>(job, "time_limit_s");
  view.loss = Maybe(job, "loss");
  view.lr = Maybe(job, "lr");
  view.images_per_s = Maybe(job, "images_per_s");
  view.best = Maybe(Part(job, "best"), "value");
  view.best_metric = Text(Part(job, "best"), "metric");
  view.best_validation = Number<int>(Part(job, "best"), "validation");
  view.attempt = Number<int>(job, "attempt");
  view.restarts = Number<int>(job, "restarts");
  view.max_restarts = Number<int>(job, "max_restarts");
  view.checkpoint_path = Text(Part(job, "checkpoint"), "path");
  view.checkpoint_step = Number<int64_t>(Part(job, "checkpoint"), "step");
  view.global_batch = Number<int64_t>(Part(Part(job, "spec"), "training"), "global_batch");
  view.workers = ReadWorkers(Part(job, "workers"));
  view.attempts = ReadAttempts(Part(job, "attempts"));
  return view;
}

std::vector<ValidationRow> ReadValidations(const Json& metrics) {
  std::vector<ValidationRow> rows;
  for (const auto& item : Part(metrics, "validations"))
    rows.push_back({Number<int>(item, "number"), Number<int64_t>(item, "step"), Number<double>(item, "epoch"),
                    Number<double>(item, "top1_error"), Number<double>(item, "top5_error"), Number<double>(item, "loss")});
  return rows;
}

std::vector<EventRowView> ReadEvents(const Json& events) {
  std::vector<EventRowView> rows;
  for (const auto& item : Part(events, "events"))
    rows.push_back({Number<int64_t>(item, "seq"), Text(item, "time"), Text(item, "type"), Text(item, "message")});
  return rows;
}

std::vector<DecisionRow> ReadDecisions(const Json& lr_history) {
  std::vector<DecisionRow> rows;
  for (const auto& item : Part(lr_history, "decisions"))
    rows.push_back({Number<int>(item, "validation"), Number<int64_t>(item, "step"), Number<double>(item, "epoch"),
                    Number<double>(item, "value"), Number<double>(item, "lr"), Text(item, "action"), Text(item, "reason"),
                    Part(item, "improved") == true});
  return rows;
}

}  // namespace plateau
