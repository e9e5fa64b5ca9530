// Which buffers of a CpuPlan live when, which of them are one, and where each layer finds its own.
#include <algorithm>
#include <new>

#include "common/check.h"
#include "worker/backend/cpu/cpu_plan.h"

namespace plateau {

int CpuPlan::AddUse(size_t bytes, int first, int last) {
  uses_.push_back({bytes, first, last});
  return static_cast<int>(uses_.size()) - 1;
}

void CpuPlan::PlanMemory() {
  size_t scratchpad_bytes = 0;
  for (int layer = 0; layer < layer_count(); ++layer) {
    Node& node = nodes_[static_cast<size_t>(layer)];
    if (!node.layer) continue;
    scratchpad_bytes = std::max(scratchpad_bytes, node.layer->scratchpad_bytes());
    if (!OwnLogits(layer)) {
      int end = layer;
      for (const Consumer& reader : node.consumers) {
        const bool kept = options_.training && nodes_[static_cast<size_t>(reader.layer)].layer->keeps_inputs();
        end = std::max(end, kept ? DataMoment(reader.layer) + 1 : reader.layer);
      }
      if (std::ranges::find(heads_, layer, &Head::layer) != heads_.end()) end = std::max(end, layer_count());
      if (options_.training && node.mask_gradient) end = std::max(end, DataMoment(layer));
      node.output = AddUse(node.output_count * sizeof(float), layer, end);
    }
    if (node.backward) PlanGradient(layer);
    if (options_.training && node.layer->workspace_bytes() > 0)
      node.workspace = AddUse(node.layer->workspace_bytes(), layer, DataMoment(layer) + (node.layer->keeps_inputs() ? 1 : 0));
    if (!options_.training && node.layer->workspace_bytes() > 0)
      node.workspace = AddUse(node.layer->workspace_bytes(), layer, layer);
  }
  ShareGradients();
  scratchpad_ = AddUse(std::max<size_t>(scratchpad_bytes, 1), 0, DataMoment(0) + 1);
  memory_ = PackBuffers(uses_);
}

void CpuPlan::PlanGradient(int layer) {
  Node& node = nodes_[static_cast<size_t>(layer)];
  const size_t bytes = node.output_count * sizeof(float);
  const int data = DataMoment(layer);
  size_t parts = node.consumers.size();
  int own = -1;  // a part that nobody else reads
  if (std::ranges::find(heads_, layer, &Head::layer) != heads_.end()) {
    ++parts;
    own = node.loss_gradient = AddUse(bytes, layer_count(), data);
  }
  for (Consumer& reader : node.consumers) {
    if (reader.shares) continue;
    own = reader.gradient = AddUse(bytes, DataMoment(reader.layer), data);
  }
  PLATEAU_CHECK(parts <= kMaxParts, "{}: {} layers read it", Def(layer).name, parts);
  node.combine = node.mask_gradient || parts > 1 || (node.drop_gradient && own < 0);
  if (own < 0 && node.combine) own = AddUse(bytes, data, data);
  if (own < 0) return;  // the only part is another layer's gradient
  node.gradient = own;
  uses_[static_cast<size_t>(own)].last = data + 1;
}

// A shared gradient lives until its last reader's pass. Consumers come after the layers that they read, so theirs are settled
// first.
void CpuPlan::ShareGradients() {
  for (int layer = layer_count() - 1; layer >= 0; --layer) {
    Node& node = nodes_[static_cast<size_t>(layer)];
    if (!node.backward) continue;
    for (Consumer& reader : node.consumers) {
      if (!reader.shares) continue;
      reader.gradient = nodes_[static_cast<size_t>(reader.layer)].gradient;
      if (node.gradient < 0) node.gradient = reader.gradient;
      int& last = uses_[static_cast<size_t>(reader.gradient)].last;
      last = std::max(last, DataMoment(layer) + 1);
    }
  }
}

float* CpuPlan::Buffer(int use) const {
  PLATEAU_CHECK(use >= 0, "buffer {}", use);
  return reinterpret_cast<float*>(static_cast<char*>(context_.arena.buffer.data()) + memory_.offsets[static_cast<size_t>(use)]);
}

const float* CpuPlan::OutputOf(int layer) const {
  return OwnLogits(layer) ? logits_.floats() : Buffer(nodes_[static_cast<size_t>(layer)].output);
}

void CpuPlan::BindBuffers() {
  try {
    context_.arena.Reserve(memory_.total_bytes,
                           context_.options.threads);  // nothing to do unless a larger plan failed to get its arena
  } catch (const std::bad_alloc&) {
    throw Failure(ErrorCode::kUnavailable, fmt::format("no memory for the {} bytes of a plan of batch {}; use a smaller batch",
                                                       memory_.total_bytes, options_.batch));
  }
  // Some layers read the caller's images, which move from batch to batch; the rest moves only with the arena.
  if (bound_generation_ == context_.arena.generation) {
    for (const int layer : image_readers_) BindLayer(layer);
    return;
  }
  for (int layer = 0; layer < layer_count(); ++layer)
    if (nodes_[static_cast<size_t>(layer)].layer) BindLayer(layer);
  bound_generation_ = context_.arena.generation;
}

void CpuPlan::BindLayer(int layer) {
  const Node& node = nodes_[static_cast<size_t>(layer)];
  const LayerDef& def = Def(layer);
  LayerBuffers buffers;
  for (int which = 0; which < static_cast<int>(def.inputs.size()); ++which) {
    const int input = def.inputs[static_cast<size_t>(which)];
    buffers.inputs.push_back(input < 0 ? const_cast<float*>(images_) : Buffer(nodes_[static_cast<size_t>(input)].output));
    float* gradient = nullptr;
    if (input >= 0 && node.backward && nodes_[static_cast<size_t>(input)].backward) {
      const auto& readers = nodes_[static_cast<size_t>(input)].consumers;
      const auto self =
          std::ranges::find_if(readers, [&](const Consumer& reader) { return reader.layer == layer && reader.which == which; });
      if (!self->shares) gradient = Buffer(self->gradient);
    }
    buffers.input_gradients.push_back(gradient);
  }
  buffers.output = OwnLogits(layer) ? logits_.floats() : Buffer(node.output);
  if (node.backward) buffers.output_gradient = Buffer(node.gradient);
  if (node.workspace >= 0) buffers.workspace = Buffer(node.workspace);
  buffers.scratchpad = Buffer(scratchpad_);
  node.layer->Bind(buffers);
}

}  // namespace plateau
