// Builds and runs the three passes of a convolution.
#include "worker/backend/cpu/conv_layer.h"

#include <algorithm>

namespace plateau {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
constexpr auto kFloat = dnnl::memory::data_type::f32;

constexpr int kVectorChannels = 16;

// oneDNN leaves inputs of fewer channels than a vector, unless they are the images, to loops a thousand times slower. Such a map in blocks
// of 16 lies in memory as one of 16 channels, the last of which are zero: the passes take it for that, with weights that are zero there.
ConvSetup WholeVectors(ConvSetup setup) {
  const auto& blocking = setup.input.data.format_desc.blocking;
  const bool blocked = blocking.inner_nblks == 1 && blocking.inner_idxs[0] == 1 && blocking.inner_blks[0] == kVectorChannels;
  if (!blocked || setup.shape.in_channels >= kVectorChannels) return setup;
  setup.shape.in_channels = kVectorChannels;
  setup.input.data.dims[1] = kVectorChannels;
  return setup;
}

// The same bytes as weights of the layer's own input channels, the rest of which is padding.
Desc OwnChannels(Desc weights, const ConvSetup& setup) {
  weights.data.dims[1] = setup.shape.in_channels;
  return weights;
}

Desc AnyOutput(const ConvShape& s) { return {{s.batch, s.out_channels, s.height, s.width}, kFloat, Tag::any}; }
Desc AnyWeights(const ConvShape& s) { return {{s.out_channels, s.in_channels, s.kernel, s.kernel}, kFloat, Tag::any}; }
// The zero descriptor means no bias.
Desc Bias(const ConvSetup& setup) { return setup.bias ? Desc({setup.shape.out_channels}, kFloat, Tag::x) : Desc(); }

dnnl::algorithm Algorithm(const ConvSetup& setup, ConvPass pass) {
  const auto chosen = ChooseConvAlgorithm(setup.shape, pass, setup.requested, setup.has_avx512);
  return chosen == ConvAlgorithm::kWinograd ? dnnl::algorithm::convolution_winograd : dnnl::algorithm::convolution_direct;
}

dnnl::convolution_forward::primitive_desc ForwardPass(const dnnl::engine& engine, const ConvSetup& setup, dnnl::algorithm algorithm,
                                                      const Desc& output) {
  const ConvShape& s = setup.shape;
  const dnnl::convolution_forward::desc desc(dnnl::prop_kind::forward_training, algorithm, setup.input, AnyWeights(s), Bias(setup),
                                             output, {s.stride, s.stride}, {s.pad, s.pad}, {s.pad, s.pad});
  return {desc, MakeAttributes(setup.relu), engine};
}

// A backward pass takes a forward hint of its own algorithm.
dnnl::convolution_backward_data::primitive_desc DataPass(const dnnl::engine& engine, const ConvSetup& setup, const Desc& output) {
  const ConvShape& s = setup.shape;
  const auto algorithm = Algorithm(setup, ConvPass::kBackwardData);
  const dnnl::convolution_backward_data::desc desc(algorithm, setup.input, AnyWeights(s), output, {s.stride, s.stride},
                                                   {s.pad, s.pad}, {s.pad, s.pad});
  return {desc, MakeAttributes(false), engine, ForwardPass(engine, setup, algorithm, output)};
}

dnnl::convolution_backward_weights::primitive_desc WeightsPass(const dnnl::engine& engine, const ConvSetup& setup,
                                                               const Desc& output) {
  const ConvShape& s = setup.shape;
  const auto algorithm = Algorithm(setup, ConvPass::kBackwardWeights);
  const dnnl::convolution_backward_weights::desc desc(algorithm, setup.input, AnyWeights(s), Bias(setup), output,
                                                      {s.stride, s.stride}, {s.pad, s.pad}, {s.pad, s.pad});
  return {desc, MakeAttributes(false), engine, ForwardPass(engine, setup, algorithm, output)};
}

dnnl::memory Unbound(const Desc& desc, const dnnl::engine& engine) { return {desc, engine, DNNL_MEMORY_NONE}; }

const char* KindOf(const std::string& implementation) {
  return implementation.find("wino") != std::string::npos ? "winograd" : "direct";
}

}  // namespace

dnnl::memory::desc ConvLayer::OutputDesc(const dnnl::engine& engine, const ConvSetup& setup) {
  const ConvSetup whole = WholeVectors(setup);
  return ForwardPass(engine, whole, Algorithm(whole, ConvPass::kForward), AnyOutput(whole.shape)).dst_desc();
}

dnnl::memory::desc ConvLayer::NativeWeights(const dnnl::engine& engine, const ConvSetup& setup) {
  return OwnChannels(WeightsPass(engine, WholeVectors(setup), OutputDesc(engine, setup)).diff_weights_desc(), setup);
}

