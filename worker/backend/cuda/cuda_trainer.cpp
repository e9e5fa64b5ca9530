// A training step on the device, from its copied batch to its updated weights.
//
// The host fills page-locked memory and queues copy and step; it reads what step s came to when step s + 1 is queued, so that neither
// waits for the other. A step is one CUDA graph, captured once for each of the two sets of input buffers; learning rate, step number
// and votes are data that it reads. The first step runs as it would be captured, uncaptured: libraries load their kernels and NCCL makes
// its connections then. Where the host must help with a sum (MPI), every step runs like that.
#include "worker/backend/cuda/cuda_trainer.h"

#include <algorithm>
#include <array>
#include <deque>

#include "common/check.h"
#include "worker/backend/cuda/cuda_trainer_graph.h"
#include "worker/backend/cuda/device_reducer.h"
#include "worker/backend/cuda/feeder.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

// What a step leaves on the host, in page-locked memory.
struct StepFigures {
  float totals[kTotals];
  TrainerFlags flags;
};

StepTotals Unpack(const float* totals) {
  const auto count = [&](int i) { return static_cast<int64_t>(totals[i]); };
  return {.loss = totals[0],
          .images = count(1),
          .top1_correct = count(2),
          .nonfinite = count(3),
          .stop = count(4),
          .fault = count(5),
          .validate = count(6),
          .checkpoint = count(7)};
}

class CudaTrainer final : public Trainer {
 public:
  CudaTrainer(CudaPlan& plan, const TrainerOptions& options, std::unique_ptr<RankSum> sum);
  ~CudaTrainer() override;

  int depth() const override { return StepFeeder::kSlots - 1; }
  void Enqueue(const StepInput& input) override;
  StepResult Settle() override;
  std::vector<std::string> algorithms() const override;

 private:
  struct Slot {
    StepGraph graph;
    int generation = -1;        // of the plan's memory when it was captured
    std::vector<int> samples;   // of each lane, before the padding, when it was captured
    PinnedBuffer figures{sizeof(StepFigures)};
    Event done{false, true};  // decoding threads want the core that waits
  };
  void CountSamples(std::span<const float> weights);
  void EnqueueStep(int slot);
  void EnqueueLane(int slot, int lane);
  void EnqueueUpdate(int slot);
  const Stream& stream() const { return plan_.libraries().stream(); }

  CudaPlan& plan_;
  TrainerOptions options_;
  StepFeeder feeder_;
  DeviceBuffer loss_{sizeof(DeviceLoss)}, flags_{sizeof(TrainerFlags)}, spans_;
  std::vector<ParameterSpan> host_spans_;
  std::vector<int> samples_;  // of each lane of the step that is being enqueued
  std::array<Slot, StepFeeder::kSlots> slots_;
  int next_slot_ = 0;
  bool warm_ = false;  // a step has run uncaptured
  std::deque<int> underway_;
  std::unique_ptr<RankSum> sum_;  // goes before what its streams work on
  DeviceReducer reducer_;
};

CudaTrainer::CudaTrainer(CudaPlan& plan, const TrainerOptions& options, std::unique_ptr<RankSum> sum)
    : plan_(plan),
      options_(options),
      feeder_(options.shape.rows(), plan.image_values(), options.pixels, plan.engine_options().threads),
      host_spans_(plan.parameters().Spans(options.weight_decay, options.decay_biases)),
      samples_(static_cast<size_t>(options.shape.lanes)),
      sum_(std::move(sum)),
      reducer_(plan.parameters(), plan.backward_layers(), options.shape.lanes, plan.libraries().stream(), *sum_) {
  PLATEAU_CHECK(plan.options().training && plan.options().batch == options.shape.lane_rows, "a plan of {} rows for lanes of {}",
                plan.options().batch, options.shape.lane_rows);
  spans_ = DeviceBuffer(host_spans_.size() * sizeof(ParameterSpan));
  const TrainerFlags none;
  CopyToDevice(spans_.data(), host_spans_.data(), spans_.bytes(), stream().get());
  CopyToDevice(flags_.data(), &none, sizeof(none), stream().get());
  stream().Wait();
}

// Memory goes only when the device no longer uses it, which it may also while no step is underway: copies of one that could not be
// enqueued. A sum over ranks that will not end is aborted first, and before that the graphs that captured it: NCCL's abort waits
// for them.
CudaTrainer::~CudaTrainer() {
  for (Slot& slot : slots_) slot.graph.Clear();
  sum_.reset();
  cudaStreamSynchronize(stream().get());
}

// Samples before the padding, which the last lanes have at their ends.
void CudaTrainer::CountSamples(std::span<const float> weights) {
  const auto rows = static_cast<size_t>(options_.shape.lane_rows);
  for (size_t lane = 0; lane < samples_.size(); ++lane) {
    const auto of_lane = weights.subspan(lane * rows, rows);
    samples_[lane] = static_cast<int>(std::ranges::find_if(of_lane, [](float weight) { return !(weight > 0); }) - of_lane.begin());
  }
}

