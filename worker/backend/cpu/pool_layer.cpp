// Builds and runs the two passes of a pool.
#include "worker/backend/cpu/pool_layer.h"

#include <algorithm>

namespace plateau {
namespace {

// Padding behind the map with which exactly `places` windows fit.
int64_t PadBehind(int64_t size, int places, int kernel, int stride, int pad) {
  return std::max<int64_t>(int64_t{places - 1} * stride + kernel - size - pad, 0);
}

}  // namespace

PoolLayer::PoolLayer(const dnnl::engine& engine, const PoolSetup& setup) {
  using dnnl::prop_kind;
  const auto algorithm = setup.average ? dnnl::algorithm::pooling_avg_exclude_padding : dnnl::algorithm::pooling_max;
  const auto& in = setup.input.data.dims;
  const dnnl::memory::desc any({in[0], in[1], setup.out_height, setup.out_width}, dnnl::memory::data_type::f32,
                               dnnl::memory::format_tag::any);
  const dnnl::memory::dims stride = {setup.stride, setup.stride}, kernel = {setup.kernel_height, setup.kernel_width},
                           before = {setup.pad, setup.pad},
                           behind = {PadBehind(in[2], setup.out_height, setup.kernel_height, setup.stride, setup.pad),
                                     PadBehind(in[3], setup.out_width, setup.kernel_width, setup.stride, setup.pad)};
  const auto unbound = [&engine](const dnnl::memory::desc& desc) { return dnnl::memory(desc, engine, DNNL_MEMORY_NONE); };

  const dnnl::pooling_forward::primitive_desc forward({setup.training ? prop_kind::forward_training : prop_kind::forward_inference,
                                                       algorithm, setup.input, any, stride, kernel, before, behind},
                                                      MakeAttributes(false), engine);
  output_ = forward.dst_desc();
  forward_ = {.primitive = dnnl::pooling_forward(forward),
              .arguments = {{DNNL_ARG_SRC, unbound(setup.input)},
                            {DNNL_ARG_DST, unbound(output_)},
                            {DNNL_ARG_SCRATCHPAD, unbound(forward.scratchpad_desc())}},
              .implementation = forward.impl_info_str()};
  scratchpad_bytes_ = forward.scratchpad_desc().get_size();
  if (!setup.training) return;

  const dnnl::pooling_backward::primitive_desc backward({algorithm, setup.input, output_, stride, kernel, before, behind},
                                                        MakeAttributes(false), engine, forward);
  backward_ = {.primitive = dnnl::pooling_backward(backward),
               .arguments = {{DNNL_ARG_DIFF_DST, unbound(output_)},
                             {DNNL_ARG_DIFF_SRC, unbound(setup.input)},
                             {DNNL_ARG_SCRATCHPAD, unbound(backward.scratchpad_desc())}},
               .implementation = backward.impl_info_str()};
  scratchpad_bytes_ = std::max(scratchpad_bytes_, backward.scratchpad_desc().get_size());
  if (setup.average) return;
  workspace_bytes_ = forward.workspace_desc().get_size();
  forward_.arguments.emplace(DNNL_ARG_WORKSPACE, unbound(forward.workspace_desc()));
  backward_.arguments.emplace(DNNL_ARG_WORKSPACE, unbound(forward.workspace_desc()));
}

void PoolLayer::Bind(const LayerBuffers& buffers) {
  forward_.Bind(DNNL_ARG_SRC, buffers.inputs[0]);
  forward_.Bind(DNNL_ARG_DST, buffers.output);
  forward_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  if (!backward_) return;
  backward_.Bind(DNNL_ARG_DIFF_DST, buffers.output_gradient);
  backward_.Bind(DNNL_ARG_DIFF_SRC, buffers.input_gradients[0]);
  backward_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  if (workspace_bytes_ == 0) return;
  forward_.Bind(DNNL_ARG_WORKSPACE, buffers.workspace);
  backward_.Bind(DNNL_ARG_WORKSPACE, buffers.workspace);
}

}  // namespace plateau
