// Reading and drawing pipelines.
#include "coordinator/cli/pipeline_view.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/text.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

std::string Text(const Json& object, const char* name) {
  return object.contains(name) && object.at(name).is_string() ? object.at(name).get<std::string>() : "";
}

std::string Age(const std::string& since, const std::string& until, int64_t now_ms) {
  const int64_t begin_ms = ParseUtcMs(since);
  if (begin_ms < 0) return "-";
  const int64_t end_ms = until.empty() ? now_ms : ParseUtcMs(until);
  return HumanDuration(static_cast<double>(std::max<int64_t>(end_ms - begin_ms, 0)) / 1000);
}

std::string StateText(const Style& style, const std::string& state) { return style.Paint(StateColour(state), state); }

std::string Progress(const Style& style, const JobView& job) {
  if (job.kind == "evaluate") return job.state == "COMPLETED" ? "tested" : "-";
  return fmt::format("{} {:3.0f}%", Bar(style, job.Share(), 10), job.Share() * 100);
}

}  // namespace

int PipelineRow::Jobs() const {
  int jobs = 0;
  for (const auto& [state, count] : counts) jobs += count;
  return jobs;
}

int PipelineRow::Completed() const {
  const auto found = counts.find("COMPLETED");
  return found == counts.end() ? 0 : found->second;
}

bool PipelineRow::Rests() const { return state != "RUNNING" && state != "QUEUED" && state != "HELD"; }

PipelineRow ReadPipelineRow(const Json& pipeline) {
  PipelineRow row;
  if (!pipeline.is_object()) return row;
  row.id = Text(pipeline, "id");
  row.name = Text(pipeline, "name");
  row.state = Text(pipeline, "state");
  row.created = Text(pipeline, "created");
  row.ended = Text(pipeline, "ended");
  if (pipeline.contains("counts") && pipeline.at("counts").is_object())
    for (const auto& [state, count] : pipeline.at("counts").items())
      if (count.is_number_integer()) row.counts[state] = count;
  return row;
}

std::string FindPipelineId(const ApiClient& client, const std::string& text) {
  const auto list = client.Get("/v1/pipelines");
  if (!list || !list->is_object()) return {};
  std::vector<std::string> runs;
  for (const auto& item : list->value("pipelines", Json::array())) {
    const PipelineRow row = ReadPipelineRow(item);
    if (row.id == text) return text;
    if (row.name == text) runs.push_back(row.id);
  }
  return runs.size() == 1 ? runs.front() : std::string();
}

std::string PipelinePath(const std::string& id, const std::string& tail) { return "/v1/pipelines/" + EscapeUrl(id) + tail; }

std::string CountsText(const PipelineRow& pipeline) {
  std::string text = fmt::format("{} of {} COMPLETED", pipeline.Completed(), pipeline.Jobs());
  for (const auto& [state, count] : pipeline.counts)
    if (state != "COMPLETED") text += fmt::format(", {} {}", count, state);
  return text;
}

std::string RenderPipelines(const Style& style, const std::vector<PipelineRow>& pipelines, int64_t now_ms) {
  if (pipelines.empty()) return {};
  Table table({"PIPELINE", "STATE", "PROGRESS", "TIME", "JOBS"});
  table.RightAlign({3});
  for (const auto& one : pipelines) {
    const double share = one.Jobs() > 0 ? static_cast<double>(one.Completed()) / one.Jobs() : 0;
    table.Add({one.id, StateText(style, one.state), fmt::format("{} {:3.0f}%", Bar(style, share, 10), share * 100),
               Age(one.created, one.ended, now_ms), CountsText(one)});
  }
  return table.Render(style);
}

std::string RenderPipeline(const Style& style, const PipelineRow& pipeline, const std::vector<JobView>& jobs, int64_t now_ms) {
  std::string out = fmt::format("{}  {}  {}  {}\n\n", style.Paint(Colour::kBold, pipeline.id), StateText(style, pipeline.state),
                                Age(pipeline.created, pipeline.ended, now_ms), CountsText(pipeline));
  Table table({"JOB", "STATE", "NETWORK", "PROGRESS", "TOP-1 ERROR", "TIME", "MESSAGE"});
  table.RightAlign({4, 5});
  for (const auto& job : jobs) {
    const auto error = job.kind == "evaluate" ? job.top1_error : job.best;
    table.Add({job.id, StateText(style, job.state), job.network.empty() ? "-" : job.network, Progress(style, job),
               error ? MetricText(job.kind == "evaluate" ? "error" : job.best_metric, *error) : "-",
               TimeText(job, now_ms), job.state == "COMPLETED" ? "" : job.message});
  }
  return out + table.Render(style);
}

}  // namespace plateau
