// Builds and runs the three passes of a fully connected layer.
#include "worker/backend/cpu/fc_layer.h"

#include <algorithm>

namespace plateau {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
constexpr auto kFloat = dnnl::memory::data_type::f32;

Desc Input(const FcSetup& s) { return {{s.batch, s.inputs}, kFloat, Tag::nc}; }
Desc Output(const FcSetup& s) { return {{s.batch, s.outputs}, kFloat, Tag::nc}; }
Desc AnyWeights(const FcSetup& s) { return {{s.outputs, s.inputs}, kFloat, Tag::any}; }
Desc Bias(const FcSetup& s) { return s.bias ? Desc({s.outputs}, kFloat, Tag::x) : Desc(); }

dnnl::inner_product_forward::primitive_desc ForwardPass(const dnnl::engine& engine, const FcSetup& s) {
  return {{dnnl::prop_kind::forward_training, Input(s), AnyWeights(s), Bias(s), Output(s)}, MakeAttributes(s.relu), engine};
}

dnnl::inner_product_backward_weights::primitive_desc WeightsPass(const dnnl::engine& engine, const FcSetup& s) {
  return {{Input(s), AnyWeights(s), Bias(s), Output(s)}, MakeAttributes(false), engine, ForwardPass(engine, s)};
}

}  // namespace

dnnl::memory::desc FcLayer::NativeWeights(const dnnl::engine& engine, const FcSetup& setup) {
  return WeightsPass(engine, setup).diff_weights_desc();
}

FcLayer::FcLayer(const dnnl::engine& engine, CpuParameterStore& store, int weight, int bias, const FcSetup& setup)
    : output_(Output(setup)) {
  const auto unbound = [&engine](const Desc& desc) { return dnnl::memory(desc, engine, DNNL_MEMORY_NONE); };
  const auto forward = ForwardPass(engine, setup);
  forward_weight_ = WeightUse(store, weight, forward.weights_desc());
  forward_ = {.primitive = dnnl::inner_product_forward(forward),
              .arguments = {{DNNL_ARG_SRC, unbound(Input(setup))},
                            {DNNL_ARG_WEIGHTS, forward_weight_.memory()},
                            {DNNL_ARG_DST, unbound(output_)},
                            {DNNL_ARG_SCRATCHPAD, unbound(forward.scratchpad_desc())}},
              .implementation = forward.impl_info_str()};
  if (setup.bias) forward_.arguments.emplace(DNNL_ARG_BIAS, store.WeightMemory(bias));
  scratchpad_bytes_ = forward.scratchpad_desc().get_size();
  if (setup.flat.data.ndims != 0) {
    flatten_ = MapReorder(engine, setup.map, setup.flat);
    flat_bytes_ = setup.flat.get_size();
  }
  if (!setup.training) return;

  const auto weights = WeightsPass(engine, setup);
  weight_gradient_ = GradientSink(store, weight, engine, weights.diff_weights_desc());
  backward_weights_ = {.primitive = dnnl::inner_product_backward_weights(weights),
                       .arguments = {{DNNL_ARG_SRC, unbound(Input(setup))},
                                     {DNNL_ARG_DIFF_DST, unbound(output_)},
                                     {DNNL_ARG_DIFF_WEIGHTS, weight_gradient_.memory()},
                                     {DNNL_ARG_SCRATCHPAD, unbound(weights.scratchpad_desc())}},
                       .implementation = weights.impl_info_str()};
  if (setup.bias) backward_weights_.arguments.emplace(DNNL_ARG_DIFF_BIAS, store.GradientMemory(bias));
  scratchpad_bytes_ = std::max(scratchpad_bytes_, weights.scratchpad_desc().get_size());
  if (!setup.data_gradient) return;

  const dnnl::inner_product_backward_data::primitive_desc data({Input(setup), AnyWeights(setup), Output(setup)},
                                                               MakeAttributes(false), engine, forward);
  data_weight_ = WeightUse(store, weight, data.weights_desc());
  backward_data_ = {.primitive = dnnl::inner_product_backward_data(data),
                    .arguments = {{DNNL_ARG_DIFF_DST, unbound(output_)},
                                  {DNNL_ARG_WEIGHTS, data_weight_.memory()},
                                  {DNNL_ARG_DIFF_SRC, unbound(Input(setup))},
                                  {DNNL_ARG_SCRATCHPAD, unbound(data.scratchpad_desc())}},
                    .implementation = data.impl_info_str()};
  scratchpad_bytes_ = std::max(scratchpad_bytes_, data.scratchpad_desc().get_size());
  if (flatten_) unflatten_ = MapReorder(engine, setup.flat, setup.map);
}

