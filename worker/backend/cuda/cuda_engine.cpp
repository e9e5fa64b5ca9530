// Makes parameters and plans, and says what fits when memory does not do.
#include "worker/backend/cuda/cuda_engine.h"

#include <algorithm>
#include <list>
#include <map>

#include "common/check.h"
#include "common/compute.h"
#include "common/text.h"
#include "worker/backend/cuda/cuda_plan.h"
#include "worker/backend/cuda/cuda_trainer.h"
#include "worker/nn/runnable.h"

namespace plateau::cuda {
namespace {

// Left to the libraries' own needs when a batch is proposed: at most this, and a share of what is free.
constexpr uint64_t kReserve = uint64_t{1} << 30, kReserveShare = 16;

// What an engine without a caller's record times, it keeps for its own plans.
class OwnChoices final : public AlgorithmChoices {
 public:
  std::string Choose(const std::string& key, const std::function<std::string()>& time) override {
    const auto known = choices_.find(key);
    if (known != choices_.end()) return known->second;
    return choices_.emplace(key, time()).first->second;
  }

 private:
  std::map<std::string, std::string> choices_;
};

bool SameOptions(const PlanOptions& a, const PlanOptions& b) {
  return a.batch == b.batch && a.height == b.height && a.width == b.width && a.training == b.training;
}

class CudaEngine final : public Engine {
 public:
  // Throws Failure.
  CudaEngine(Network network, const EngineOptions& options, std::vector<LayerShape> shapes);
  const Network& network() const override { return context_.network; }
  ParameterStore& parameters() override { return *context_.parameters; }
  Result<Plan*> Compile(const PlanOptions& options) override;
  Result<int> LargestBatch(const PlanOptions& like) const override;
  std::string description() const override;
  Result<std::unique_ptr<Trainer>> CreateTrainer(Plan& training, const TrainerOptions& options, Collective& collective) override;

 private:
  uint64_t FreeBytes() const;
  Status RequireRoom(const PlanOptions& options) const;
  std::string WhatFits(const PlanOptions& options) const;