void CudaTrainer::Enqueue(const StepInput& input) {
  PLATEAU_CHECK(static_cast<int>(underway_.size()) <= depth(), "step {} with {} unsettled", input.step, underway_.size());
  RequireLabels(input.rows.labels, input.rows.weights, plan_.network().classes);
  const int number = next_slot_;
  Slot& slot = slots_[static_cast<size_t>(number)];
  feeder_.Feed(number, input, stream());
  CountSamples(input.rows.weights);
  if (warm_ && sum_->capturable()) {
    plan_.Claim();
    if (slot.graph.empty() || slot.generation != plan_.generation() || slot.samples != samples_) {
      slot.graph.Capture(stream(), [&] { EnqueueStep(number); });
      slot.generation = plan_.generation();
      slot.samples = samples_;
    }
    slot.graph.Launch(stream());
  } else {
    EnqueueStep(number);
    warm_ = true;
  }
  slot.done.Record(stream().get());
  underway_.push_back(number);
  next_slot_ = (number + 1) % StepFeeder::kSlots;
}

void CudaTrainer::EnqueueStep(int slot) {
  Check(cudaMemsetAsync(loss_.data(), 0, sizeof(DeviceLoss), stream().get()), "cudaMemsetAsync");
  for (int lane = 0; lane < options_.shape.lanes; ++lane) EnqueueLane(slot, lane);
  PackTotals(stream().get(), loss_.as<DeviceLoss>(), plan_.hidden_nonfinite(), feeder_.scalars(slot), reducer_.totals());
  reducer_.Finish();  // every gradient is now the mean over the global batch
  EnqueueUpdate(slot);
}

void CudaTrainer::EnqueueLane(int slot, int lane) {
  const DeviceRows rows = feeder_.Rows(slot, lane * options_.shape.lane_rows, samples_[static_cast<size_t>(lane)]);
  plan_.EnqueueForward(rows, feeder_.scalars(slot));
  plan_.EnqueueLoss(rows, 1.0F / static_cast<float>(options_.global_batch), loss_.as<DeviceLoss>());
  for (int layer = static_cast<int>(plan_.network().layers.size()) - 1; layer >= 0; --layer) {
    plan_.EnqueueBackwardData(layer);
    plan_.EnqueueBackwardWeights(layer);
    reducer_.Push(layer, lane);  // a full bucket starts its sum over ranks here, under the rest of the pass
  }
}

void CudaTrainer::EnqueueUpdate(int slot) {
  const CudaParameterStore& parameters = plan_.parameters();
  GateUpdate(stream().get(), reducer_.totals(), flags_.as<TrainerFlags>());
  SgdUpdate(stream().get(),
            {.weights = parameters.weights(),
             .momenta = parameters.momenta(),
             .gradients = reducer_.gradients(),
             .copy = parameters.copy(),
             .total = parameters.total()},
            spans_.as<ParameterSpan>(), static_cast<int>(host_spans_.size()), static_cast<float>(options_.momentum),
            feeder_.scalars(slot), flags_.as<TrainerFlags>());
  auto* figures = slots_[static_cast<size_t>(slot)].figures.as<StepFigures>();
  CopyToHost(figures->totals, reducer_.totals(), sizeof(figures->totals), stream().get());
  CopyToHost(&figures->flags, flags_.data(), sizeof(figures->flags), stream().get());
}

StepResult CudaTrainer::Settle() {
  PLATEAU_CHECK(!underway_.empty(), "{}", "no step is unsettled");
  const Slot& slot = slots_[static_cast<size_t>(underway_.front())];
  sum_->Wait(slot.done);
  underway_.pop_front();
  const auto* figures = slot.figures.as<StepFigures>();
  StepResult result{.totals = Unpack(figures->totals)};
  if (const int span = figures->flags.nonfinite_parameter; span < static_cast<int>(host_spans_.size()))
    result.nonfinite_parameter = plan_.parameters().order()[static_cast<size_t>(span)];
  return result;
}

std::vector<std::string> CudaTrainer::algorithms() const {
  const std::string text = sum_->description();
  if (text.empty()) return {};
  return {fmt::format("{}, {} buckets", text, reducer_.buckets())};
}

}  // namespace

Result<std::unique_ptr<Trainer>> CreateCudaTrainer(CudaPlan& training, const TrainerOptions& options, Collective& collective) {
  const EngineOptions& engine = training.engine_options();
  try {
    PLATEAU_ASSIGN(auto sum, MakeRankSum({.wanted = engine.collective,
                                          .device = engine.device,
                                          .deterministic = engine.deterministic,
                                          .most_floats = training.parameters().total() + kTotals,
                                          .watch = engine.watch},
                                         collective, training.libraries().stream()));
    return std::make_unique<CudaTrainer>(training, options, std::move(sum));
  } catch (const Failure& failure) {
    const char* advice = options.shape.lanes == 1
                             ? "; use a smaller batch"
                             : "; use fewer images a rank, or training.micro_batch: auto, which counts these sums";
    return Fail(failure.code(), "{}: a trainer of {} lanes of {} rows, with {} MiB for sums over lanes: {}{}",
                training.network().name, options.shape.lanes, options.shape.lane_rows,
                DeviceReducer::ExtraBytes(training.parameters().total(), options.shape.lanes) >> 20, failure.what(),
                failure.code() == ErrorCode::kUnavailable ? advice : "");
  }
}

}  // namespace plateau::cuda
