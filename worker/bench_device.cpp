// The timed loops on a device.
#include "worker/bench_device.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "worker/bench_input.h"
#include "worker/collective/single.h"
#include "worker/model/accounting.h"
#include "worker/nn/init.h"
#include "worker/nn/trainer.h"
#include "worker/train/choices_files.h"

namespace plateau {
namespace {

constexpr int kWarmUpSteps = 3;
constexpr double kLearningRate = 1e-3;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Passes that the host drives one by one: the device's clock sees each. The weights stay as they are.
std::vector<PassSeconds> TimePasses(Engine& engine, Plan& plan, const BenchInput& input, const BenchOptions& options) {
  const size_t layers = engine.network().layers.size();
  std::vector<std::vector<double>> forward(layers), data(layers), weights(layers);
  for (int step = 0; step < kWarmUpSteps + options.steps; ++step) {
    plan.Forward(input.lane(), 0);
    plan.Loss(input.lane(), options.batch);
    for (int layer = static_cast<int>(layers) - 1; layer >= 0; --layer) {
      plan.BackwardData(layer);
      plan.BackwardWeights(layer);
    }
    const std::vector<PassSeconds> passes = plan.pass_seconds();
    if (step < kWarmUpSteps) continue;
    for (size_t layer = 0; layer < layers; ++layer) {
      forward[layer].push_back(passes[layer].forward);
      data[layer].push_back(passes[layer].data);
      weights[layer].push_back(passes[layer].weights);
    }
  }
  std::vector<PassSeconds> medians;
  for (size_t layer = 0; layer < layers; ++layer)
    medians.push_back({Median(forward[layer]), Median(data[layer]), Median(weights[layer])});
  return medians;
}

// Whole steps as training enqueues them. A step's time is that between two settled steps.
Status TimeSteps(Trainer& trainer, const BenchInput& input, const BenchOptions& options, DeviceBench& bench) {
  const int steps = kWarmUpSteps + options.steps;
  double before = 0;
  for (int step = 0; step < steps + trainer.depth(); ++step) {
    if (step < steps) trainer.Enqueue({.rows = input.lane(), .step = static_cast<uint64_t>(step), .lr = kLearningRate});
    if (step < trainer.depth()) continue;
    const StepTotals totals = trainer.Settle().totals;
    const int settled = step - trainer.depth();
    const double now = Seconds(), loss = totals.loss / static_cast<double>(totals.images);
    if (!std::isfinite(loss) || totals.nonfinite > 0)
      return Fail(ErrorCode::kNumeric, "step {} of the benchmark has loss {}: its speed means nothing", settled, loss);
    if (settled == 0) bench.first_loss = loss;
    bench.last_loss = loss;
    if (settled >= kWarmUpSteps) bench.step_s.push_back(now - before);
    before = now;
  }
  std::sort(bench.step_s.begin(), bench.step_s.end());
  return {};
}

}  // namespace

Result<DeviceBench> RunDeviceBench(const BenchOptions& options, const Compute& compute) {
  if (options.steps < 1 || options.batch < 1 || options.threads < 1)
    return Fail(ErrorCode::kInvalidInput, "--steps {}, --batch {} and --threads {} must be at least 1", options.steps,
                options.batch, options.threads);
  PLATEAU_ASSIGN(const Network network, MakeNetwork(options.network, {.width = options.width, .classes = options.classes}));
  PLATEAU_ASSIGN(const auto costs, CountCosts(network, options.crop, options.crop));
  PLATEAU_ASSIGN(const auto shapes, InferShapes(network, options.crop, options.crop));
  PosixFileSystem files;
  const auto choices = OpenChoices(files, 0, {}, RecordedChoices::Use::kTraining);  // as a new run takes them
  PLATEAU_ASSIGN(
      const auto engine,
      CreateEngine(compute.device, network,
                   {.threads = options.threads, .crop = options.crop, .precision = compute.precision, .choices = choices.get()}));
  InitParameters(engine->parameters(), InitScheme{}, 1);
  const PlanOptions plan_options{.batch = options.batch, .height = options.crop, .width = options.crop, .training = true};
  const auto compiled = engine->Compile(plan_options);
  if (!compiled) return Fail(BatchError(options, compiled.error()));
  KeepTimedChoices(files, *choices);
  Plan* plan = *compiled;
  const bool pixels = engine->takes_pixels();  // then training feeds them
  const BenchInput input = MakeBenchInput(options.batch, network.channels, options.crop, options.classes, pixels);
  DeviceBench bench{.device = engine->description(), .precision = compute.precision, .train_flops = TrainFlops(network, costs)};
  bench.passes = TimePasses(*engine, *plan, input, options);
  SingleCollective alone;
  const auto made =
      engine->CreateTrainer(*plan, {.shape = {1, options.batch}, .global_batch = options.batch, .pixels = pixels}, alone);
  if (!made) return Fail(BatchError(options, made.error()));
  const std::unique_ptr<Trainer>& trainer = *made;
  if (trainer == nullptr) return Fail(ErrorCode::kInternal, "{} has no trainer of whole steps", bench.device);
  PLATEAU_TRY(TimeSteps(*trainer, input, options, bench));
  bench.floors = FloorsOf(network, shapes, LayOutPlan(network, shapes, plan_options, compute.precision));
  for (const LayerDef& layer : network.layers) bench.names.push_back(layer.name);
  bench.algorithms = plan->algorithms();
  const CudaAnswer answer = AskCuda();
  if (answer.table == nullptr) return Fail(ErrorCode::kUnsupported, "device: cuda is gone: {}", answer.reason);
  PLATEAU_ASSIGN(bench.rates, answer.table->measure_rates(compute.device.device, compute.precision));
  return bench;
}

}  // namespace plateau
