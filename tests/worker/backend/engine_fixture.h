// What the engines' tests share: a small network, its data, and one whole step through a plan.
#pragma once

#include "tests/worker/backend/samples_fixture.h"
#include "worker/nn/reference.h"

namespace plateau {

struct StepResult {
  LossSums loss;
  std::vector<float> logits;
  std::vector<std::vector<float>> gradients;  // canonical
};

inline StepResult RunStep(Engine& engine, const LaneBatch& lane, int crop, int global_batch, uint64_t step = 3) {
  const auto plan =
      engine.Compile({.batch = static_cast<int>(lane.labels.size()), .height = crop, .width = crop, .training = true});
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  StepResult result;
  (*plan)->Forward(lane, step);
  result.loss = (*plan)->Loss(lane, global_batch);
  result.logits.assign((*plan)->logits().begin(), (*plan)->logits().end());
  for (int layer = static_cast<int>(engine.network().layers.size()) - 1; layer >= 0; --layer) {
    (*plan)->BackwardData(layer);
    (*plan)->BackwardWeights(layer);
  }
  ParameterStore& store = engine.parameters();
  store.FetchGradients();
  for (int p = 0; p < store.count(); ++p) result.gradients.push_back(Canonical(store, p, store.gradient(p)));
  return result;
}

inline std::vector<std::vector<double>> DoubleParameters(ParameterStore& store) {
  std::vector<std::vector<double>> list;
  for (int p = 0; p < store.count(); ++p) {
    const auto values = Canonical(store, p, store.weight(p));
    list.emplace_back(values.begin(), values.end());
  }
  return list;
}

}  // namespace plateau
