// The training loop of a rank: steps, and between them ordered boundaries of validation, decision and checkpoint.
#include "worker/train/loop.h"

#include <algorithm>
#include <cmath>

#include "common/log.h"

namespace plateau {
namespace {

constexpr const char* kNanRemedy = "lower lr.initial, or look at training.init and data.normalize; the newest checkpoint stands";

// What rank 0 tells the others about a decision.
struct DecisionWire {
  int64_t stopped_waiting = 0;
  LrState state;
};

double Seconds(int64_t ms) { return static_cast<double>(ms) / 1000; }

}  // namespace

TrainLoop::TrainLoop(const LoopOptions& options, const LoopParts& parts, TrainState state)
    : options_(options),
      parts_(parts),
      state_(std::move(state)),
      lanes_{.plan = parts.training_plan,
             .network = parts.engine.network(),
             .shape = options.shape,
             .global_batch = options.spec.training.global_batch},
      validator_(
          parts.engine, parts.validation_plan, parts.store, options.identity.preprocessing,
          {.scale = options.spec.validation.scale, .decode_threads = options.decode_threads, .progress = &parts.pulse.progress},
          parts.collective),
      checkpointed_step_(options.unpublished ? -1 : state_.step) {
  if (state_.step < options_.length.total_steps && !state_.lr.stopped)
    state_.end_reason.clear();  // an ended run that was given more to do
  const int64_t now_ms = parts_.clock.MonotonicMs();
  begun_ms_ = now_ms;
  validation_clock_ms_ = now_ms - static_cast<int64_t>(state_.seconds_since_validation * 1000);
  checkpoint_clock_ms_ = now_ms - static_cast<int64_t>(state_.seconds_since_checkpoint * 1000);
}

tl::expected<std::string, TrainFault> TrainLoop::Run() {
  auto pipeline = StartPipeline();
  if (!pipeline) throw Failure(pipeline.error().code, pipeline.error().message);
  pipeline_ = std::move(*pipeline);
  while (true) {
    if (underway_.empty() || BoundaryDue(state_.step + static_cast<int64_t>(underway_.size()))) {
      if (auto done = SettleDownTo(0); !done) return tl::unexpected(done.error());
      if (auto done = Boundary(); !done) return tl::unexpected(done.error());
      if (!end_.empty()) break;
    }
    EnqueueStep();
    if (auto done = SettleDownTo(static_cast<size_t>(parts_.trainer.depth())); !done) return tl::unexpected(done.error());
  }
  parts_.pulse.phase = "done";
  return end_;
}

// Before step number `step` begins.
bool TrainLoop::BoundaryDue(int64_t step) const {
  return votes_.stop > 0 || votes_.validate > 0 || votes_.checkpoint > 0 || step >= options_.length.total_steps ||
         Due(options_.spec.validation.every, state_.last_validation_step, step, false) ||
         Due(options_.spec.checkpoint.every, checkpointed_step_, step, false);
}

TrainLoop::Outcome TrainLoop::Boundary() {
  const bool ended = state_.step >= options_.length.total_steps;
  const bool validated = state_.last_validation_step == state_.step && state_.step > 0;
  stopping_ = votes_.stop > 0;
  if (!validated && !stopping_ &&
      (ended || Due(options_.spec.validation.every, state_.last_validation_step, state_.step, votes_.validate > 0)))
    ValidateAndDecide();
  if (state_.lr.stopped)
    end_ = "PLATEAU";
  else if (stopping_)
    end_ = "STOPPED";
  else if (ended)
    end_ = options_.spec.training.max_steps == options_.length.total_steps ? "MAX_STEPS" : "MAX_EPOCHS";
  const bool final = !end_.empty() && end_ != "STOPPED";
  const bool already = state_.step == checkpointed_step_ && (!final || state_.end_reason == end_);
  const bool due = !end_.empty() || checkpointed_step_ < 0 || votes_.checkpoint > 0 ||
                   Due(options_.spec.checkpoint.every, checkpointed_step_, state_.step, votes_.checkpoint > 0);
  votes_ = {};
  if (!due || already) return {};
  if (final) state_.end_reason = end_;
  return SaveCheckpoint(final);
}

void TrainLoop::EnqueueStep() {
  parts_.pulse.phase = "data";
  const int64_t begin_ms = parts_.clock.MonotonicMs();
  auto next = pipeline_->Next();
  if (!next) throw Failure(next.error().code, next.error().message);
  Underway step{.batch = std::move(*next), .data_wait_s = Seconds(parts_.clock.MonotonicMs() - begin_ms)};
  const int64_t number = state_.step + static_cast<int64_t>(underway_.size());
  step.lr = RateAt(options_.spec.lr, state_.lr.lr, options_.length, number);
  parts_.pulse.phase = "step";
  parts_.trainer.Enqueue(
      {.rows = RowsOf(*step.batch), .step = static_cast<uint64_t>(number), .lr = step.lr, .votes = Votes()});
  underway_.push_back(std::move(step));
}

TrainLoop::Outcome TrainLoop::SettleDownTo(size_t steps) {
  while (underway_.size() > steps)
    if (auto done = SettleStep(); !done) {
      Drop();
      return done;
    }
  return {};
}

TrainLoop::Outcome TrainLoop::SettleStep() {
  parts_.pulse.phase = "step";
  const StepResult result = parts_.trainer.Settle();
  Underway step = std::move(underway_.front());
  underway_.pop_front();
  const StepTotals& totals = result.totals;
  votes_.stop += totals.stop;
  votes_.validate += totals.validate;
  votes_.checkpoint += totals.checkpoint;
  if (totals.nonfinite > 0) return tl::unexpected(NonFiniteLoss(*step.batch));
  if (result.nonfinite_parameter >= 0) return tl::unexpected(NonFiniteWeights(result.nonfinite_parameter));
  if (parts_.trace != nullptr)
    if (const Status traced = parts_.trace->Step(state_.step, *step.batch, totals); !traced)
      throw Failure(traced.error().code, traced.error().message);
  pipeline_->Recycle(std::move(step.batch));
  ++state_.step;
  parts_.pulse.step = state_.step;
  ++parts_.pulse.progress;
  parts_.pulse.phase = "report";
  if (parts_.rank_zero != nullptr) parts_.rank_zero->reporter.Step(state_.step, step.lr, totals, step.data_wait_s);
  if (totals.fault > 0)
    return tl::unexpected(CheckpointFault(parts_.rank_zero != nullptr ? parts_.rank_zero->saver.Wait() : Status()));
  return {};
}

// Steps behind a faulty one: the trainer is done with their batches, and what they came to no longer matters.
void TrainLoop::Drop() {
  for (; !underway_.empty(); underway_.pop_front()) parts_.trainer.Settle();
}

void TrainLoop::ValidateAndDecide() {
  parts_.pulse.phase = "validate";
  const int64_t begin_ms = parts_.clock.MonotonicMs();
  ValidationRecord record;
  record.report = validator_.Run();
  record.report.number = state_.lr.validations + 1;
  record.report.step = state_.step;
  record.report.epoch = Epoch(state_.step);
  record.value = record.report.Metric(options_.spec.lr_metric);
  const int64_t validated_ms = parts_.clock.MonotonicMs();

  parts_.pulse.phase = "wait-decision";
  DecisionWire wire;
  if (parts_.rank_zero != nullptr) {
    const auto outcome = parts_.rank_zero->authority.Decide(record.report, record.value, state_.lr);
    wire.stopped_waiting = outcome ? 0 : 1;
    if (outcome) {
      wire.state = outcome->state;
      record.decision = outcome->decision;
    } else {
      LogInfo("{}", outcome.error().message);
    }
  }
  parts_.collective.Broadcast({reinterpret_cast<char*>(&wire), sizeof(wire)}, 0);
  parts_.pulse.phase = "report";
  if (wire.stopped_waiting != 0) {  // the validation is made again after a resume, and the decision then asked for again
    stopping_ = true;
    return;
  }
  state_.lr = wire.state;
  state_.last_validation_step = state_.step;
  state_.history.push_back(record);
  validation_clock_ms_ = parts_.clock.MonotonicMs();
  if (parts_.rank_zero != nullptr) parts_.rank_zero->reporter.Validation(record, Seconds(validated_ms - begin_ms));
}

TrainLoop::Outcome TrainLoop::SaveCheckpoint(bool final) {
  parts_.pulse.phase = "checkpoint";
  checkpointed_step_ = state_.step;
  const int64_t now_ms = parts_.clock.MonotonicMs();
  checkpoint_clock_ms_ = now_ms;
  state_.seconds_since_validation = Seconds(now_ms - validation_clock_ms_);
  state_.seconds_since_checkpoint = 0;
  int64_t failed = 0;
  Status status;
  if (parts_.rank_zero != nullptr) {
    CheckpointSaver& saver = parts_.rank_zero->saver;
    CheckpointState state{options_.identity, state_};
    obeyed_order_ = order_;
    // The run's end is on the disk before anyone hears of it.
    const auto pause =
        end_.empty() ? saver.Save(std::move(state), obeyed_order_) : saver.SaveNow(std::move(state), final, obeyed_order_);
    if (pause)
      parts_.rank_zero->reporter.Checkpoint(state_.step, *pause);
    else
      status = Fail(pause.error());
    failed = status ? 0 : 1;
  }
  parts_.collective.AllReduceSum(std::span(&failed, 1));
  if (failed != 0) return tl::unexpected(CheckpointFault(status));
  return {};  // a fault of the writing that goes on travels with a later step's totals
}

TrainFault TrainLoop::CheckpointFault(const Status& status) const {
  if (status)
    return {
        .error = {ErrorCode::kIo, "rank 0 could not write a checkpoint; its log says why"}, .reason = "IO", .step = state_.step};
  const bool numeric = status.error().code == ErrorCode::kNumeric;
  return {.error = status.error(), .reason = numeric ? "NAN_LOSS" : "IO", .step = state_.step};
}

// Nothing was updated since: the weights are those that the faulty step met.
TrainFault TrainLoop::NonFiniteLoss(const Batch& batch) {
  Drop();
  const auto ranks = static_cast<size_t>(parts_.collective.world_size());
  std::vector<int64_t> places(ranks);
  places[static_cast<size_t>(parts_.collective.rank())] =
      static_cast<int64_t>(FirstNonFinitePlace(lanes_, RowsOf(batch), static_cast<uint64_t>(state_.step)));
  parts_.collective.AllReduceSum(std::span<int64_t>(places));
  const auto first = std::min_element(places.begin(), places.end());
  const std::string layer = PlaceName(parts_.engine.network(), static_cast<size_t>(*first));
  return {
      .error = {ErrorCode::kNumeric,
                fmt::format("NAN_LOSS: step {} is not finite; the first layer whose output is NaN or infinite is {} (rank {}); {}",
                            state_.step, layer, first - places.begin(), kNanRemedy)},
      .reason = "NAN_LOSS",
      .step = state_.step,
      .layer = layer};
}

// ReLU turns NaN into 0, so weights can be lost while the loss looks sound: looked at after every update.
TrainFault TrainLoop::NonFiniteWeights(int parameter) const {
  const ParameterInfo& info = parts_.engine.parameters().info(parameter);
  const std::string layer = parts_.engine.network().layers[static_cast<size_t>(info.layer)].name;
  return {.error = {ErrorCode::kNumeric, fmt::format("NAN_LOSS: the update of step {} made {} (layer {}) NaN or infinite; {}",
                                                     state_.step, info.name, layer, kNanRemedy)},
          .reason = "NAN_LOSS",
          .step = state_.step,
          .layer = layer};
}

StepTotals TrainLoop::Votes() {
  StepTotals votes;
  const int64_t now_ms = parts_.clock.MonotonicMs();
  if (options_.stop_after_s > 0 && Seconds(now_ms - begun_ms_) >= options_.stop_after_s && !parts_.stop.raised()) {
    LogInfo("the run has lasted as long as resources.time_limit allows ({:g} s): it stops", options_.stop_after_s);
    parts_.stop.Raise();
  }
  votes.stop = parts_.stop.raised() ? 1 : 0;
  if (parts_.rank_zero == nullptr) return votes;
  votes.fault = parts_.rank_zero->saver.failed() ? 1 : 0;
  order_ = parts_.rank_zero->authority.CheckpointOrder();
  const auto over = [&](const Interval& every, int64_t since_ms) {
    return every.unit == Interval::Unit::kSeconds && Seconds(now_ms - since_ms) >= every.amount ? 1 : 0;
  };
  votes.validate = over(options_.spec.validation.every, validation_clock_ms_);
  votes.checkpoint = order_ > obeyed_order_ ? 1 : over(options_.spec.checkpoint.every, checkpoint_clock_ms_);
  return votes;
}

bool TrainLoop::Due(const Interval& interval, int64_t since_step, int64_t step, bool voted) const {
  const auto passed = [&](int64_t steps) {
    if (interval.unit == Interval::Unit::kIterations) return std::floor(static_cast<double>(steps) / interval.amount);
    const double images = static_cast<double>(steps * options_.spec.training.global_batch);
    return std::floor(images / (interval.amount * static_cast<double>(options_.identity.images)));
  };
  if (interval.unit == Interval::Unit::kSeconds) return voted;
  return passed(step) > passed(since_step);
}

double TrainLoop::Epoch(int64_t step) const {
  return static_cast<double>(step * options_.spec.training.global_batch) / static_cast<double>(options_.identity.images);
}

Result<std::unique_ptr<Pipeline>> TrainLoop::StartPipeline() const {
  return Pipeline::Start(parts_.store, options_.identity.preprocessing,
                         {.split = "train",
                          .training = true,
                          .seed = options_.spec.reproducibility.seed,
                          .global_batch = options_.spec.training.global_batch,
                          .rank = parts_.collective.rank(),
                          .world_size = parts_.collective.world_size(),
                          .rows = options_.shape.rows(),
                          .first_batch = state_.step,
                          .threads = options_.decode_threads,
                          .pixels = parts_.engine.takes_pixels(),
                          .progress = &parts_.pulse.progress});
}

}  // namespace plateau
