// Builds and runs the two passes of a max pool.
#include "worker/backend/cpu/pool_layer.h"

#include <algorithm>

namespace plateau {

PoolLayer::PoolLayer(const dnnl::engine& engine, const PoolSetup& setup) {
  using dnnl::prop_kind;
  const auto& in = setup.input.data.dims;
  const dnnl::memory::desc any({in[0], in[1], setup.out_height, setup.out_width}, dnnl::memory::data_type::f32,
                               dnnl::memory::format_tag::any);
  const dnnl::memory::dims stride = {setup.stride, setup.stride}, kernel = {setup.kernel, setup.kernel},
                           pad = {setup.pad, setup.pad};
  const auto unbound = [&engine](const dnnl::memory::desc& desc) { return dnnl::memory(desc, engine, DNNL_MEMORY_NONE); };

  const dnnl::pooling_forward::primitive_desc forward({setup.training ? prop_kind::forward_training : prop_kind::forward_inference,
                                                       dnnl::algorithm::pooling_max, setup.input, any, stride, kernel, pad, pad},
                                                      MakeAttributes(false), engine);
  output_ = forward.dst_desc();
  forward_ = {.primitive = dnnl::pooling_forward(forward),
              .arguments = {{DNNL_ARG_SRC, unbound(setup.input)},
                            {DNNL_ARG_DST, unbound(output_)},
                            {DNNL_ARG_SCRATCHPAD, unbound(forward.scratchpad_desc())}},
              .implementation = forward.impl_info_str()};
  scratchpad_bytes_ = forward.scratchpad_desc().get_size();
  if (!setup.training) return;

  workspace_bytes_ = forward.workspace_desc().get_size();
  forward_.arguments.emplace(DNNL_ARG_WORKSPACE, unbound(forward.workspace_desc()));
  const dnnl::pooling_backward::primitive_desc backward(
      {dnnl::algorithm::pooling_max, setup.input, output_, stride, kernel, pad, pad}, MakeAttributes(false), engine, forward);
  backward_ = {.primitive = dnnl::pooling_backward(backward),
               .arguments = {{DNNL_ARG_DIFF_DST, unbound(output_)},
                             {DNNL_ARG_DIFF_SRC, unbound(setup.input)},
                             {DNNL_ARG_WORKSPACE, unbound(forward.workspace_desc())},
                             {DNNL_ARG_SCRATCHPAD, unbound(backward.scratchpad_desc())}},
               .implementation = backward.impl_info_str()};
  scratchpad_bytes_ = std::max(scratchpad_bytes_, backward.scratchpad_desc().get_size());
}

void PoolLayer::Bind(const LayerBuffers& buffers) {
  forward_.Bind(DNNL_ARG_SRC, buffers.input);
  forward_.Bind(DNNL_ARG_DST, buffers.output);
  forward_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  if (!backward_) return;
  forward_.Bind(DNNL_ARG_WORKSPACE, buffers.workspace);
  backward_.Bind(DNNL_ARG_WORKSPACE, buffers.workspace);
  backward_.Bind(DNNL_ARG_DIFF_DST, buffers.output_gradient);
  backward_.Bind(DNNL_ARG_DIFF_SRC, buffers.input_gradient);
  backward_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
}

std::vector<std::string> PoolLayer::algorithms() const { return {}; }

}  // namespace plateau
