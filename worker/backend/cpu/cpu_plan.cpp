// Runs a compiled chain forward and backward.
#include "worker/backend/cpu/cpu_plan.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "common/check.h"
#include "worker/backend/cpu/elementwise.h"
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
  sample_index_ = lane.sample_index;
  step_ = step;
  BindBuffers();
  SetRows(lane);
  context_.arena.owner = this;
  loss_done_ = false;
  hidden_finite_ = !options_.training || InputsFinite(lane);
  for (int layer = 0; layer < layer_count(); ++layer) {
    const double begin = Seconds();
    RunLayer(layer);
    forward_seconds_[static_cast<size_t>(layer)] = Seconds() - begin;
    if (context_.options.progress != nullptr) ++*context_.options.progress;
  }
  CopyLogits();
}

LossSums CpuPlan::Loss(const LaneBatch& lane, int global_batch) {
  RequireOwner("Loss", false);
  CheckLane(lane);
  omp_set_num_threads(context_.options.threads);
  loss_done_ = true;
  share_ = static_cast<float>(static_cast<double>(rows_) / global_batch);
  LossSums main;
  for (const Head& head : heads_) {
    const size_t values = static_cast<size_t>(options_.batch) * static_cast<size_t>(classes_);
    std::span<float> gradient;
    if (options_.training) gradient = {Buffer(nodes_[static_cast<size_t>(head.layer)].loss_gradient), values};
    const bool is_main = head.layer + 1 == layer_count();
    const std::span<const float> scores = is_main ? logits() : std::span(OutputOf(head.layer), values);
    const LossSums sums = SoftmaxLoss(scores, classes_, lane.labels, lane.weights, global_batch, context_.options.threads,
                                      row_losses_, gradient, head.loss_weight);
    if (is_main)
      main = sums;
    else
      hidden_finite_ = hidden_finite_ && std::isfinite(sums.loss);
  }
  return main;
}

void CpuPlan::BackwardData(int layer) {
  RequireOwner("BackwardData", true);
  omp_set_num_threads(context_.options.threads);
  const Node& node = nodes_[static_cast<size_t>(layer)];
  if (!node.backward) return;
  Guarded(Def(layer), "backward data", [&] {
    if (node.combine) CombineGradient(layer);
    if (node.drop_gradient) DropRows(layer, Buffer(node.gradient));
    if (HasParameters(Def(layer)) || ReadsLearned(layer)) node.layer->BackwardData(context_.stream);
  });
}

void CpuPlan::BackwardWeights(int layer) {
  RequireOwner("BackwardWeights", true);
  omp_set_num_threads(context_.options.threads);
  const Node& node = nodes_[static_cast<size_t>(layer)];
  if (!node.backward) return;
  Guarded(Def(layer), "backward weights", [&] { node.layer->BackwardWeights(context_.stream); });
  if (Def(layer).kind == LayerKind::kBatchNorm) WeighStatistics(layer);
}

// Sums what the consumers and the loss made, in backward order, and puts it through the ReLU.
void CpuPlan::CombineGradient(int layer) {
  const Node& node = nodes_[static_cast<size_t>(layer)];
  const int threads = context_.options.threads;
  const float* mask = node.mask_gradient ? OutputOf(layer) : nullptr;
  float* sum = Buffer(node.gradient);
  std::array<const float*, kMaxParts> parts;
  size_t count = 0;
  if (node.loss_gradient >= 0) parts[count++] = Buffer(node.loss_gradient);
  for (auto reader = node.consumers.rbegin(); reader != node.consumers.rend(); ++reader) parts[count++] = Buffer(reader->gradient);
  const bool finite = count == 1 && parts[0] == sum && mask != nullptr
                          ? MaskGradient(mask, sum, node.output_count, node.mask_scale, threads)
                          : CombineGradients({parts.data(), count}, mask, sum, node.output_count, node.mask_scale, threads);
  hidden_finite_ = hidden_finite_ && finite;
}

// The lane's batch statistics count by its share of the global batch, so that sums over lanes and ranks are means.
void CpuPlan::WeighStatistics(int layer) {
  const int first = context_.first_parameter[static_cast<size_t>(layer)];
  for (int parameter = first; parameter < first + 4; ++parameter) {
    const auto gradient = context_.parameters->gradient(parameter);
    hidden_finite_ = hidden_finite_ && AllFinite(gradient.data(), gradient.size(), context_.options.threads);
    if (context_.parameters->info(parameter).learned()) continue;
    for (float& value : gradient) value *= share_;
  }
}

