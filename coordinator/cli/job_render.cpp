// Jobs as text: the table, the page of one job, the live view.
#include <algorithm>

#include <fmt/format.h>

#include "common/text.h"
#include "coordinator/cli/job_view.h"

namespace plateau {
namespace {

std::string OrDash(const std::optional<double>& value) { return value ? Figure(*value) : "-"; }

std::string Age(const std::string& since, const std::string& until, int64_t now_ms) {
  const int64_t begin = ParseUtcMs(since);
  if (begin < 0) return "-";
  const int64_t end = until.empty() ? now_ms : ParseUtcMs(until);
  return HumanDuration(static_cast<double>(std::max<int64_t>(end - begin, 0)) / 1000);
}

std::string EpochText(const JobView& job) {
  if (job.max_epochs > 0) return fmt::format("{:.2f}/{}", job.epoch, job.max_epochs);
  return fmt::format("{:.2f}", job.epoch);
}

std::string BestText(const JobView& job) {
  if (job.top1_error) return MetricText("error", *job.top1_error);
  return job.best ? MetricText(job.best_metric, *job.best) : "-"; }

std::string StateText(const Style& style, const JobView& job) { return style.Paint(StateColour(job.state), job.state); }

// "  key        value"
void AddField(std::string& out, const Style& style, const char* key, const std::string& value) {
  if (!value.empty()) out += fmt::format("  {}{}\n", style.Paint(Colour::kDim, fmt::format("{:<12}", key)), value);
}

std::string ValidationTable(const Style& style, const std::vector<ValidationRow>& validations, size_t newest) {
  Table table({"VALIDATION", "EPOCH", "STEP", "TOP-1 ERROR", "TOP-5 ERROR", "LOSS"});
  table.RightAlign({0, 1, 2, 3, 4, 5});
  const size_t begin = validations.size() > newest ? validations.size() - newest : 0;
  for (size_t i = begin; i < validations.size(); ++i) {
    const auto& row = validations[i];
    table.Add({std::to_string(row.number), fmt::format("{:.2f}", row.epoch), Grouped(row.step), Percent(row.top1_error),
               Percent(row.top5_error), Figure(row.loss)});
  }
  return table.Render(style);
}

std::string WorkerTable(const Style& style, const std::vector<WorkerRow>& workers) {
  Table table({"RANK", "HOST", "GPU", "PID", "STEP", "PHASE", "HEARD"});
  table.RightAlign({0, 3, 4});
  for (const auto& row : workers) {
    const std::string heard = fmt::format("{:.1f}s ago", row.heartbeat_age_s);
    table.Add({std::to_string(row.rank), row.host, row.gpu.empty() ? "-" : row.gpu, std::to_string(row.pid), Grouped(row.step),
               row.phase, row.heartbeat_age_s > 5 ? style.Paint(Colour::kYellow, heard) : heard});
  }
  return table.Render(style);
}

std::string AttemptTable(const Style& style, const std::vector<AttemptRow>& attempts, int64_t now_ms) {
  Table table({"ATTEMPT", "STATE", "REASON", "STARTED", "TIME", "EXIT"});
  table.RightAlign({0});
  for (const auto& row : attempts)
    table.Add({std::to_string(row.number), row.state, row.reason.empty() ? "-" : row.reason,
               row.started.empty() ? "-" : row.started, Age(row.started, row.ended, now_ms),
               row.exit_code ? std::to_string(*row.exit_code) : "-"});
  return table.Render(style);
}

// Of the newest attempt: "cuda (n1: GPUs 0,3)", "cpu"
std::string DeviceText(const JobView& job) {
  const std::string gpus = job.attempts.empty() ? "" : job.attempts.back().gpus;
  return gpus.empty() ? job.device : fmt::format("{} ({})", job.device, gpus);
}

std::string Heading(const Style& style, const std::string& text) { return "\n" + style.Paint(Colour::kBold, text) + "\n"; }

}  // namespace

Colour StateColour(const std::string& state) {
  if (state == "COMPLETED") return Colour::kGreen;
  if (state == "RUNNING" || state == "STARTING") return Colour::kCyan;
  if (state == "FAILED") return Colour::kRed;
  if (state == "HELD" || state == "PAUSED" || state == "STOPPING" || state == "CANCELLED") return Colour::kYellow;
  return Colour::kPlain;
}

std::string MetricText(const std::string& metric, double value) {
  return metric.find("error") != std::string::npos ? Percent(value) : Figure(value);
}

std::string TimeText(const JobView& job, int64_t now_ms) {
  if (!job.ran_in_all_s || job.started.empty()) return Age(job.started, job.ended, now_ms);
  return HumanDuration(*job.ran_in_all_s);
}

std::string RenderJobs(const Style& style, const std::vector<JobView>& jobs, int64_t now_ms) {
  if (jobs.empty()) return "No jobs yet; submit one with `plateau submit SPEC.yaml`.\n";
  Table table({"JOB", "STATE", "NETWORK", "PROGRESS", "EPOCH", "LOSS", "LR", "BEST", "IMG/S", "TIME", "REASON"});
  table.RightAlign({4, 5, 6, 7, 8, 9});
  for (const auto& job : jobs) {
    const bool live = job.state == "RUNNING" && job.images_per_s.value_or(0) > 0;
    const bool tests = job.kind == "evaluate";
    table.Add({job.id, StateText(style, job), tests ? "test " + job.network : job.network,
               fmt::format("{} {:3.0f}%", Bar(style, job.Share(), 10), job.Share() * 100), tests ? "-" : EpochText(job), OrDash(job.loss),
               OrDash(job.lr), BestText(job), live ? fmt::format("{:.0f}", *job.images_per_s) : "-",
               TimeText(job, now_ms), job.reason});
  }
  return table.Render(style);
}

std::string RenderProgress(const JobView& job) {
  std::string line = fmt::format("epoch {}  step {}", EpochText(job), Grouped(job.step));
  if (job.loss) line += "  loss " + Figure(*job.loss);
  if (job.lr) line += "  lr " + Figure(*job.lr);
  if (job.images_per_s.value_or(0) > 0 && !job.Rests()) line += fmt::format("  {:.0f} images/s", *job.images_per_s);
  const double remaining_s = job.Rests() ? -1 : job.RemainingSeconds();
  if (remaining_s >= 0) line += "  at most " + HumanDuration(remaining_s) + " left";
  return line;
}

std::string RenderEvent(const Style& style, const EventRowView& event) {
  Colour colour = Colour::kPlain;
  if (event.type.find("decay") != std::string::npos || event.type.find("lr") != std::string::npos) colour = Colour::kYellow;
  if (event.type.find("fail") != std::string::npos || event.message.find("FAILED") != std::string::npos) colour = Colour::kRed;
  std::string type = event.type;
  std::replace(type.begin(), type.end(), '_', ' ');
  return fmt::format("{}  {}  {}", style.Paint(Colour::kDim, HourMinuteSecond(event.time)),
                     style.Paint(colour, fmt::format("{:<17}", type)), event.message);
}

std::string RenderDecisions(const Style& style, const std::string& metric, const std::vector<DecisionRow>& decisions,
                            bool only_changes) {
  Table table({"VALIDATION", "EPOCH", "STEP", metric.empty() ? "VALUE" : metric, "LR", "ACTION", "REASON"});
  table.RightAlign({0, 1, 2, 3, 4});
  size_t shown = 0;
  for (const auto& row : decisions) {
    if (only_changes && row.action == "keep") continue;
    ++shown;
    const Colour colour = row.action == "keep" ? Colour::kPlain : Colour::kYellow;
    table.Add({std::to_string(row.validation), fmt::format("{:.2f}", row.epoch), Grouped(row.step), MetricText(metric, row.value),
               Figure(row.lr), style.Paint(colour, row.action), row.reason});
  }
  return shown == 0 ? "  none yet\n" : table.Render(style);
}

std::string RenderJob(const Style& style, const JobView& job, const std::vector<ValidationRow>& validations,
                      const std::vector<DecisionRow>& decisions, int64_t now_ms) {
  std::string out = fmt::format("{}  {}", style.Paint(Colour::kBold, job.id), StateText(style, job));
  if (!job.reason.empty()) out += "  " + job.reason;
  out += "\n";
  AddField(out, style, "message", job.message);
  AddField(out, style, "pipeline", job.pipeline);
  AddField(out, style, "network", job.network);
  AddField(out, style, "device", DeviceText(job));
  AddField(out, style, "", job.device_why);
  if (job.top1_error)
    AddField(out, style, "result", fmt::format("top-1 error {}, top-5 error {}", Percent(*job.top1_error), Percent(job.top5_error.value_or(0))));
  if (job.kind != "evaluate")
    AddField(out, style, "progress",
           fmt::format("{} {:.0f}%  {}", Bar(style, job.Share(), 24), job.Share() * 100, RenderProgress(job)));
  if (job.best)
    AddField(out, style, "best", fmt::format("{} {} at validation {}", job.best_metric, BestText(job), job.best_validation));
  AddField(out, style, "created", job.created);
  AddField(out, style, "started", job.started);
  if (!job.started.empty()) AddField(out, style, "time", TimeText(job, now_ms));
  if (job.time_limit_s > 0)
    AddField(out, style, "time limit", fmt::format("{} of {}", HumanDuration(job.ran_s), HumanDuration(job.time_limit_s)));
  if (job.attempt > 0)
    AddField(out, style, "attempt", fmt::format("{} ({} of {} restarts used)", job.attempt, job.restarts, job.max_restarts));
  if (!job.checkpoint_path.empty())
    AddField(out, style, "checkpoint",
             fmt::format("{}/{} (step {})", job.output, job.checkpoint_path, Grouped(job.checkpoint_step)));
  AddField(out, style, "output", job.output);
  if (!job.workers.empty()) out += Heading(style, "Workers") + WorkerTable(style, job.workers);
  if (!job.attempts.empty()) out += Heading(style, "Attempts") + AttemptTable(style, job.attempts, now_ms);
  if (!validations.empty()) out += Heading(style, "Validations (newest 10)") + ValidationTable(style, validations, 10);
  if (!decisions.empty()) out += Heading(style, "Learning rate changes") + RenderDecisions(style, job.best_metric, decisions, true);
  return out;
}

std::vector<std::string> RenderLive(const Style& style, const JobView& job, const std::vector<ValidationRow>& validations,
                                    const std::vector<EventRowView>& newest_events) {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{}  {}  {}  attempt {}{}{}", style.Paint(Colour::kBold, job.id), StateText(style, job), job.network,
                              job.attempt, job.restarts > 0 ? fmt::format(", {} restarts", job.restarts) : "",
                              job.reason.empty() ? "" : "  " + job.reason));
  lines.push_back(fmt::format("{} {:3.0f}%  {}", Bar(style, job.Share(), 20), job.Share() * 100, RenderProgress(job)));
  if (!validations.empty()) {
    std::vector<double> errors;
    for (const auto& row : validations) errors.push_back(row.top1_error);
    const auto& newest = validations.back();
    lines.push_back(fmt::format("validation {}: top-1 error {}, top-5 error {}, best {}  {}", newest.number,
                                Percent(newest.top1_error), Percent(newest.top5_error), BestText(job),
                                style.Paint(Colour::kCyan, Sparkline(style, errors, 40))));
  }
  for (const auto& row : job.workers)
    lines.push_back(style.Paint(Colour::kDim, fmt::format("rank {} on {}: step {}, {}, heard {:.1f}s ago", row.rank, row.host,
                                                          Grouped(row.step), row.phase, row.heartbeat_age_s)));
  lines.emplace_back();
  for (const auto& event : newest_events) lines.push_back(RenderEvent(style, event));
  for (auto& line : lines) line = CutVisible(line, static_cast<size_t>(style.columns));
  return lines;
}

}  // namespace plateau
