// What the tests of the CUDA engine share: an engine on the first device, filled as the CPU's is.
#pragma once

#include <map>

#include "tests/support/cuda_device.h"
#include "tests/worker/backend/dag_fixture.h"
#include "worker/backend/cuda/cuda_engine.h"
#include "worker/backend/cuda/cuda_plan.h"

namespace plateau::cuda {

// One record for all engines of a test program, as the ranks of a job have: two engines then compute by the same algorithms, which is
// what equal bits rest on, and nothing is timed twice.
class RecordedChoices final : public AlgorithmChoices {
 public:
  std::string Choose(const std::string& key, const std::function<std::string()>& time) override {
    const auto known = choices_.find(key);
    return known != choices_.end() ? known->second : choices_.emplace(key, time()).first->second;
  }

 private:
  std::map<std::string, std::string> choices_;
};

inline AlgorithmChoices& SharedChoices() {
  static RecordedChoices choices;
  return choices;
}

inline std::unique_ptr<Engine> MakeCudaEngine(const Network& network, EngineOptions options) {
  if (options.choices == nullptr) options.choices = &SharedChoices();
  auto engine = CreateCudaEngine(network, options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  if (!engine) throw std::runtime_error(engine.error().message);  // nothing behind makes sense
  FillParameters((*engine)->parameters(), options.seed);
  return std::move(*engine);
}

inline CudaPlan* Compile(Engine& engine, const PlanOptions& options) {
  const auto plan = engine.Compile(options);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  if (!plan) throw std::runtime_error(plan.error().message);
  return static_cast<CudaPlan*>(*plan);
}

// Every gradient within `bound` of the right one, relative L2, or within `floor` of the size of the whole gradient: biases in front of
// batch norm have gradients of nothing but rounding.
template <typename Right>
void ExpectGradients(const ParameterStore& store, const std::vector<std::vector<float>>& ours, const Right& right, double bound,
                     double floor) {
  ASSERT_EQ(ours.size(), right.size());
  double whole = 0;
  for (const auto& gradient : right)
    for (const auto value : gradient) whole += double{value} * double{value};
  for (size_t p = 0; p < right.size(); ++p) {
    double difference = 0, size = 0;
    ASSERT_EQ(ours[p].size(), right[p].size());
    for (size_t i = 0; i < right[p].size(); ++i) {
      difference += std::pow(double{ours[p][i]} - double{right[p][i]}, 2);
      size += std::pow(double{right[p][i]}, 2);
    }
    EXPECT_LT(std::sqrt(difference), bound * std::sqrt(size) + floor * std::sqrt(whole))
        << store.info(static_cast<int>(p)).name << " of size " << std::sqrt(size) << ", all " << std::sqrt(whole);
  }
}

}  // namespace plateau::cuda
