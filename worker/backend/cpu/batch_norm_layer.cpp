// Builds and runs the two passes of a batch normalisation.
#include "worker/backend/cpu/batch_norm_layer.h"

#include <algorithm>

namespace plateau {
namespace {

using dnnl::normalization_flags;
using dnnl::prop_kind;
constexpr int64_t kChannelBlock = 16;

int64_t Channels(const BatchNormSetup& setup) { return setup.input.data.dims[1]; }
// Kernels may read a whole block of the last channels.
int64_t StatisticsStride(const BatchNormSetup& setup) {
  return (Channels(setup) + kChannelBlock - 1) / kChannelBlock * kChannelBlock;
}

// The first `rows` samples of a map.
dnnl::memory::desc FirstRows(const dnnl::memory::desc& map, int rows) {
  auto dims = map.dims();
  dims[0] = rows;
  return map.submemory_desc(dims, dnnl::memory::dims(dims.size(), 0));
}

}  // namespace

BatchNormLayer::BatchNormLayer(const dnnl::engine& engine, CpuParameterStore& store, int scale, const BatchNormSetup& setup)
    : engine_(engine),
      store_(store),
      scale_(scale),
      setup_(setup),
      rows_(static_cast<int>(setup.input.data.dims[0])),
      statistics_(2 * static_cast<size_t>(StatisticsStride(setup)) * sizeof(float)),
      spare_gradient_bytes_(setup.training && !setup.data_gradient ? setup.input.get_size() : 0),
      passes_(Prepare(rows_, true)) {}

BatchNormLayer::Passes BatchNormLayer::Prepare(int rows, bool scratchpad_from_arena) {
  const dnnl::memory::desc map = rows == setup_.input.data.dims[0] ? setup_.input : FirstRows(setup_.input, rows);
  const auto unbound = [this](const dnnl::memory::desc& desc) { return dnnl::memory(desc, engine_, DNNL_MEMORY_NONE); };
  auto flags = normalization_flags::use_scale | normalization_flags::use_shift;
  if (setup_.relu) flags |= normalization_flags::fuse_norm_relu;
  if (!setup_.training) flags |= normalization_flags::use_global_stats;
  const auto attributes = scratchpad_from_arena ? MakeAttributes(false) : dnnl::primitive_attr();
  const auto epsilon = static_cast<float>(setup_.epsilon);
  const dnnl::batch_normalization_forward::primitive_desc forward(
      {setup_.training ? prop_kind::forward_training : prop_kind::forward_inference, map, epsilon, flags}, attributes, engine_);
  const dnnl::memory::desc channels = store_.desc(scale_);
  dnnl::memory mean(channels, engine_, statistics_.data()),
      variance(channels, engine_, statistics_.floats() + StatisticsStride(setup_));
  if (!setup_.training) mean = store_.WeightMemory(scale_ + 2), variance = store_.WeightMemory(scale_ + 3);
  Passes passes;
  passes.forward = {.primitive = dnnl::batch_normalization_forward(forward),
                    .arguments = {{DNNL_ARG_SRC, unbound(map)},
                                  {DNNL_ARG_DST, unbound(map)},
                                  {DNNL_ARG_MEAN, mean},
                                  {DNNL_ARG_VARIANCE, variance},
                                  {DNNL_ARG_SCALE, store_.WeightMemory(scale_)},
                                  {DNNL_ARG_SHIFT, store_.WeightMemory(scale_ + 1)}},
                    .implementation = forward.impl_info_str()};
  if (scratchpad_from_arena) passes.forward.arguments.emplace(DNNL_ARG_SCRATCHPAD, unbound(forward.scratchpad_desc()));
  passes.scratchpad_bytes = forward.scratchpad_desc().get_size();
  if (!setup_.training) return passes;

  passes.workspace_bytes = forward.workspace_desc().get_size();
  const dnnl::batch_normalization_backward::primitive_desc backward({prop_kind::backward, map, map, epsilon, flags}, attributes,
                                                                    engine_, forward);
  passes.backward = {.primitive = dnnl::batch_normalization_backward(backward),
                     .arguments = {{DNNL_ARG_SRC, unbound(map)},
                                   {DNNL_ARG_MEAN, mean},
                                   {DNNL_ARG_VARIANCE, variance},
                                   {DNNL_ARG_DIFF_DST, unbound(map)},
                                   {DNNL_ARG_SCALE, store_.WeightMemory(scale_)},
                                   {DNNL_ARG_SHIFT, store_.WeightMemory(scale_ + 1)},  // asked for, not used
                                   {DNNL_ARG_DIFF_SRC, unbound(map)},
                                   {DNNL_ARG_DIFF_SCALE, store_.GradientMemory(scale_)},
                                   {DNNL_ARG_DIFF_SHIFT, store_.GradientMemory(scale_ + 1)}},
                     .implementation = backward.impl_info_str()};
  if (scratchpad_from_arena) passes.backward.arguments.emplace(DNNL_ARG_SCRATCHPAD, unbound(backward.scratchpad_desc()));
  if (passes.workspace_bytes > 0) {
    passes.forward.arguments.emplace(DNNL_ARG_WORKSPACE, unbound(forward.workspace_desc()));
    passes.backward.arguments.emplace(DNNL_ARG_WORKSPACE, unbound(forward.workspace_desc()));
  }
  passes.scratchpad_bytes = std::max(passes.scratchpad_bytes, backward.scratchpad_desc().get_size());
  return passes;
}

void BatchNormLayer::Bind(const LayerBuffers& buffers) {
  buffers_ = buffers;
  if (spare_gradient_bytes_ > 0) {
    buffers_.input_gradients = {reinterpret_cast<float*>(static_cast<char*>(buffers.scratchpad) + passes_.scratchpad_bytes)};
  }
  BindPasses(passes_);
  for (auto& [rows, passes] : partial_) BindPasses(passes);
}

void BatchNormLayer::BindPasses(Passes& passes) {
  const auto bind = [](PreparedPass& pass, int argument, void* data) {
    if (pass.arguments.contains(argument)) pass.Bind(argument, data);
  };
  bind(passes.forward, DNNL_ARG_SRC, buffers_.inputs[0]);
  bind(passes.forward, DNNL_ARG_DST, buffers_.output);
  bind(passes.forward, DNNL_ARG_WORKSPACE, buffers_.workspace);
  bind(passes.forward, DNNL_ARG_SCRATCHPAD, buffers_.scratchpad);
  if (!setup_.training) return;
  bind(passes.backward, DNNL_ARG_SRC, buffers_.inputs[0]);
  bind(passes.backward, DNNL_ARG_DIFF_DST, buffers_.output_gradient);
  bind(passes.backward, DNNL_ARG_DIFF_SRC, buffers_.input_gradients[0]);
  bind(passes.backward, DNNL_ARG_WORKSPACE, buffers_.workspace);
  bind(passes.backward, DNNL_ARG_SCRATCHPAD, buffers_.scratchpad);
}

BatchNormLayer::Passes& BatchNormLayer::Current() {
  if (rows_ == setup_.input.data.dims[0]) return passes_;
  const auto found = partial_.find(rows_);
  if (found != partial_.end()) return found->second;
  Passes& passes = partial_.emplace(rows_, Prepare(rows_, false)).first->second;
  BindPasses(passes);
  return passes;
}

void BatchNormLayer::ZeroPadding(float* map) const {
  const int64_t row = setup_.input.data.format_desc.blocking.strides[0];
  std::fill(map + rows_ * row, map + setup_.input.get_size() / sizeof(float), 0.0F);
}

void BatchNormLayer::Forward(dnnl::stream& stream) {
  Current().forward.Run(stream);
  ZeroPadding(buffers_.output);
}

void BatchNormLayer::BackwardData(dnnl::stream& stream) {
  Current().backward.Run(stream);
  ZeroPadding(buffers_.input_gradients[0]);
}

void BatchNormLayer::BackwardWeights(dnnl::stream&) {
  const auto& dims = setup_.input.data.dims;
  const double count = static_cast<double>(int64_t{rows_} * dims[2] * dims[3]);
  const float* mean = statistics_.floats();
  const float* variance = mean + StatisticsStride(setup_);
  const auto unbiased = static_cast<float>(count > 1 ? count / (count - 1) : 0);
  const auto mean_gradient = store_.gradient(scale_ + 2), variance_gradient = store_.gradient(scale_ + 3);
  for (int64_t c = 0; c < Channels(setup_); ++c) {
    mean_gradient[static_cast<size_t>(c)] = mean[c];
    variance_gradient[static_cast<size_t>(c)] = variance[c] * unbiased;
  }
}

}  // namespace plateau
