// Builds a CpuPlan: layers, who reads whose output, and where ReLU gradients are masked.
#include <algorithm>
#include <new>

#include "common/check.h"
#include "worker/backend/cpu/cpu_plan.h"
#include "worker/backend/cpu/fc_layer.h"
#include "worker/backend/cpu/layer_setup.h"

namespace plateau {
namespace {

// Dropout masks go by canonical order: the layer's units must lie in it.
void RequireUnitOrder(const LayerDef& def, const dnnl::memory::desc& output) {
  if (def.dropout == 0 || output.data.ndims == 2 || output.data.dims[2] * output.data.dims[3] == 1) return;
  if (FlatChannelBlock(output) != 1)
    throw dnnl::error(dnnl_unimplemented,
                      "dropout of a map whose layout is not plain C,H,W; put it behind a fully connected layer or a global pool");
}

}  // namespace

CpuPlan::CpuPlan(CpuContext& context, const PlanOptions& options, const std::vector<LayerShape>& shapes)
    : context_(context),
      options_(options),
      classes_(shapes.back().channels),
      row_losses_(static_cast<size_t>(options.batch)),
      forward_seconds_(context.network.layers.size()),
      rows_(options.batch) {
  BuildLayers(shapes);
  LinkConsumers();
  if (options_.training) PlanMasks();
  PlanMemory();
  logits_ = HugeBuffer(static_cast<size_t>(options_.batch) * static_cast<size_t>(classes_) * sizeof(float));
  logits_.Touch(context_.options.threads);
  context_.arena.Reserve(memory_.total_bytes, context_.options.threads);
}

void CpuPlan::BuildLayers(const std::vector<LayerShape>& shapes) {
  const dnnl::memory::desc images = ImageDesc(context_.network, options_);
  const auto count = static_cast<int>(context_.network.layers.size());
  nodes_.resize(static_cast<size_t>(count));
  for (int layer = 0; layer < count; ++layer) {
    const LayerDef& def = Def(layer);
    if (!options_.training && def.auxiliary != 0) continue;
    Node& node = nodes_[static_cast<size_t>(layer)];
    std::vector<dnnl::memory::desc> inputs;
    for (const int input : def.inputs) inputs.push_back(input < 0 ? images : nodes_[static_cast<size_t>(input)].layer->output());
    node.layer = MakeLayer(context_, layer, options_, shapes, inputs);
    RequireUnitOrder(def, node.layer->output());
    node.output_count = node.layer->output().get_size() / sizeof(float);
    node.backward = options_.training && context_.learns[static_cast<size_t>(layer)];
    if (HasParameters(def)) backward_layers_.insert(backward_layers_.begin(), layer);
    has_batch_norm_ = has_batch_norm_ || def.kind == LayerKind::kBatchNorm;
  }
  heads_.push_back({.layer = count - 1});
  if (options_.training)
    for (const AuxiliaryHead& head : context_.network.auxiliary) heads_.push_back({head.layer, head.loss_weight});
  const dnnl::memory::desc last = nodes_.back().layer->output();
  if (last.dims().size() == 2) return;
  const dnnl::memory::desc dense(last.dims(), dnnl::memory::data_type::f32, dnnl::memory::format_tag::nchw);
  logits_reorder_ = MapReorder(context_.engine, last, dense);
}

void CpuPlan::LinkConsumers() {
  for (int layer = 0; layer < layer_count(); ++layer) {
    const Node& node = nodes_[static_cast<size_t>(layer)];
    if (!node.layer) continue;
    const LayerDef& def = Def(layer);
    for (int which = 0; which < static_cast<int>(def.inputs.size()); ++which) {
      const int input = def.inputs[static_cast<size_t>(which)];
      if (input >= 0)
        nodes_[static_cast<size_t>(input)].consumers.push_back(
            {.layer = layer, .which = which, .shares = node.layer->PassesGradient(which)});
      else if (image_readers_.empty() || image_readers_.back() != layer)
        image_readers_.push_back(layer);
    }
  }
}

void CpuPlan::PlanMasks() {
  for (int layer = 0; layer < layer_count(); ++layer) {
    const LayerDef& def = Def(layer);
    Node& own = nodes_[static_cast<size_t>(layer)];
    own.drop_gradient = def.dropout > 0 && !def.relu;
    if (!def.relu || def.kind == LayerKind::kBatchNorm) continue;  // batch norm masks by itself
    // A pool's winner passes its ReLU exactly when the pooled value is above 0, so the small gradient is masked instead of the
    // large.
    const bool pooled = own.consumers.size() == 1 && Def(own.consumers[0].layer).kind == LayerKind::kMaxPool && def.dropout == 0;
    Node& node = pooled ? nodes_[static_cast<size_t>(own.consumers[0].layer)] : own;
    node.mask_gradient = true;
    node.mask_scale = static_cast<float>(1 / (1 - def.dropout));
  }
}

}  // namespace plateau