  CudaContext context_;
  std::vector<LayerShape> crop_shapes_;
  std::list<std::unique_ptr<CudaPlan>> plans_;  // the most recently asked for first
};

CudaEngine::CudaEngine(Network network, const EngineOptions& options, std::vector<LayerShape> shapes)
    : crop_shapes_(std::move(shapes)) {
  context_.options = options;
  context_.network = std::move(network);
  if (options.choices == nullptr) context_.own_choices = std::make_unique<OwnChoices>();
  AlgorithmChoices& choices = options.choices == nullptr ? *context_.own_choices : *options.choices;
  context_.libraries = std::make_unique<Libraries>(options.device, options.precision, options.deterministic, choices);
  auto infos = ListParameters(context_.network, crop_shapes_);
  context_.first_parameter.assign(context_.network.layers.size(), -1);
  for (int i = static_cast<int>(infos.size()) - 1; i >= 0; --i)
    context_.first_parameter[static_cast<size_t>(infos[static_cast<size_t>(i)].layer)] = i;
  DeviceParameters layout = LayOutParameters(context_.network, crop_shapes_, infos);
  context_.parameters =
      std::make_unique<CudaParameterStore>(*context_.libraries, options.threads, std::move(infos), std::move(layout));
}

Result<Plan*> CudaEngine::Compile(const PlanOptions& options) {
  const auto known =
      std::find_if(plans_.begin(), plans_.end(), [&](const auto& plan) { return SameOptions(plan->options(), options); });
  if (known != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, known);
    return plans_.front().get();
  }
  if (options.batch < 1)
    return Fail(ErrorCode::kInvalidInput, "{}: batch {}; at least 1 is needed", context_.network.name, options.batch);
  const auto shapes = InferShapes(context_.network, options.height, options.width);
  if (!shapes) return Fail(shapes.error());
  PLATEAU_TRY(RequireFit(context_.network, options, *shapes, context_.options.crop, crop_shapes_));
  try {
    PLATEAU_TRY(RequireRoom(options));
    if (options.training) context_.parameters->EnsureTraining();
    auto plan = std::make_unique<CudaPlan>(context_, options, *shapes);
    if (plans_.size() >= kMaxPlans) {
      context_.libraries->stream().Wait();  // its operators may be queued
      plans_.pop_back();
    }
    plans_.push_front(std::move(plan));
    return plans_.front().get();
  } catch (const Failure& failure) {
    if (failure.code() != ErrorCode::kUnavailable)
      return Fail(failure.code(), "{}: batch {} at {}x{}: {}", context_.network.name, options.batch, options.height, options.width,
                  failure.what());
    context_.libraries->ReleaseScratch();
    return Fail(ErrorCode::kUnavailable, "{}: out of memory for a plan of batch {} at {}x{} ({}); {}", context_.network.name,
                options.batch, options.height, options.width, failure.what(), WhatFits(options));
  }
}

// What this engine may use of the device: free memory, and what its plans hold already.
uint64_t CudaEngine::FreeBytes() const {
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free + context_.arena.buffer.bytes() + context_.arena.workspace.bytes();
}

// Refuses a plan whose buffers alone do not fit before minutes go into timing its operators.
Status CudaEngine::RequireRoom(const PlanOptions& options) const {
  const auto memory =
      PredictMemory(context_.network, context_.options.crop, options, context_.options.precision, options.batch);
  if (!memory) return Fail(memory.error().code, "{}; {}", memory.error().message, WhatFits(options));
  const bool has_momenta = context_.parameters->momenta() != nullptr;
  const uint64_t wanted = memory->arena + memory->rows + (has_momenta ? 0 : memory->momenta + memory->gradients);
  const uint64_t free = FreeBytes();
  if (wanted <= free) return {};
  return Fail(ErrorCode::kUnavailable, "{}: a plan of batch {} at {}x{} takes {}, and {} are free on device {}; {}",
              context_.network.name, options.batch, options.height, options.width, HumanBytes(wanted), HumanBytes(free),
              context_.options.device, WhatFits(options));
}

Result<int> CudaEngine::LargestBatch(const PlanOptions& like) const {
  const CudaParameterStore& store = *context_.parameters;
  const uint64_t flat = static_cast<uint64_t>(store.total()) * sizeof(float);
  const uint64_t held = flat + (store.momenta() != nullptr ? 2 * flat : 0) + (store.copy() != nullptr ? flat / 2 : 0);
  const uint64_t free = FreeBytes();
  return plateau::LargestBatch(context_.network, context_.options.crop, like, context_.options.precision,
                               free - std::min(kReserve, free / kReserveShare) + held);
}

std::string CudaEngine::WhatFits(const PlanOptions& options) const {
  const int in_lanes = *LargestBatch(options);
  PlanOptions alone = options;
  alone.batch = 1;
  const int largest = in_lanes > 0 ? in_lanes : *LargestBatch(alone);
  if (largest == 0) return "not even a batch of 1 fits: use smaller images, a narrower network, or a device with more memory";
  return fmt::format("the largest batch that fits is {}: set training.micro_batch to it, or to auto", largest);
}

std::string CudaEngine::description() const {
  return fmt::format("cuda ({}, {}, {})", context_.libraries->device_name(), context_.libraries->versions(),
                     PrecisionName(context_.options.precision));
}

Result<std::unique_ptr<Trainer>> CudaEngine::CreateTrainer(Plan& training, const TrainerOptions& options, Collective& collective) {
  const auto own = std::ranges::find(plans_, &training, [](const auto& plan) -> Plan* { return plan.get(); });
  PLATEAU_CHECK(own != plans_.end() && training.options().training, "{}: a trainer needs a training plan of this engine",
                context_.network.name);
  return CreateCudaTrainer(**own, options, collective);
}

}  // namespace

Result<std::unique_ptr<Engine>> CreateCudaEngine(Network network, const EngineOptions& options) {
  PLATEAU_CHECK(options.threads >= 1, "threads {}", options.threads);
  PLATEAU_TRY(RequireRunnable(network));
  auto shapes = InferShapes(network, options.crop, options.crop);
  if (!shapes) return Fail(shapes.error());
  const std::string name = network.name;
  try {
    return std::make_unique<CudaEngine>(std::move(network), options, std::move(*shapes));
  } catch (const Failure& failure) {
    return Fail(failure.code(), "{}: {}", name, failure.what());
  }
}

}  // namespace plateau::cuda
