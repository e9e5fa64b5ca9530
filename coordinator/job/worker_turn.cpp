// What workers say: heartbeats, the curve, validations with their decision, checkpoints, the end.
#include <algorithm>

#include "coordinator/job/retention.h"
#include "coordinator/job/turn.h"

namespace plateau {
namespace {

bool SameFigures(const ValidationReport& a, const ValidationReport& b) {
  const bool same_loss = a.loss == b.loss || (a.loss != a.loss && b.loss != b.loss);
  return a.step == b.step && a.images == b.images && a.top1_correct == b.top1_correct && a.top5_correct == b.top5_correct &&
         same_loss;
}

// "attempt-3/step-000000123", this attempt's own folder and nothing else.
bool IsCheckpointPath(const std::string& path, int attempt) {
  const std::string prefix = fmt::format("attempt-{}/step-", attempt);
  if (!path.starts_with(prefix) || path.size() == prefix.size() || path.size() > prefix.size() + 20) return false;
  return std::all_of(path.begin() + static_cast<std::ptrdiff_t>(prefix.size()), path.end(),
                     [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

void Turn::On(const WorkerSaid& event) {
  const Sender& sender = event.sender;
  if (AnswerFarewell(event)) return;
  std::string refused;
  if (!IsCurrent(sender.attempt)) {
    refused = fmt::format("attempt {} of job {} is over (the job is {})", sender.attempt, job().id, JobStateName(job().state));
  } else if (!SameSecret(sender.token, job().Current()->token)) {
    refused = fmt::format("wrong token for attempt {} of job {}", sender.attempt, job().id);
  } else if (sender.rank < 0 || sender.rank >= static_cast<int>(job().workers.size())) {
    refused = fmt::format("rank {} is not one of the {} ranks of job {}", sender.rank, job().workers.size(), job().id);
  } else if (sender.rank != 0 && !std::holds_alternative<Heartbeat>(event.message) &&
             !std::holds_alternative<Failed>(event.message)) {
    refused = fmt::format("rank {} sent a message that only rank 0 sends", sender.rank);
  }
  if (!refused.empty()) return Do(ReplyToWorker{Refused{refused}});
  std::visit([&](const auto& message) { Said(sender, message); }, event.message);
}

void Turn::Said(const Sender& sender, const Heartbeat& message) {
  WorkerView& worker = job().workers[static_cast<size_t>(sender.rank)];
  const bool moved = !worker.seen || worker.step != message.step || worker.phase != message.phase ||
                     worker.progress != message.progress || worker.collective != message.collective;
  const int64_t moved_ms = moved ? now_.monotonic_ms : worker.moved_ms;
  worker = WorkerView{sender.rank,         sender.host, sender.pid,       message.step,       message.phase,
                      now_.monotonic_ms, true,        message.progress, message.collective, moved_ms};
  const bool all_seen = std::all_of(job().workers.begin(), job().workers.end(), [](const WorkerView& one) { return one.seen; });
  if (job().Current()->state == "STARTING" && all_seen) {
    job().Current()->state = "RUNNING";
    if (job().state == JobState::kStarting) {
      job().state = JobState::kRunning;
      job().reason = "RUNNING";
      job().message = fmt::format("attempt {} is {}", sender.attempt, job().Trains() ? "training" : "testing");
    }
    Record("running", fmt::format("all {} rank(s) of attempt {} are up", job().workers.size(), sender.attempt));
  }
  HeartbeatReply reply;
  if (job().stop != StopTarget::kNone)
    reply.command = WorkerCommand::kStop;
  else if (job().checkpoint_ordered)
    reply = {WorkerCommand::kCheckpoint, job().checkpoint_order};
  Do(ReplyToWorker{reply});
}

void Turn::Said(const Sender&, const Metrics& message) {
  job().curve = Curve{message.step, message.epoch, message.loss, message.lr, message.images_per_s};
  out_.point = job().curve;
}

void Turn::Said(const Sender& sender, const ValidationReport& message) {
  const auto known = static_cast<int>(job().validations.size());
  if (message.number >= 1 && message.number <= known) return RepeatDecision(message);
  if (message.number != known + 1) {
    const std::string why =
        fmt::format("validation {} of attempt {} came when validation {} was due", message.number, sender.attempt, known + 1);
    Record("protocol_error", why);
    return Do(ReplyToWorker{Refused{why}});
  }
  const double value = message.Metric(job().spec->lr_metric);
  LrOutcome outcome = DecideLr(job().spec->lr, job().lr, value);
  job().lr = outcome.state;
  job().curve.step = std::max(job().curve.step, message.step);
  out_.validation = std::make_shared<const DecidedValidation>(DecidedValidation{message, outcome.decision, value, now_.unix_ms});
  job().validations.push_back(out_.validation);
  Record("validation",
         fmt::format("validation {} at step {}: top-1 error {:.4f}, top-5 error {:.4f}, loss {:.4f}", message.number, message.step,
                     message.Top1Error(), message.Top5Error(), message.loss),
         {{"validation", int64_t{message.number}},
          {"step", message.step},
          {"epoch", message.epoch},
          {"top1_error", message.Top1Error()},
          {"top5_error", message.Top5Error()},
          {"loss", message.loss}});
  const LrDecision& decision = outcome.decision;
  Record("lr_decision", decision.reason,
         {{"validation", int64_t{decision.validation}},
          {"action", std::string(LrActionName(decision.action))},
          {"lr", decision.lr},
          {"improved", decision.improved},
          {"value", value}});
  Do(ReplyToWorker{DecisionReply{decision}});
}

void Turn::RepeatDecision(const ValidationReport& message) {
  const DecidedValidation& first = *job().validations[static_cast<size_t>(message.number) - 1];
  if (!SameFigures(first.report, message)) {
    Record("observation",
           fmt::format("validation {} was reported again with other figures: {} correct of {} (first {}), loss {:.6g} (first "
                       "{:.6g}); the first "
                       "report and its decision stand",
                       message.number, message.top1_correct, message.images, first.report.top1_correct, message.loss,
                       first.report.loss),
           {{"validation", int64_t{message.number}},
            {"step", message.step},
            {"top1_error", message.Top1Error()},
            {"top5_error", message.Top5Error()},
            {"loss", message.loss}});
  }
  Do(ReplyToWorker{DecisionReply{first.decision}});
}

void Turn::Said(const Sender& sender, const CheckpointReport& message) {
  if (!IsCheckpointPath(message.path, sender.attempt)) {
    const std::string why = fmt::format("checkpoint path '{}' is not attempt-{}/step-<number>", message.path, sender.attempt);
    Record("protocol_error", why);
    return Do(ReplyToWorker{Refused{why}});
  }
  const bool known =
      std::any_of(job().checkpoints.begin(), job().checkpoints.end(), [&](const auto& one) { return one.path == message.path; });
  if (known && !job().publish_pending) return Do(ReplyToWorker{Published{message.step}});
  if (known) return Publish();
  // Repeated after its answer was lost, and retired since: an attempt reports its checkpoints in order, so this one was seen
  // before.
  const std::string own = fmt::format("attempt-{}/", sender.attempt);
  const bool superseded = std::any_of(job().checkpoints.begin(), job().checkpoints.end(),
                                      [&](const auto& one) { return one.path.starts_with(own) && one.step > message.step; });
  if (superseded) return Do(ReplyToWorker{Published{message.step}});
  Do(VerifyCheckpoint{sender.attempt, message});
}

void Turn::On(const CheckpointVerified& event) {
  if (!IsCurrent(event.attempt)) return;
  const CheckpointReport& report = event.report;
  const bool known =
      std::any_of(job().checkpoints.begin(), job().checkpoints.end(), [&](const auto& one) { return one.path == report.path; });
  if (known) {
    if (!job().publish_pending) Do(AnswerCheckpoint{report.path, Published{report.step}});
    return;
  }
  const CheckpointRecord record{.step = report.step,
                                .validation = report.validation,
                                .metric = report.metric,
                                .path = report.path,
                                .checksum = event.checksum,
                                .bytes = report.bytes,
                                .lineage = report.lineage,
                                .order = report.order};
  Retention retention =
      Retain(std::move(job().checkpoints), record, job().spec->checkpoint.keep_last, job().spec->checkpoint.keep_best);
  job().checkpoints = std::move(retention.kept);
  job().publish_pending = true;
  job().last_trouble.clear();
  for (auto& path : retention.removed) job().removals_pending.push_back(std::move(path));
  Record("checkpoint", fmt::format("checkpoint {} is complete", report.path),
         {{"path", report.path}, {"step", report.step}, {"bytes", static_cast<int64_t>(report.bytes)}, {"final", report.final}});
  Publish();
}

void Turn::Publish() {
  if (job().checkpoints.empty()) return;
  Do(PublishCheckpoint{job().checkpoints.back(), job().removals_pending});
}

void Turn::On(const CheckpointRejected& event) {
  const std::string trouble = event.report.path + ": " + event.message;
  if (job().last_trouble == trouble) return;  // the worker repeats its report; one record is enough
  job().last_trouble = trouble;
  Record("checkpoint_rejected", event.message, {{"path", event.report.path}, {"step", event.report.step}});
}

void Turn::On(const CheckpointPublished& event) {
  std::erase_if(job().removals_pending, [&](const std::string& path) {
    return std::find(event.removed.begin(), event.removed.end(), path) != event.removed.end();
  });
  if (!event.trouble.empty() && event.trouble != job().last_trouble) Record("trouble", event.trouble);
  job().last_trouble = event.trouble;
  if (job().checkpoints.empty() || job().checkpoints.back().path != event.path) return;
  const int64_t step = job().checkpoints.back().step, order = job().checkpoints.back().order;
  if (job().publish_pending) {
    job().publish_pending = false;
    if (order >= job().checkpoint_order) job().checkpoint_ordered = false;
    Record("published", fmt::format("{} is the current checkpoint", event.path),
           {{"path", event.path}, {"step", step}, {"order", order}});
    Sweep(HasProcesses(job().state));
  } else if (!event.removed.empty()) {
    out_.durable = true;
  }
  Do(AnswerCheckpoint{event.path, Published{step}});
}

void Turn::Said(const Sender&, const Finished& message) {
  Attempt& attempt = *job().Current();
  if (attempt.finished.empty()) {
    attempt.finished = message.reason;
    if (!message.result.empty()) job().result = message.result;
    job().curve.step = std::max(job().curve.step, message.step);
    job().stop_deadline_ms = now_.monotonic_ms + limits_.finish_grace_ms;
    Record("finished", fmt::format("rank 0 finished at step {}: {}", message.step, message.reason),
           {{"step", message.step}, {"reason", message.reason}});
  }
  Do(ReplyToWorker{Published{message.step}});
  if (IsExternal()) EndExternal("its ranks have finished");
}

// The control loop answers those that come before an attempt.
void Turn::Said(const Sender& sender, const Register&) {
  Do(ReplyToWorker{
      Refused{fmt::format("rank {} is registered already, as attempt {} of job {}", sender.rank, sender.attempt, job().id)}});
}

void Turn::Said(const Sender& sender, const Failed& message) {
  Attempt& attempt = *job().Current();
  const bool explains_more = attempt.reason.empty() || (attempt.retry && !message.retry && attempt.reason != "HANG" && attempt.reason != "LOST_HOST");
  std::string text = message.reason == kNoGpu
                         ? NoteMissingGpu(sender, message.message)
                         : fmt::format("rank {} on {} failed at step {}: {}", sender.rank, sender.host, message.step, message.message);
  if (!message.layer.empty() && message.message.find(message.layer) == std::string::npos)
    text += fmt::format(" (layer {})", message.layer);
  Record("worker_failed", text,
         {{"rank", int64_t{sender.rank}},
          {"reason", message.reason},
          {"step", message.step},
          {"layer", message.layer},
          {"retry", message.retry}});
  if (!explains_more) return;
  attempt.reason = message.reason;
  attempt.message = text;
  attempt.retry = message.retry;
  attempt.state = "STOPPING";
  if (job().stop == StopTarget::kNone) {
    job().state = JobState::kStopping;
    job().reason = message.reason;
    job().message = text;
  }
  const int64_t deadline_ms = now_.monotonic_ms + limits_.failure_grace_ms;
  if (!job().kill_sent)
    job().stop_deadline_ms = job().stop_deadline_ms > 0 ? std::min(job().stop_deadline_ms, deadline_ms) : deadline_ms;
}

}  // namespace plateau
