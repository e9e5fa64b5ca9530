// Builds a CudaPlan: its operators, its memory, and which maps each layer finds where.
#include <algorithm>

#include "common/check.h"
#include "worker/backend/cuda/cuda_layer.h"
#include "worker/backend/cuda/cuda_plan.h"
#include "worker/backend/cuda/cuda_plan_buffers.h"

namespace plateau::cuda {

static_assert(kDeviceChannelAlign == kChannelAlign && kDeviceRowLoss == sizeof(RowLoss));

void Arena::Reserve(size_t bytes, size_t workspace_bytes, const Stream& stream) {
  const auto grow = [&](DeviceBuffer& held, size_t wanted) {
    if (wanted <= held.bytes()) return;
    stream.Wait();
    ++generation;
    owner = nullptr;
    held = DeviceBuffer();  // the old one goes first: two at once might not fit
    held = DeviceBuffer(wanted);
  };
  grow(buffer, bytes);
  grow(workspace, workspace_bytes);
}

CudaPlan::CudaPlan(CudaContext& context, const PlanOptions& options, const std::vector<LayerShape>& shapes)
    : context_(context), layout_(LayOutPlan(context.network, shapes, options, context.options.precision)) {
  layers_.resize(layout_.layers.size());
  const StartStretch stretch(context.options.watch, kChoosing, "layers", layer_count());
  for (int layer = 0; layer < layer_count(); ++layer) {
    stretch.Done(layer);
    stretch.GoOn();
    if (!At(layer).present) continue;
    layers_[static_cast<size_t>(layer)] = MakeLayer({context_, layout_, layer});
    workspace_bytes_ = std::max(workspace_bytes_, layers_[static_cast<size_t>(layer)]->workspace_bytes());
  }
  stretch.Done(layer_count());
  context_.libraries->ReleaseScratch();
  small_ = std::make_unique<Small>(options.batch, classes());
  timing_ = std::make_unique<Timing>(layers_.size());
  Bind();
}

CudaPlan::~CudaPlan() = default;

std::byte* CudaPlan::Buffer(int use) const {
  PLATEAU_CHECK(use >= 0, "buffer {}", use);
  return context_.arena.buffer.at(layout_.memory.offsets[static_cast<size_t>(use)]);
}

Map CudaPlan::MapAt(const DeviceMap& shape, int use) const {
  return {context_.libraries->map_type(), ShapeOf(shape, layout_.options.batch), Buffer(use)};
}

Map CudaPlan::input() const { return MapAt(layout_.input, layout_.input_value); }
size_t CudaPlan::rows_bytes() const { return small_->device.bytes(); }
int CudaPlan::generation() const { return context_.arena.generation; }

void CudaPlan::Bind() {
  Arena& arena = context_.arena;
  arena.Reserve(layout_.memory.total_bytes, workspace_bytes_, context_.libraries->stream());
  if (bound_generation_ == arena.generation) return;
  for (int layer = 0; layer < layer_count(); ++layer)
    if (layers_[static_cast<size_t>(layer)]) BindLayer(layer);
  bound_generation_ = arena.generation;
}

void CudaPlan::BindLayer(int layer) {
  const LayerDef& def = Def(layer);
  const DeviceLayer& at = At(layer);
  LayerMaps maps{.output = Output(layer), .workspace = context_.arena.workspace.data()};
  for (int which = 0; which < static_cast<int>(def.inputs.size()); ++which) {
    const int input = def.inputs[static_cast<size_t>(which)];
    maps.inputs.push_back(Output(input));
    Map gradient;
    if (input >= 0 && at.backward && At(input).backward) {
      const auto& readers = At(input).readers;
      const auto self =
          std::ranges::find_if(readers, [&](const DeviceReader& reader) { return reader.layer == layer && reader.which == which; });
      if (!self->shares) gradient = MapAt(At(input).output, self->gradient);
    }
    maps.input_gradients.push_back(gradient);
  }
  if (at.backward) maps.output_gradient = Gradient(layer);
  if (at.winners >= 0) maps.winners = reinterpret_cast<uint8_t*>(Buffer(at.winners));
  if (at.statistics >= 0) maps.statistics = reinterpret_cast<float*>(Buffer(at.statistics));
  if (at.pooled_bias) {
    const int pool = at.readers[0].layer;
    maps.pool_gradient = Gradient(pool);
    maps.pool_winners = reinterpret_cast<const uint8_t*>(Buffer(At(pool).winners));
  }
  layers_[static_cast<size_t>(layer)]->Bind(std::move(maps));
}

}  // namespace plateau::cuda
