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
#include "worker/nn/runnable.h"

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
  std::vector<LayerShape> crop_shapes_;
  std::list<std::unique_ptr<CpuPlan>> plans_;  // the most recently asked for first
};

bool HasAvx512() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa()), wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
  return (isa & wanted) == wanted;
}

bool SameOptions(const PlanOptions& a, const PlanOptions& b) {
  return a.batch == b.batch && a.height == b.height && a.width == b.width && a.training == b.training;
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
  context_.learns = LearningLayers(context_.network);
  crop_shapes_ = shapes;
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
  PLATEAU_TRY(RequireFit(context_.network, options, *shapes, context_.options.crop, crop_shapes_));
  omp_set_num_threads(context_.options.threads);
  try {
    if (options.training) context_.parameters->TouchForTraining();
    auto plan = std::make_unique<CpuPlan>(context_, options, *shapes);
    if (plans_.size() >= kMaxPlans) plans_.pop_back();
    plans_.push_front(std::move(plan));
    return plans_.front().get();
  } catch (const std::bad_alloc&) {
    return Fail(ErrorCode::kUnavailable, "{}: out of memory for a plan of batch {} at {}x{}; use a smaller batch",
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
