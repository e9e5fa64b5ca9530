// Builds a CpuPlan: layers, where ReLU gradients are masked, and which buffers share which bytes when.
#include <algorithm>
#include <new>

#include "common/check.h"
#include "worker/backend/cpu/cpu_plan.h"
#include "worker/backend/cpu/layer_setup.h"

namespace plateau {

CpuPlan::CpuPlan(CpuContext& context, const PlanOptions& options, const std::vector<LayerShape>& shapes)
    : context_(context),
      options_(options),
      classes_(context.network.layers.back().out_channels),
      row_losses_(static_cast<size_t>(options.batch)),
      forward_seconds_(context.network.layers.size()) {
  BuildLayers(shapes);
  PlanMasks();
  PlanMemory();
  logits_ = HugeBuffer(nodes_.back().output_count * sizeof(float));
  logits_.Touch(context_.options.threads);
  context_.arena.Reserve(memory_.total_bytes, context_.options.threads);
}

void CpuPlan::BuildLayers(const std::vector<LayerShape>& shapes) {
  dnnl::memory::desc input = ImageDesc(context_.network, options_);
  CpuParameterStore& store = *context_.parameters;
  for (int layer = 0; layer < static_cast<int>(context_.network.layers.size()); ++layer) {
    const LayerDef& def = context_.network.layers[layer];
    const int weight = context_.weight_of_layer[layer];
    Node node;
    switch (def.kind) {
      case LayerKind::kConvolution:
        node.layer = std::make_unique<ConvLayer>(context_.engine, store, weight, weight + 1,
                                                 MakeConvSetup(context_, layer, options_, shapes, input));
        break;
      case LayerKind::kMaxPool:
        node.layer = std::make_unique<PoolLayer>(context_.engine, MakePoolSetup(context_, layer, options_, shapes, input));
        break;
      case LayerKind::kFullyConnected:
        if (FlatChannelBlock(input) != store.format(weight).channel_block) {
          throw dnnl::error(dnnl_unimplemented, "the map before a fully connected layer lies in another order than its weights");
        }
        node.layer =
            std::make_unique<FcLayer>(context_.engine, store, weight, weight + 1, MakeFcSetup(context_, layer, options_, shapes));
        break;
      default: throw dnnl::error(dnnl_unimplemented, "a kind of layer that the CPU engine does not have");
    }
    input = node.layer->output();
    node.output_count = input.get_size() / sizeof(float);
    nodes_.push_back(std::move(node));
    if (def.kind != LayerKind::kMaxPool) backward_layers_.insert(backward_layers_.begin(), layer);
  }
}

void CpuPlan::PlanMasks() {
  for (int layer = 0; layer < layer_count(); ++layer) {
    const LayerDef& def = context_.network.layers[layer];
    if (!def.relu) continue;
    // A pool's winner passes its ReLU exactly when the pooled value is above 0, so the small gradient is masked instead of the
    // large.
    const bool pooled =
        layer + 1 < layer_count() && context_.network.layers[layer + 1].kind == LayerKind::kMaxPool && def.dropout == 0;
    Node& node = nodes_[pooled ? layer + 1 : layer];
    node.mask_gradient = true;
    node.mask_scale = static_cast<float>(1 / (1 - def.dropout));
  }
}

void CpuPlan::PlanMemory() {
  const auto add = [this](size_t bytes, int first, int last) {
    uses_.push_back({bytes, first, last});
    return static_cast<int>(uses_.size()) - 1;
  };
  size_t scratchpad_bytes = 0;
  for (int layer = 0; layer < layer_count(); ++layer) {
    Node& node = nodes_[layer];
    const bool last = layer + 1 == layer_count();
    const size_t bytes = node.output_count * sizeof(float);
    scratchpad_bytes = std::max(scratchpad_bytes, node.layer->scratchpad_bytes());
    if (!last) {  // the logits have a buffer of their own
      const bool next_keeps_input = options_.training && context_.network.layers[layer + 1].kind != LayerKind::kMaxPool;
      int end = layer + 1;
      if (next_keeps_input) end = DataMoment(layer + 1) + 1;
      if (options_.training && node.mask_gradient) end = std::max(end, DataMoment(layer));
      node.output = add(bytes, layer, end);
    }
    if (!options_.training) continue;
    node.gradient = add(bytes, last ? layer_count() : DataMoment(layer + 1), DataMoment(layer) + 1);
    if (node.layer->workspace_bytes() > 0) node.workspace = add(node.layer->workspace_bytes(), layer, DataMoment(layer));
  }
  scratchpad_ = add(std::max<size_t>(scratchpad_bytes, 1), 0, DataMoment(0) + 1);
  memory_ = PackBuffers(uses_);
}

float* CpuPlan::Buffer(int use) const {
  PLATEAU_CHECK(use >= 0, "buffer {}", use);
  return reinterpret_cast<float*>(static_cast<char*>(context_.arena.buffer.data()) + memory_.offsets[static_cast<size_t>(use)]);
}

void CpuPlan::BindBuffers() {
  try {
    context_.arena.Reserve(memory_.total_bytes,
                           context_.options.threads);  // nothing to do unless a larger plan failed to get its arena
  } catch (const std::bad_alloc&) {
    throw Failure(ErrorCode::kUnavailable, fmt::format("no memory for the {} bytes of a plan of batch {}; use a smaller batch",
                                                       memory_.total_bytes, options_.batch));
  }
  // The first layer reads the caller's images, which move from batch to batch; the rest moves only with the arena.
  const bool moved = bound_generation_ != context_.arena.generation;
  for (int layer = 0; layer < (moved ? layer_count() : 1); ++layer) {
    const Node& node = nodes_[layer];
    const bool last = layer + 1 == layer_count();
    LayerBuffers buffers;
    buffers.input = layer == 0 ? const_cast<float*>(images_) : Buffer(nodes_[layer - 1].output);
    buffers.output = last ? logits_.floats() : Buffer(node.output);
    if (options_.training) {
      buffers.output_gradient = Buffer(node.gradient);
      if (layer > 0) buffers.input_gradient = Buffer(nodes_[layer - 1].gradient);
      if (node.workspace >= 0) buffers.workspace = Buffer(node.workspace);
    }
    buffers.scratchpad = Buffer(scratchpad_);
    node.layer->Bind(buffers);
  }
  bound_generation_ = context_.arena.generation;
}

}  // namespace plateau
