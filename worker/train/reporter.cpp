// Log lines, progress bar, metrics.jsonl and Metrics messages of rank 0.
#include "worker/train/reporter.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/text.h"

namespace plateau {
namespace {

constexpr int64_t kSampleMs = 1000;
constexpr int64_t kLogMs = 5000;
using Json = nlohmann::ordered_json;

Json Finite(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

}  // namespace

Reporter::Reporter(ReporterOptions options, const Clock& clock, Authority& authority)
    : options_(std::move(options)), clock_(clock), authority_(authority), metrics_(options_.metrics_path, std::ios::app) {
  sample_.begin_ms = logged_.begin_ms = clock_.MonotonicMs();
  if (options_.terminal)
    progress_ = std::make_unique<Progress>(
        ProgressOptions{.label = "train", .unit = "steps", .total = static_cast<uint64_t>(options_.total_steps)}, clock_);
}

void Reporter::Step(int64_t step, double lr, const StepTotals& totals, double data_wait_s) {
  for (Window* window : {&sample_, &logged_}) {
    window->steps += 1;
    window->images += totals.images;
    window->loss += totals.loss;
    window->data_wait_s += data_wait_s;
  }
  const int64_t now_ms = stepped_ms_ = clock_.MonotonicMs();
  const double epoch = static_cast<double>(step * options_.global_batch) / static_cast<double>(options_.images_per_epoch);
  if (now_ms - sample_.begin_ms >= kSampleMs || step == options_.total_steps) Sample(step, lr, now_ms);
  const double seconds = static_cast<double>(now_ms - logged_.begin_ms) / 1000;
  const double loss = logged_.loss / static_cast<double>(logged_.images);
  if (progress_) progress_->Update(static_cast<uint64_t>(step), fmt::format("epoch {:.2f}  loss {:.4f}  lr {:g}", epoch, loss, lr));
  if (now_ms - logged_.begin_ms < kLogMs && step != options_.total_steps) return;
  const double rate = static_cast<double>(logged_.images) / seconds;
  const double left_s = static_cast<double>(options_.total_steps - step) * seconds / static_cast<double>(logged_.steps);
  if (!progress_)
    LogInfo("step {}/{}  epoch {:.2f}  loss {:.4f}  lr {:g}  {:.0f} img/s  data wait {:.0f}%  ETA {}", step, options_.total_steps,
            epoch, loss, lr, rate, 100 * logged_.data_wait_s / seconds, HumanDuration(left_s));
  logged_ = {.begin_ms = now_ms};
}

void Reporter::Sample(int64_t step, double lr, int64_t now_ms) {
  const double seconds = std::max(static_cast<double>(now_ms - sample_.begin_ms) / 1000, 1e-3);
  const Metrics metrics{.step = step,
                        .epoch = static_cast<double>(step * options_.global_batch) / static_cast<double>(options_.images_per_epoch),
                        .loss = sample_.loss / static_cast<double>(sample_.images),
                        .lr = lr,
                        .images_per_s = static_cast<double>(sample_.images) / seconds,
                        .data_wait_share = sample_.data_wait_s / seconds};
  authority_.Report(metrics);
  Append(Json{{"type", "train"},
              {"time", FormatUtc(clock_.NowMs())},
              {"step", metrics.step},
              {"epoch", metrics.epoch},
              {"loss", Finite(metrics.loss)},
              {"lr", metrics.lr},
              {"images_per_s", metrics.images_per_s},
              {"data_wait_share", metrics.data_wait_share}}
             .dump());
  sample_ = {.begin_ms = now_ms};
}

void Reporter::Validation(const ValidationRecord& record, double seconds) {
  const ValidationReport& report = record.report;
  LogInfo(
      "validation {}  step {}  epoch {:.2f}  top-1 error {:.4f}  top-5 error {:.4f}  loss {:.4f}  {} images in {}  -> {}, lr {:g}: "
      "{}",
      report.number, report.step, report.epoch, report.Top1Error(), report.Top5Error(), report.loss, report.images,
      HumanDuration(seconds), LrActionName(record.decision.action), record.decision.lr, record.decision.reason);
  Append(Json{{"type", "validation"},
              {"time", FormatUtc(clock_.NowMs())},
              {"number", report.number},
              {"step", report.step},
              {"epoch", report.epoch},
              {"images", report.images},
              {"top1_error", report.Top1Error()},
              {"top5_error", report.Top5Error()},
              {"loss", Finite(report.loss)},
              {"action", LrActionName(record.decision.action)},
              {"lr", record.decision.lr},
              {"reason", record.decision.reason}}
             .dump());
  const int64_t now_ms = clock_.MonotonicMs();  // the pass is no training time; what the windows hold stays, however short they are
  for (Window* window : {&sample_, &logged_}) window->begin_ms += now_ms - std::max(window->begin_ms, stepped_ms_);
}

void Reporter::Checkpoint(int64_t step, const SavePause& pause) {
  Append(Json{{"type", "checkpoint"},
              {"time", FormatUtc(clock_.NowMs())},
              {"step", step},
              {"waited_s", pause.waited_s},
              {"snapshot_s", pause.snapshot_s}}
             .dump());
}

void Reporter::Finish(int64_t step) {
  if (progress_) progress_->Finish(static_cast<uint64_t>(step));
}

void Reporter::Append(const std::string& line) {
  metrics_ << line << '\n' << std::flush;
  if (metrics_ || metrics_failed_) return;
  metrics_failed_ = true;
  LogWarning("{}: metrics are no longer written here (full disk?); training goes on", options_.metrics_path);
}

}  // namespace plateau
