// The oneDNN engine: parameters, and a bounded list of compiled plans that share them and one arena.
#include <omp.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <new>

#include "common/check.h"
#include "common/log.h"
#include "worker/backend/cpu/cpu_plan.h"
#include "worker/backend/cpu/layer_setup.h"
#include "worker/backend/cpu/runnable.h"

namespace plateau {
namespace {

class CpuEngine final : public Engine {
 public:
  CpuEngine(Network network, const EngineOptions& options, const std::vector<LayerShape>& shapes);
  const Network& network() const override { return context_.network; }
  ParameterStore& parameters() override { return *context_.parameters; }
  Result<Plan*> Compile(const PlanOptions& options) override;
  std::string description() const override;

 private:
  CpuContext context_;
  std::list<std::unique_ptr<CpuPlan>> plans_;  // the most recently asked for first
};

bool HasAvx512() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa()), wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
  return (isa & wanted) == wanted;
}

bool SameOptions(const PlanOptions& a, const PlanOptions& b) {
  return a.batch == b.batch && a.height == b.height && a.width == b.width && a.training == b.training;
}

// What a plan with this input cannot do with the engine's fully connected weights.
Status RequireFit(const CpuContext& context, const PlanOptions& options, const std::vector<LayerShape>& shapes) {
  for (size_t layer = 0; layer < context.network.layers.size(); ++layer) {
    const LayerDef& def = context.network.layers[layer];
    if (def.kind != LayerKind::kFullyConnected || (!options.training && def.auxiliary != 0)) continue;
    const LayerShape in = InputShape(context.network, shapes, options.height, options.width, static_cast<int>(layer));
    const int64_t inputs = int64_t{in.channels} * in.height * in.width;
    const int64_t wanted = context.parameters->info(context.first_parameter[layer]).shape[1];
    if (inputs == wanted) continue;
    return Fail(ErrorCode::kInvalidInput,
                "{}: an input of {}x{} gives layer {} {} values, its weights for crop {} take {}; use images of the crop's size",
                context.network.name, options.height, options.width, def.name, inputs, context.options.crop, wanted);
  }
  const LayerShape& last = shapes.back();
  if (last.height != 1 || last.width != 1)
    return Fail(ErrorCode::kInvalidInput,
                "{}: an input of {}x{} leaves a map of {}x{} after the last layer, {}, and logits are 1x1", context.network.name,
                options.height, options.width, last.height, last.width, context.network.layers.back().name);
  if (options.training && context.network.layers.back().kind != LayerKind::kFullyConnected)
    return Fail(ErrorCode::kUnsupported, "{}: its last layer, {}, is not fully connected; the CPU engine trains no such network",
                context.network.name, context.network.layers.back().name);
  return {};
}

// Whether each layer's output depends on a parameter.
std::vector<bool> Learning(const Network& network) {
  std::vector<bool> learns;
  for (const LayerDef& def : network.layers) {
    const bool before =
        std::ranges::any_of(def.inputs, [&](int input) { return input >= 0 && learns[static_cast<size_t>(input)]; });
    learns.push_back(before || HasParameters(def));
  }
  return learns;
}

CpuEngine::CpuEngine(Network network, const EngineOptions& options, const std::vector<LayerShape>& shapes) {
  context_.engine = dnnl::engine(dnnl::engine::kind::cpu, 0);
  context_.stream = dnnl::stream(context_.engine);
  context_.options = options;
  context_.has_avx512 = HasAvx512();
  context_.network = std::move(network);
  omp_set_num_threads(options.threads);
  auto infos = ListParameters(context_.network, shapes);
  context_.first_parameter.assign(context_.network.layers.size(), -1);
  for (int i = static_cast<int>(infos.size()) - 1; i >= 0; --i) context_.first_parameter[infos[i].layer] = i;
  context_.learns = Learning(context_.network);
  const auto formats = NativeFormats(context_, shapes);
  context_.parameters = std::make_unique<CpuParameterStore>(context_.engine, options.threads, std::move(infos), formats);
  static std::once_flag said;
  if (!context_.has_avx512) {
    std::call_once(said, [] { LogInfo("this CPU has no AVX-512: 3x3 convolutions run direct, not as Winograd"); });
  }
}

Result<Plan*> CpuEngine::Compile(const PlanOptions& options) {
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
  PLATEAU_TRY(RequireFit(context_, options, *shapes));
  omp_set_num_threads(context_.options.threads);
  try {
    if (options.training) context_.parameters->TouchForTraining();
    auto plan = std::make_unique<CpuPlan>(context_, options, *shapes);
    if (plans_.size() >= kMaxPlans) plans_.pop_back();
    plans_.push_front(std::move(plan));
    return plans_.front().get();
  } catch (const std::bad_alloc&) {
    return Fail(ErrorCode::kUnavailable,
                "{}: out of memory for a plan of batch {} at {}x{}; use a smaller batch (training.micro_batch)",
                context_.network.name, options.batch, options.height, options.width);
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory) {
      return Fail(ErrorCode::kUnavailable, "{}: oneDNN is out of memory for a plan of batch {} at {}x{}; use a smaller batch",
                  context_.network.name, options.batch, options.height, options.width);
    }
    return Fail(ErrorCode::kUnsupported, "{}: oneDNN cannot compile batch {} at {}x{}: {}", context_.network.name, options.batch,
                options.height, options.width, error.what());
  }
}

std::string CpuEngine::description() const {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("cpu (oneDNN {}.{}.{}, {}, {} thread{})", version->major, version->minor, version->patch,
                     context_.has_avx512 ? "AVX-512" : "no AVX-512", context_.options.threads,
                     context_.options.threads == 1 ? "" : "s");
}

}  // namespace

Result<std::unique_ptr<Engine>> CreateCpuEngine(Network network, const EngineOptions& options) {
  PLATEAU_CHECK(options.threads >= 1, "threads {}", options.threads);
  PLATEAU_TRY(RequireRunnable(network));
  const auto shapes = InferShapes(network, options.crop, options.crop);
  if (!shapes) return Fail(shapes.error());
  const std::string name = network.name;
  try {
    return std::make_unique<CpuEngine>(std::move(network), options, *shapes);
  } catch (const std::bad_alloc&) {
    return Fail(ErrorCode::kUnavailable, "{}: out of memory for its weights; use a smaller width", name);
  } catch (const dnnl::error& error) {
    return Fail(ErrorCode::kUnsupported, "{}: oneDNN cannot make it for crop {}: {}", name, options.crop, error.what());
  }
}

}  // namespace plateau