void FcLayer::Bind(const LayerBuffers& buffers) {
  buffers_ = buffers;
  float* input = flatten_ ? static_cast<float*>(buffers.workspace) : buffers.inputs[0];
  forward_.Bind(DNNL_ARG_SRC, input);
  forward_.Bind(DNNL_ARG_DST, buffers.output);
  forward_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  if (!backward_weights_) return;
  backward_weights_.Bind(DNNL_ARG_SRC, input);
  backward_weights_.Bind(DNNL_ARG_DIFF_DST, buffers.output_gradient);
  backward_weights_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  if (!backward_data_) return;
  flat_gradient_ = unflatten_ ? reinterpret_cast<float*>(static_cast<char*>(buffers.scratchpad) + scratchpad_bytes_)
                              : buffers.input_gradients[0];
  backward_data_.Bind(DNNL_ARG_DIFF_DST, buffers.output_gradient);
  backward_data_.Bind(DNNL_ARG_DIFF_SRC, flat_gradient_);
  backward_data_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
}

void FcLayer::Forward(dnnl::stream& stream) {
  if (flatten_) flatten_.Run(stream, buffers_.inputs[0], static_cast<float*>(buffers_.workspace));
  forward_weight_.Refresh(stream);
  forward_.Run(stream);
}

void FcLayer::BackwardData(dnnl::stream& stream) {
  if (!backward_data_) return;
  data_weight_.Refresh(stream);
  backward_data_.Run(stream);
  if (unflatten_) unflatten_.Run(stream, flat_gradient_, buffers_.input_gradients[0]);
}

void FcLayer::BackwardWeights(dnnl::stream& stream) {
  backward_weights_.Run(stream);
  weight_gradient_.Finish(stream);
}

int FlatChannelBlock(const dnnl::memory::desc& map) {
  const auto& data = map.data;
  const auto& blocking = data.format_desc.blocking;
  if (data.ndims == 2) return 1;
  const auto area = data.dims[2] * data.dims[3];
  const bool rows_dense = data.padded_dims[1] == data.dims[1] && blocking.strides[0] == data.dims[1] * area;
  if (!rows_dense) return 0;
  const auto block = blocking.inner_nblks == 0 ? 1 : blocking.inner_blks[0];
  const bool plain = blocking.inner_nblks == 0 || (blocking.inner_nblks == 1 && blocking.inner_idxs[0] == 1);
  const bool ordered =
      blocking.strides[1] == area * block && blocking.strides[2] == data.dims[3] * block && blocking.strides[3] == block;
  if (!plain || !ordered) return 0;
  return area == 1 ? 1 : static_cast<int>(block);
}

dnnl::memory::desc FlatMap(const dnnl::memory::desc& map, int channel_block) {
  const auto& d = map.data;
  const int64_t area = d.dims[2] * d.dims[3];
  if (channel_block == 1) return {map.dims(), kFloat, dnnl::memory::dims{d.dims[1] * area, area, d.dims[3], 1}};
  return {map.dims(), kFloat, channel_block == 16 ? Tag::nChw16c : channel_block == 8 ? Tag::nChw8c : Tag::nChw4c};
}

}  // namespace plateau