ConvLayer::ConvLayer(const dnnl::engine& engine, CpuParameterStore& store, int weight, int bias, const ConvSetup& own) {
  const ConvSetup setup = WholeVectors(own);
  const auto forward = ForwardPass(engine, setup, Algorithm(setup, ConvPass::kForward), AnyOutput(setup.shape));
  output_ = forward.dst_desc();
  forward_weight_ = WeightUse(store, weight, OwnChannels(forward.weights_desc(), own));
  forward_ = {.primitive = dnnl::convolution_forward(forward),
              .arguments = {{DNNL_ARG_SRC, Unbound(setup.input, engine)},
                            {DNNL_ARG_WEIGHTS, forward_weight_.memory()},
                            {DNNL_ARG_DST, Unbound(output_, engine)},
                            {DNNL_ARG_SCRATCHPAD, Unbound(forward.scratchpad_desc(), engine)}},
              .implementation = forward.impl_info_str()};
  if (setup.bias) forward_.arguments.emplace(DNNL_ARG_BIAS, store.WeightMemory(bias));
  scratchpad_bytes_ = forward.scratchpad_desc().get_size();
  if (!setup.training) return;

  const auto weights = WeightsPass(engine, setup, output_);
  weight_gradient_ = GradientSink(store, weight, engine, OwnChannels(weights.diff_weights_desc(), own));
  backward_weights_ = {.primitive = dnnl::convolution_backward_weights(weights),
                       .arguments = {{DNNL_ARG_SRC, Unbound(setup.input, engine)},
                                     {DNNL_ARG_DIFF_DST, Unbound(output_, engine)},
                                     {DNNL_ARG_DIFF_WEIGHTS, weight_gradient_.memory()},
                                     {DNNL_ARG_SCRATCHPAD, Unbound(weights.scratchpad_desc(), engine)}},
                       .implementation = weights.impl_info_str()};
  if (setup.bias) backward_weights_.arguments.emplace(DNNL_ARG_DIFF_BIAS, store.GradientMemory(bias));
  scratchpad_bytes_ = std::max(scratchpad_bytes_, weights.scratchpad_desc().get_size());
  if (!setup.data_gradient) return;

  const auto data = DataPass(engine, setup, output_);
  data_weight_ = WeightUse(store, weight, OwnChannels(data.weights_desc(), own));
  backward_data_ = {.primitive = dnnl::convolution_backward_data(data),
                    .arguments = {{DNNL_ARG_DIFF_DST, Unbound(output_, engine)},
                                  {DNNL_ARG_WEIGHTS, data_weight_.memory()},
                                  {DNNL_ARG_DIFF_SRC, Unbound(setup.input, engine)},
                                  {DNNL_ARG_SCRATCHPAD, Unbound(data.scratchpad_desc(), engine)}},
                    .implementation = data.impl_info_str()};
  scratchpad_bytes_ = std::max(scratchpad_bytes_, data.scratchpad_desc().get_size());
}

void ConvLayer::Bind(const LayerBuffers& buffers) {
  forward_.Bind(DNNL_ARG_SRC, buffers.inputs[0]);
  forward_.Bind(DNNL_ARG_DST, buffers.output);
  forward_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  if (backward_weights_) {
    backward_weights_.Bind(DNNL_ARG_SRC, buffers.inputs[0]);
    backward_weights_.Bind(DNNL_ARG_DIFF_DST, buffers.output_gradient);
    backward_weights_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  }
  if (backward_data_) {
    backward_data_.Bind(DNNL_ARG_DIFF_DST, buffers.output_gradient);
    backward_data_.Bind(DNNL_ARG_DIFF_SRC, buffers.input_gradients[0]);
    backward_data_.Bind(DNNL_ARG_SCRATCHPAD, buffers.scratchpad);
  }
}

void ConvLayer::Forward(dnnl::stream& stream) {
  forward_weight_.Refresh(stream);
  forward_.Run(stream);
}

void ConvLayer::BackwardData(dnnl::stream& stream) {
  if (!backward_data_) return;
  data_weight_.Refresh(stream);
  backward_data_.Run(stream);
}

void ConvLayer::BackwardWeights(dnnl::stream& stream) {
  backward_weights_.Run(stream);
  weight_gradient_.Finish(stream);
}

std::vector<std::string> ConvLayer::algorithms() const {
  std::vector<std::string> lines = {std::string(ConvPassName(ConvPass::kForward)) + " " + KindOf(forward_.implementation)};
  if (backward_data_)
    lines.push_back(std::string(ConvPassName(ConvPass::kBackwardData)) + " " + KindOf(backward_data_.implementation));
  if (backward_weights_) {
    lines.push_back(std::string(ConvPassName(ConvPass::kBackwardWeights)) + " " + KindOf(backward_weights_.implementation));
  }
  return lines;
}

}  // namespace plateau
