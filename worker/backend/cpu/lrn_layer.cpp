// Builds and runs the two passes of a local response normalisation.
#include "worker/backend/cpu/lrn_layer.h"

#include <algorithm>

namespace plateau {

LrnLayer::LrnLayer(const dnnl::engine& engine, const LrnSetup& setup) : output_(setup.input) {
  using dnnl::prop_kind;
  const LrnDef& lrn = setup.lrn;
  const auto algorithm = dnnl::algorithm::lrn_across_channels;
  // The library divides the sum by its size; the paper does not.
  const auto alpha = static_cast<float>(lrn.alpha * lrn.size), beta = static_cast<float>(lrn.beta), k = static_cast<float>(lrn.k);
  const auto unbound = [&engine](const dnnl::memory::desc& desc) { return dnnl::memory(desc, engine, DNNL_MEMORY_NONE); };

  const dnnl::lrn_forward::primitive_desc forward({setup.training ? prop_kind::forward_training : prop_kind::forward_inference,
                                                   algorithm, setup.input, lrn.size, alpha, beta, k},
                                                  MakeAttributes(false), engine);
  forward_ = {.primitive = dnnl::lrn_forward(forward),
              .arguments = {{DNNL_ARG_SRC, unbound(setup.input)},
                            {DNNL_ARG_DST, unbound(output_)},
                            {DNNL_ARG_SCRATCHPAD, unbound(forward.scratchpad_desc())}},
              .implementation = forward.impl_info_str()};
  scratchpad_bytes_ = forward.scratchpad_desc().get_size();
  if (!setup.training) return;

  const dnnl::lrn_backward::primitive_desc backward({algorithm, setup.input, output_, lrn.size, alpha, beta, k},
                                                    MakeAttributes(false), engine, forward);
  backward_ = {.primitive = dnnl::lrn_backward(backward),
               .arguments = {{DNNL_ARG_SRC, unbound(setup.input)},
                             {DNNL_ARG_DIFF_DST, unbound(output_)},
                             {DNNL_ARG_DIFF_SRC, unbound(setup.input)},
                             {DNNL_ARG_SCRATCHPAD, unbound(backward.scratchpad_desc())}},
               .implementation = backward.impl_info_str()};
  scratchpad_bytes_ = std::max(scratchpad_bytes_, backward.scratchpad_desc().get_size());
  workspace_bytes_ = forward.workspace_desc().get_size();
  if (workspace_bytes_ == 0) return;
  forward_.arguments.emplace(DNNL_ARG_WORKSPACE, unbound(forward.workspace_desc()));
  backward_.arguments.emplace(DNNL_ARG_WORKSPACE, unbound(forward.workspace_desc()));
}

void LrnLayer::Bind(const LayerBuffers& buffers) {
  forward_.Bind(DNNL_ARG_SRC, buffers.inputs[0]);
  forward_.Bind(DNNL_ARG_DST, buffers.output);
  forward_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  if (workspace_bytes_ > 0) forward_.Bind(DNNL_ARG_WORKSPACE, buffers.workspace);
  if (!backward_) return;
  backward_.Bind(DNNL_ARG_SRC, buffers.inputs[0]);
  backward_.Bind(DNNL_ARG_DIFF_DST, buffers.output_gradient);
  backward_.Bind(DNNL_ARG_DIFF_SRC, buffers.input_gradients[0]);
  backward_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  if (workspace_bytes_ > 0) backward_.Bind(DNNL_ARG_WORKSPACE, buffers.workspace);
}

}  // namespace plateau
