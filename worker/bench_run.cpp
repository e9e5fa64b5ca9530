// The timed loop.
#include "worker/bench_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "common/text.h"
#include "worker/backend/cpu/gemm_rate.h"
#include "worker/bench_input.h"
#include "worker/model/accounting.h"
#include "worker/nn/init.h"
#include "worker/train/host_lanes.h"
#include "worker/train/sgd.h"

namespace plateau {
namespace {

constexpr int kWarmUpSteps = 2;
constexpr float kLearningRate = 1e-3F, kMomentum = 0.9F, kWeightDecay = 5e-4F;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Raw times of every step.
struct Samples {
  std::vector<std::vector<double>> forward, data, weights;  // [layer][step]
  std::vector<double> loss, sgd, step;
};

double TimedStep(Engine& engine, Plan& plan, const BenchInput& input, const BenchOptions& options, uint64_t step, Samples& samples) {
  const double begin = Seconds();
  plan.Forward(input.lane(), step);
  const double after_forward = Seconds();
  const LossSums loss = plan.Loss(input.lane(), options.batch);
  samples.loss.push_back(Seconds() - after_forward);
  for (int layer = static_cast<int>(engine.network().layers.size()) - 1; layer >= 0; --layer) {
    const double start = Seconds();
    plan.BackwardData(layer);
    const double middle = Seconds();
    plan.BackwardWeights(layer);
    samples.data[layer].push_back(middle - start);
    samples.weights[layer].push_back(Seconds() - middle);
    samples.forward[layer].push_back(plan.forward_seconds()[layer]);
  }
  const double before_update = Seconds();
  ParameterStore& store = engine.parameters();
  for (int p = 0; p < store.count(); ++p) {
    SgdUpdate(store.weight(p), store.momentum(p), store.gradient(p), kLearningRate, kMomentum, kWeightDecay, options.threads);
  }
  store.WeightsChanged();
  samples.sgd.push_back(Seconds() - before_update);
  samples.step.push_back(Seconds() - begin);
  return loss.loss / options.batch;
}

BenchResult Summarise(const Engine& engine, const Plan& plan, Samples samples) {
  BenchResult result;
  result.device = engine.description();
  result.loss_s = Median(samples.loss);
  result.sgd_s = Median(samples.sgd);
  result.algorithms = plan.algorithms();
  for (size_t layer = 0; layer < engine.network().layers.size(); ++layer) {
    result.layers.push_back({engine.network().layers[layer].name, Median(samples.forward[layer]), Median(samples.data[layer]),
                             Median(samples.weights[layer])});
  }
  result.step_s = std::move(samples.step);
  std::sort(result.step_s.begin(), result.step_s.end());
  return result;
}

// More than there is would not be refused by the system but end some process when it is used. Steps were seen to take between 0.77
// and 1 of the estimate.
Status RequireMemory(const BenchOptions& options, const Network& network, const std::vector<LayerCost>& costs) {
  const TrainingMemory memory =
      EstimateTrainingMemory(network, costs, options.crop, options.crop, options.batch, SummaryPrecision::kFp32);
  const auto estimate = static_cast<uint64_t>(memory.total());
  const uint64_t machine = MachineMemoryBytes();
  if (estimate / 4 * 3 <= machine) return {};
  return Fail(ErrorCode::kInvalidInput, "--batch {}: {} would take an estimated {}, and this machine has {}; give a smaller one",
              options.batch, network.name, HumanBytes(estimate), HumanBytes(machine));
}

}  // namespace

Error BatchError(const BenchOptions& options, Error error) {
  if (error.code != ErrorCode::kUnavailable) return error;
  return {ErrorCode::kInvalidInput, fmt::format("--batch {}: {}", options.batch, error.message)};
}

Result<BenchResult> RunBench(const BenchOptions& options) {
  if (options.steps < 1 || options.batch < 1 || options.threads < 1) {
    return Fail(ErrorCode::kInvalidInput, "--steps {}, --batch {} and --threads {} must be at least 1", options.steps,
                options.batch, options.threads);
  }
  const auto network = MakeNetwork(options.network, {.width = options.width, .classes = options.classes});
  if (!network) return Fail(network.error());
  const auto costs = CountCosts(*network, options.crop, options.crop);
  if (!costs) return Fail(costs.error());
  PLATEAU_TRY(RequireMemory(options, *network, *costs));
  const auto engine =
      CreateCpuEngine(*network, {.threads = options.threads, .crop = options.crop, .convolution = options.algorithm});
  if (!engine) return Fail(engine.error());
  InitParameters((*engine)->parameters(), InitScheme{}, 1);
  const auto plan = (*engine)->Compile({.batch = options.batch, .height = options.crop, .width = options.crop, .training = true});
  if (!plan) return Fail(BatchError(options, plan.error()));

  const BenchInput input = MakeBenchInput(options.batch, network->channels, options.crop, options.classes);
  const std::vector<std::vector<double>> none(network->layers.size());
  Samples samples;
  double first_loss = 0, last_loss = 0;
  for (int step = 0; step < kWarmUpSteps + options.steps; ++step) {
    if (step == 0 || step == kWarmUpSteps) samples = Samples{none, none, none, {}, {}, {}};
    last_loss = TimedStep(**engine, **plan, input, options, static_cast<uint64_t>(step), samples);
    if (step == 0) first_loss = last_loss;
    if (!std::isfinite(last_loss))
      return Fail(ErrorCode::kNumeric, "step {} of the benchmark has loss {}: its speed means nothing", step, last_loss);
  }
  std::optional<CheckpointTimes> checkpoint;
  if (!options.checkpoint.empty()) {
    Samples beside{none, none, none, {}, {}, {}};
    uint64_t step = static_cast<uint64_t>(kWarmUpSteps + options.steps);
    PLATEAU_ASSIGN(checkpoint,
                   TimeCheckpoints((*engine)->parameters(), options.threads, options.checkpoint, options.rounds, options.steps,
                                   [&] { last_loss = TimedStep(**engine, **plan, input, options, step++, beside); }));
  }
  BenchResult result = Summarise(**engine, **plan, std::move(samples));
  result.checkpoint = std::move(checkpoint);
  result.train_flops = TrainFlops(*network, *costs);
  result.first_loss = first_loss;
  result.last_loss = last_loss;
  result.gemm_gflops = MeasureGemmGflops(options.threads);
  return result;
}

}  // namespace plateau
