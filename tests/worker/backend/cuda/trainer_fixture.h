// What the tests of the CUDA trainer share: small networks, batches that differ from step to step, and runs of a few steps.
#pragma once

#include <deque>
#include <functional>
#include <map>

#include "tests/support/cuda_device.h"
#include "tests/worker/backend/samples_fixture.h"
#include "worker/backend/cuda/cuda_engine.h"
#include "worker/backend/cuda/cuda_trainer.h"
#include "worker/collective/single.h"
#include "worker/nn/trainer.h"

namespace plateau::cuda {

struct Recipe {
  const char* network = "small";
  double width = 1;
  int channels = 3, crop = 16;
  double dropout = 0.5;
  int classes = 4, global_batch = 6;
  int steps = 20;
  bool pixels = false;  // batches bring bytes to the trainer
};

// Convolutions, pools, dropout: timing its algorithms takes moments.
inline Network SmallNetwork(const Recipe& r) {
  const auto conv = [](const char* name, int input, int channels) {
    return LayerDef{.kind = LayerKind::kConvolution, .name = name, .inputs = {input}, .out_channels = channels, .kernel = 3, .pad = 1, .relu = true};
  };
  const auto pool = [](const char* name, int input) {
    return LayerDef{.kind = LayerKind::kMaxPool, .name = name, .inputs = {input}, .kernel = 2, .stride = 2, .pad = 0};
  };
  const auto fc = [](const char* name, int input, int units, bool relu, double dropout) {
    return LayerDef{
        .kind = LayerKind::kFullyConnected, .name = name, .inputs = {input}, .out_channels = units, .relu = relu, .dropout = dropout};
  };
  return {.name = "small",
          .classes = r.classes,
          .channels = r.channels,
          .layers = {conv("conv1", -1, 6), pool("pool1", 0), conv("conv2", 1, 10), pool("pool2", 2), fc("fc3", 3, 20, true, r.dropout),
                     fc("fc4", 4, r.classes, false, 0)}};
}

inline Network NetworkOf(const Recipe& r) {
  if (std::string(r.network) == "small") return SmallNetwork(r);
  return *MakeNetwork(r.network, {.width = r.width, .classes = r.classes, .channels = r.channels, .dropout = r.dropout});
}

inline TrainerOptions OptionsOf(const Recipe& r, const LaneShape& shape) {
  return {.shape = shape, .global_batch = r.global_batch, .momentum = 0.9, .weight_decay = 5e-3, .pixels = r.pixels};
}

// The global batch of a step, and the rows [begin, end) of it in lanes, padded at the end.
inline Samples BatchOf(const Recipe& r, uint64_t step) {
  return (r.pixels ? MakePixelSamples : MakeSamples)(r.global_batch, r.crop, r.classes, 100 + step, r.channels);
}
inline Samples RowsOf(const Samples& all, int begin, int end, const LaneShape& shape) {
  const LaneBatch rows = all.rows(begin, end);
  Samples of_rank{.images = {rows.images.begin(), rows.images.end()},
                  .weights = {rows.weights.begin(), rows.weights.end()},
                  .labels = {rows.labels.begin(), rows.labels.end()},
                  .index = {rows.sample_index.begin(), rows.sample_index.end()}};
  const auto count = static_cast<size_t>(shape.rows());
  const size_t image = all.images.size() / all.labels.size();
  of_rank.images.resize(count * image);
  if (!all.pixels.empty()) {
    const auto first = static_cast<ptrdiff_t>(begin), last = static_cast<ptrdiff_t>(end), bytes = static_cast<ptrdiff_t>(image);
    of_rank.pixels.assign(all.pixels.begin() + first * bytes, all.pixels.begin() + last * bytes);
    of_rank.pixels.resize(count * image);
    of_rank.scales.assign(all.scales.begin() + first, all.scales.begin() + last);
    of_rank.scales.resize(count, {.gain = {0, 0, 0}, .offset = {0, 0, 0}});
  }
  of_rank.weights.resize(count);
  of_rank.labels.resize(count);
  of_rank.index.resize(count, ~uint64_t{0});
  return of_rank;
}

inline double RateOf(uint64_t step) { return 0.005 / static_cast<double>(1 + step % 5); }

// Algorithms as a run records them: timed once, the same for every engine that is given them. Without the batch in their keys.
class SharedChoices final : public AlgorithmChoices {
 public:
  SharedChoices() = default;
  SharedChoices(const SharedChoices& other) : choices_(other.choices_) {}
  std::string Choose(const std::string& key, const std::function<std::string()>& time) override {
    const auto known = choices_.find(key);
    return known != choices_.end() ? known->second : choices_.emplace(key, time()).first->second;
  }

