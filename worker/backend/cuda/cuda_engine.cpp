// Makes parameters and plans, and says what fits when memory does not do.
#include "worker/backend/cuda/cuda_engine.h"

#include <algorithm>
#include <list>

#include "common/check.h"
#include "common/compute.h"
#include "common/text.h"
#include "worker/backend/cuda/cuda_plan.h"
#include "worker/backend/cuda/cuda_scorer.h"
#include "worker/backend/cuda/cuda_trainer.h"
#include "worker/nn/recorded_choices.h"
#include "worker/nn/runnable.h"

namespace plateau::cuda {
namespace {

// Ranks that share a device sum through the host.
bool MayTakeNccl(const EngineOptions& options) {
  return options.ranks > 1 && options.device_sharers == 1 && options.collective != CollectiveKind::kMpi;
}

// "14286 (14280 as a multiple of 8)": products of even sizes are the fast ones.
std::string BatchText(int batch) {
  const int unit = batch >= 16 ? 8 : 2;
  if (batch < 2 || batch % unit == 0) return std::to_string(batch);
  return fmt::format("{} ({} as a multiple of {})", batch, batch / unit * unit, unit);
}

constexpr const char* kNothingFits =
    "not even a batch of 1 fits: use smaller images, a narrower network, or a device with more memory";

// Of the current device, for all its users.
uint64_t FreeNow() {
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

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
  bool takes_pixels() const override { return context_.network.channels <= kMostPixelChannels; }
  Result<std::unique_ptr<Trainer>> CreateTrainer(Plan& training, const TrainerOptions& options, Collective& collective) override;
  Result<std::unique_ptr<Scorer>> CreateScorer(Plan& evaluation, bool pixels) override;

 private:
  CudaPlan& Own(const Plan& plan, bool training) const;
  uint64_t ParameterBytes() const;
  uint64_t FreeBytes() const;
  uint64_t Planning() const { return PlanningBytes(FreeBytes() + ParameterBytes(), MayTakeNccl(context_.options)); }
  Status RequireRoom(const PlanOptions& options) const;
  std::string WhatFits(const PlanOptions& options) const;
  std::string NoCutFits(const PlanOptions& rank, uint64_t bytes) const;
  std::string DeviceText() const;

  CudaContext context_;
  uint64_t part_ = UINT64_MAX;  // of the device's memory, that this rank may use
  std::vector<LayerShape> crop_shapes_;
  std::list<std::unique_ptr<CudaPlan>> plans_;  // the most recently asked for first
};

CudaEngine::CudaEngine(Network network, const EngineOptions& options, std::vector<LayerShape> shapes)
    : crop_shapes_(std::move(shapes)) {
  context_.options = options;
  context_.network = std::move(network);
  if (options.choices == nullptr) context_.own_choices = std::make_unique<RecordedChoices>(ChoiceTable(), ChoiceTable());
  AlgorithmChoices& choices = options.choices == nullptr ? *context_.own_choices : *options.choices;
  context_.libraries = std::make_unique<Libraries>(options.device, options.precision, options.deterministic, choices);
  context_.libraries->WatchBy(options.watch);
  if (options.device_sharers > 1)
    part_ = (options.device_free_bytes > 0 ? options.device_free_bytes : FreeNow()) / static_cast<uint64_t>(options.device_sharers);
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
    context_.FreeLeft();
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

uint64_t CudaEngine::ParameterBytes() const {
  const CudaParameterStore& store = *context_.parameters;
  const uint64_t flat = static_cast<uint64_t>(store.total()) * sizeof(float);
  return flat + (store.momenta() != nullptr ? 2 * flat : 0) + (store.copy() != nullptr ? flat / 2 : 0);
}

// What plans may take: free memory and what they hold already, in this rank's part of the device.
uint64_t CudaEngine::FreeBytes() const {
  const uint64_t parameters = ParameterBytes();
  return std::min(FreeNow() + context_.arena.buffer.bytes() + context_.arena.workspace.bytes(),
                  part_ - std::min(part_, parameters));
}

std::string CudaEngine::DeviceText() const {
  const int sharers = context_.options.device_sharers;
  if (sharers == 1) return fmt::format("device {}", context_.options.device);
  return fmt::format("this rank's part of device {}, which {} ranks share", context_.options.device, sharers);
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
  return Fail(ErrorCode::kUnavailable, "{}: a plan of batch {} at {}x{} takes {}, and {} are free on {}; {}", context_.network.name,
              options.batch, options.height, options.width, HumanBytes(wanted), HumanBytes(free), DeviceText(), WhatFits(options));
}

Result<int> CudaEngine::LargestBatch(const PlanOptions& like) const {
  const uint64_t bytes = Planning();
  const int lane_rows = plateau::LargestBatch(context_.network, context_.options.crop, like, context_.options.precision, bytes);
  if (lane_rows > 0) return lane_rows;
  return Fail(ErrorCode::kUnavailable, "{}", NoCutFits(like, bytes));
}

// Of a plan alone: the caller may have more on its mind, such as sums over lanes.
std::string CudaEngine::WhatFits(const PlanOptions& options) const {
  PlanOptions alone = options;
  alone.batch = 1;
  const int largest = plateau::LargestBatch(context_.network, context_.options.crop, alone, context_.options.precision, Planning());
  return largest > 0 ? "the largest batch that fits is " + BatchText(largest) : kNothingFits;
}

// `bytes` are what parameters and plans may take.
std::string CudaEngine::NoCutFits(const PlanOptions& rank, uint64_t bytes) const {
  const Network& network = context_.network;
  const auto [precision, crop] = std::pair(context_.options.precision, context_.options.crop);
  const std::string begin = fmt::format("{}: the {} images of a rank at {}x{} do not fit into {} of {}", network.name, rank.batch,
                                        rank.height, rank.width, HumanBytes(bytes), DeviceText());
  const auto least = LeastMemory(network, crop, rank, precision);
  if (!least) return fmt::format("{}: {}", begin, least.error().message);
  const DeviceMemory& memory = least->memory;
  const auto at_once = PredictMemory(network, crop, rank, precision, rank.batch);
  std::string tried = at_once ? fmt::format(" at once ({})", HumanBytes(at_once->total())) : " at once";
  if (least->lanes > 1)
    tried += fmt::format(
        " nor in lanes: {} of {} take the least, {}, of which {} are their open sums and {} the batches on their way", least->lanes,
        least->lane_rows, HumanBytes(memory.total()), HumanBytes(memory.branches), HumanBytes(memory.batches));
  else if (rank.batch > 1)
    tried += ", and lanes take more, for their open sums";
  const int most = MostRows(network, crop, rank, precision, bytes);
  if (most == 0) return fmt::format("{}{}; {}", begin, tried, kNothingFits);
  return fmt::format("{}{}; a rank of {} images fits: use more ranks, each with a device of its own, or a smaller global batch",
                     begin, tried, most);
}

std::string CudaEngine::description() const {
  return fmt::format("cuda ({}, {}, {})", context_.libraries->device_name(), context_.libraries->versions(),
                     PrecisionName(context_.options.precision));
}

CudaPlan& CudaEngine::Own(const Plan& plan, bool training) const {
  const auto own = std::ranges::find(plans_, &plan, [](const auto& one) -> const Plan* { return one.get(); });
  PLATEAU_CHECK(own != plans_.end() && plan.options().training == training, "{}: not a plan of this engine for {}",
                context_.network.name, training ? "training" : "evaluation");
  return **own;
}

Result<std::unique_ptr<Trainer>> CudaEngine::CreateTrainer(Plan& training, const TrainerOptions& options, Collective& collective) {
  return CreateCudaTrainer(Own(training, true), options, collective);
}

Result<std::unique_ptr<Scorer>> CudaEngine::CreateScorer(Plan& evaluation, bool pixels) {
  CudaPlan& plan = Own(evaluation, false);
  try {
    context_.FreeLeft();
  } catch (const Failure& failure) {
    return Fail(failure.code(), "{}: {}", context_.network.name, failure.what());
  }
  return CreateCudaScorer(plan, pixels);
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
