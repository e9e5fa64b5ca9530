// Runs a compiled chain forward and backward.
#include "worker/backend/cpu/cpu_plan.h"

#include <omp.h>

#include <algorithm>
#include <chrono>

#include "common/check.h"
#include "worker/backend/cpu/elementwise.h"
#include "worker/backend/cpu/layer_setup.h"
#include "worker/backend/cpu/softmax_loss.h"
#include "worker/nn/dropout.h"

namespace plateau {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Turns a oneDNN fault inside a step into a Failure that names the layer.
template <typename Function>
void Guarded(const LayerDef& layer, const char* pass, Function&& function) {
  try {
    function();
  } catch (const dnnl::error& error) {
    throw Failure(ErrorCode::kInternal, fmt::format("layer {}: {} pass failed in oneDNN: {}", layer.name, pass, error.what()));
  }
}

}  // namespace

void CpuPlan::Forward(const LaneBatch& lane, uint64_t step) {
  CheckLane(lane);
  omp_set_num_threads(context_.options.threads);
  images_ = lane.images.data();
  BindBuffers();
  context_.arena.owner = this;
  loss_done_ = false;
  hidden_finite_ = !options_.training || InputsFinite(lane);
  for (int layer = 0; layer < layer_count(); ++layer) {
    const double begin = Seconds();
    RunLayer(layer, lane, step);
    forward_seconds_[layer] = Seconds() - begin;
    if (context_.options.progress != nullptr) ++*context_.options.progress;
  }
}

LossSums CpuPlan::Loss(const LaneBatch& lane, int global_batch) {
  RequireOwner("Loss", false);
  CheckLane(lane);
  omp_set_num_threads(context_.options.threads);
  std::span<float> gradient;
  if (options_.training) gradient = {Buffer(nodes_.back().gradient), logits().size()};
  loss_done_ = true;
  return SoftmaxLoss(logits(), classes_, lane.labels, lane.weights, global_batch, context_.options.threads, row_losses_, gradient);
}

void CpuPlan::BackwardData(int layer) {
  RequireOwner("BackwardData", true);
  omp_set_num_threads(context_.options.threads);
  const Node& node = nodes_[layer];
  Guarded(context_.network.layers[layer], "backward data", [&] {
    if (node.mask_gradient) {
      const bool finite =
          MaskGradient(Buffer(node.output), Buffer(node.gradient), node.output_count, node.mask_scale, context_.options.threads);
      hidden_finite_ = hidden_finite_ && finite;
    }
    if (layer > 0) node.layer->BackwardData(context_.stream);
  });
}

void CpuPlan::BackwardWeights(int layer) {
  RequireOwner("BackwardWeights", true);
  omp_set_num_threads(context_.options.threads);
  Guarded(context_.network.layers[layer], "backward weights", [&] { nodes_[layer].layer->BackwardWeights(context_.stream); });
}

std::string CpuPlan::FirstNonFiniteLayer(const LaneBatch& lane, uint64_t step) {
  CheckLane(lane);
  const int threads = context_.options.threads;
  omp_set_num_threads(threads);
  if (!AllFinite(lane.images.data(), lane.images.size(), threads)) return "input";
  images_ = lane.images.data();
  BindBuffers();
  context_.arena.owner = nullptr;
  for (int layer = 0; layer < layer_count(); ++layer) {
    // The fused ReLU turns NaN into 0, so a layer with a weight that is not finite is named by its weight.
    if (!WeightsFinite(layer)) return context_.network.layers[layer].name;
    RunLayer(layer, lane, step);
    const float* output = layer + 1 == layer_count() ? logits_.floats() : Buffer(nodes_[layer].output);
    if (!AllFinite(output, nodes_[layer].output_count, threads)) return context_.network.layers[layer].name;
  }
  return "";
}

std::vector<std::string> CpuPlan::algorithms() const {
  std::vector<std::string> lines;
  for (int layer = 0; layer < layer_count(); ++layer) {
    for (const std::string& line : nodes_[layer].layer->algorithms()) {
      lines.push_back(context_.network.layers[layer].name + " " + line);
    }
  }
  return lines;
}

void CpuPlan::RunLayer(int layer, const LaneBatch& lane, uint64_t step) {
  Guarded(context_.network.layers[layer], "forward", [&] { nodes_[layer].layer->Forward(context_.stream); });
  if (options_.training && context_.network.layers[layer].dropout > 0) ApplyLayerDropout(layer, lane, step);
}

void CpuPlan::ApplyLayerDropout(int layer, const LaneBatch& lane, uint64_t step) {
  const LayerDef& def = context_.network.layers[layer];
  float* output = Buffer(nodes_[layer].output);
#pragma omp parallel for schedule(static) num_threads(context_.options.threads)
  for (int n = 0; n < options_.batch; ++n) {
    const DropoutKey key{.seed = context_.options.seed, .step = step, .sample = lane.sample_index[n], .layer = layer};
    ApplyDropout(key, def.dropout, {output + int64_t{n} * def.out_channels, static_cast<size_t>(def.out_channels)});
  }
}

// What the masks of the backward pass cannot see: the images, biases, and the weights of the first layer, which has no data
// gradient.
bool CpuPlan::InputsFinite(const LaneBatch& lane) const {
  const int threads = context_.options.threads;
  bool finite = AllFinite(lane.images.data(), lane.images.size(), threads);
  for (int parameter = 0; parameter < context_.parameters->count(); ++parameter) {
    const ParameterInfo& info = context_.parameters->info(parameter);
    if (info.role == ParameterRole::kWeight && info.layer > 0) continue;
    const auto values = context_.parameters->weight(parameter);
    finite = finite && AllFinite(values.data(), values.size(), threads);
  }
  return finite;
}

bool CpuPlan::WeightsFinite(int layer) const {
  const int weight = context_.weight_of_layer[layer];
  if (weight < 0) return true;
  for (const int parameter : {weight, weight + 1}) {
    const auto values = context_.parameters->weight(parameter);
    if (!AllFinite(values.data(), values.size(), context_.options.threads)) return false;
  }
  return true;
}

void CpuPlan::CheckLane(const LaneBatch& lane) const {
  const auto batch = static_cast<size_t>(options_.batch);
  const size_t image = static_cast<size_t>(context_.network.channels) * options_.height * options_.width;
  PLATEAU_CHECK(lane.images.size() == batch * image && lane.labels.size() == batch && lane.weights.size() == batch &&
                    (lane.sample_index.size() == batch || !options_.training),
                "batch {} of {}x{}: {} image values, {} labels, {} weights, {} sample indices", batch, options_.height,
                options_.width, lane.images.size(), lane.labels.size(), lane.weights.size(), lane.sample_index.size());
}

void CpuPlan::RequireOwner(const char* call, bool backward) const {
  if (context_.arena.owner == this && (!backward || (options_.training && loss_done_))) return;
  throw Failure(ErrorCode::kInternal,
                fmt::format("{} of a plan (batch {}, {}) without its own Forward{} just before", call, options_.batch,
                            options_.training ? "training" : "evaluation", backward ? " and Loss" : ""));
}

}  // namespace plateau