 private:
  std::map<std::string, std::string> choices_;
};

// Name -> canonical values, weights and momenta.
using Tensors = std::map<std::string, std::vector<float>>;
inline Tensors TensorsOf(ParameterStore& store) {
  store.Fetch();
  Tensors tensors;
  for (int p = 0; p < store.count(); ++p) {
    tensors[store.info(p).name] = Canonical(store, p, store.weight(p));
    tensors["momentum of " + store.info(p).name] = Canonical(store, p, store.momentum(p));
  }
  return tensors;
}
inline void PutTensors(const Tensors& tensors, ParameterStore& store) {
  for (int p = 0; p < store.count(); ++p) {
    store.FromCanonical(p, tensors.at(store.info(p).name), store.weight(p));
    store.FromCanonical(p, tensors.at("momentum of " + store.info(p).name), store.momentum(p));
  }
  store.WeightsChanged();
}

inline bool SameWeights(const Tensors& a, const Tensors& b) {
  return std::ranges::all_of(a, [&](const auto& tensor) { return tensor.first.starts_with("momentum of ") || b.at(tensor.first) == tensor.second; });
}

// Relative to how far `reference` has moved from `begin`, over all weights.
inline double WeightError(const Tensors& actual, const Tensors& reference, const Tensors& begin) {
  double error = 0, moved = 0;
  for (const auto& [name, values] : reference) {
    if (name.starts_with("momentum of ")) continue;
    for (size_t i = 0; i < values.size(); ++i) {
      error += std::pow(double{actual.at(name)[i]} - values[i], 2);
      moved += std::pow(double{values[i]} - begin.at(name)[i], 2);
    }
  }
  return std::sqrt(error / moved);
}

// Runs steps [first, last) as the training loop does, `depth` of them unsettled; one result a step.
using Batches = std::function<Samples(uint64_t step)>;
inline std::vector<StepResult> Train(Trainer& trainer, const Batches& batches, uint64_t first, uint64_t last,
                                     const std::function<double(uint64_t)>& rate = RateOf) {
  std::vector<StepResult> results;
  std::deque<Samples> kept;
  for (uint64_t step = first; step < last; ++step) {
    kept.push_back(batches(step));
    const LaneBatch rows = kept.back().pixels.empty() ? kept.back().lane() : kept.back().pixel_lane();
    trainer.Enqueue({.rows = rows, .step = step, .lr = rate(step), .votes = {.stop = static_cast<int64_t>(step % 2)}});
    while (static_cast<int>(kept.size()) > trainer.depth()) {
      results.push_back(trainer.Settle());
      kept.pop_front();
    }
  }
  for (; !kept.empty(); kept.pop_front()) results.push_back(trainer.Settle());
  return results;
}

// One rank on one device: engine, plan and trainer.
struct DeviceRank {
  DeviceRank(const Recipe& r, const LaneShape& shape, Collective& collective, SharedChoices& choices, EngineOptions options = {}) {
    options.choices = &choices;
    options.crop = r.crop;
    options.seed = 5;
    auto created = CreateCudaEngine(NetworkOf(r), options);
    if (!created) throw std::runtime_error(created.error().message);
    engine = std::move(*created);
    FillParameters(engine->parameters(), options.seed);
    plan = Compile({.batch = shape.lane_rows, .height = r.crop, .width = r.crop});
    auto made = CreateCudaTrainer(*plan, OptionsOf(r, shape), collective);
    if (!made) throw std::runtime_error(made.error().message);
    trainer = std::move(*made);
  }
  Tensors tensors() { return TensorsOf(engine->parameters()); }
  CudaPlan* Compile(const PlanOptions& options) {
    const auto compiled = engine->Compile(options);
    if (!compiled) throw std::runtime_error(compiled.error().message);
    return static_cast<CudaPlan*>(*compiled);
  }

  std::unique_ptr<Engine> engine;
  CudaPlan* plan = nullptr;
  std::unique_ptr<Trainer> trainer;
};

}  // namespace plateau::cuda