std::string CpuPlan::FirstNonFiniteLayer(const LaneBatch& lane, uint64_t step) {
  CheckLane(lane);
  const int threads = context_.options.threads;
  omp_set_num_threads(threads);
  if (!AllFinite(lane.images.data(), lane.images.size(), threads)) return "input";
  images_ = lane.images.data();
  sample_index_ = lane.sample_index;
  step_ = step;
  BindBuffers();
  SetRows(lane);
  context_.arena.owner = nullptr;
  for (int layer = 0; layer < layer_count(); ++layer) {
    const Node& node = nodes_[static_cast<size_t>(layer)];
    if (!node.layer) continue;
    // The fused ReLU turns NaN into 0, so a layer with a weight that is not finite is named by its weight.
    if (!WeightsFinite(layer)) return Def(layer).name;
    RunLayer(layer);
    if (!AllFinite(OutputOf(layer), node.output_count, threads)) return Def(layer).name;
  }
  return "";
}

std::vector<std::string> CpuPlan::algorithms() const {
  std::vector<std::string> lines;
  for (int layer = 0; layer < layer_count(); ++layer) {
    const Node& node = nodes_[static_cast<size_t>(layer)];
    if (!node.layer) continue;
    for (const std::string& line : node.layer->algorithms()) lines.push_back(Def(layer).name + " " + line);
  }
  return lines;
}

void CpuPlan::RunLayer(int layer) {
  const Node& node = nodes_[static_cast<size_t>(layer)];
  if (!node.layer) return;
  Guarded(Def(layer), "forward", [&] { node.layer->Forward(context_.stream); });
  if (options_.training && Def(layer).dropout > 0) DropRows(layer, const_cast<float*>(OutputOf(layer)));
}

void CpuPlan::CopyLogits() {
  if (!logits_reorder_) return;
  Guarded(context_.network.layers.back(), "forward",
          [&] { logits_reorder_.Run(context_.stream, OutputOf(layer_count() - 1), logits_.floats()); });
}

// Applies the layer's dropout mask to each sample's row of a map that lies as its output does.
void CpuPlan::DropRows(int layer, float* map) const {
  const LayerDef& def = Def(layer);
  const dnnl::memory::desc& desc = nodes_[static_cast<size_t>(layer)].layer->output();
  const int64_t row = desc.data.format_desc.blocking.strides[0];
  int64_t units = 1;
  for (int d = 1; d < desc.data.ndims; ++d) units *= desc.data.dims[d];
#pragma omp parallel for schedule(static) num_threads(context_.options.threads)
  for (int n = 0; n < options_.batch; ++n) {
    const DropoutKey key{
        .seed = context_.options.seed, .step = step_, .sample = sample_index_[static_cast<size_t>(n)], .layer = layer};
    ApplyDropout(key, def.dropout, {map + n * row, static_cast<size_t>(units)});
  }
}

// What the masks of the backward pass cannot see: the images, everything but weights, and the weights of layers that read the
// images, which have no data gradient.
bool CpuPlan::InputsFinite(const LaneBatch& lane) const {
  const int threads = context_.options.threads;
  bool finite = AllFinite(lane.images.data(), lane.images.size(), threads);
  for (int parameter = 0; parameter < context_.parameters->count(); ++parameter) {
    const ParameterInfo& info = context_.parameters->info(parameter);
    if (info.role == ParameterRole::kWeight && ReadsLearned(info.layer)) continue;
    const auto values = context_.parameters->weight(parameter);
    finite = finite && AllFinite(values.data(), values.size(), threads);
  }
  return finite;
}

// Whether some input's gradient is wanted.
bool CpuPlan::ReadsLearned(int layer) const {
  return std::ranges::any_of(Def(layer).inputs,
                             [&](int input) { return input >= 0 && context_.learns[static_cast<size_t>(input)]; });
}

bool CpuPlan::WeightsFinite(int layer) const {
  for (int parameter = context_.first_parameter[static_cast<size_t>(layer)];
       parameter >= 0 && parameter < context_.parameters->count() && context_.parameters->info(parameter).layer == layer;
       ++parameter) {
    const auto values = context_.parameters->weight(parameter);
    if (!AllFinite(values.data(), values.size(), context_.options.threads)) return false;
  }
  return true;
}

// Padding rows stay out of batch statistics, which is simple while they come last.
void CpuPlan::SetRows(const LaneBatch& lane) {
  const auto padding = std::ranges::find_if(lane.weights, [](float weight) { return !(weight > 0); });
  rows_ = static_cast<int>(padding - lane.weights.begin());
  if (!options_.training || !has_batch_norm_) return;
  PLATEAU_CHECK(rows_ > 0 && std::all_of(padding, lane.weights.end(), [](float weight) { return !(weight > 0); }),
                "batch norm needs a lane's padding rows behind its samples; {} of {} rows come before the first padding", rows_,
                options_.batch);
  for (const Node& node : nodes_) node.layer->SetRows(rows_);
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
