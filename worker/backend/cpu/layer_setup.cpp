// Setups of layers by kind, and the parameter layouts that follow from them.
#include "worker/backend/cpu/layer_setup.h"

#include <algorithm>

#include "common/check.h"
#include "worker/backend/cpu/add_layer.h"
#include "worker/backend/cpu/batch_norm_layer.h"
#include "worker/backend/cpu/concat_layer.h"
#include "worker/backend/cpu/conv_layer.h"
#include "worker/backend/cpu/fc_layer.h"
#include "worker/backend/cpu/lrn_layer.h"
#include "worker/backend/cpu/pool_layer.h"

namespace plateau {
namespace {

using Desc = dnnl::memory::desc;

// Batch at which parameter layouts are taken; other batches that want another layout keep a derived copy.
constexpr int kNominalBatch = 32;

// One layer of a plan, seen with everything its setup follows from.
struct Place {
  const CpuContext& context;
  int layer;
  const PlanOptions& plan;
  const std::vector<LayerShape>& shapes;
  const std::vector<Desc>& inputs;

  const LayerDef& def() const { return context.network.layers[static_cast<size_t>(layer)]; }
  const LayerShape& out() const { return shapes[static_cast<size_t>(layer)]; }
  LayerShape in() const { return InputShape(context.network, shapes, plan.height, plan.width, layer); }
  bool data_gradient() const {
    return std::ranges::any_of(def().inputs, [&](int input) { return input >= 0 && context.learns[static_cast<size_t>(input)]; });
  }
};

ConvSetup MakeConvSetup(const Place& at) {
  const LayerDef& def = at.def();
  return {.shape = {.batch = at.plan.batch,
                    .in_channels = at.in().channels,
                    .out_channels = def.out_channels,
                    .height = at.out().height,
                    .width = at.out().width,
                    .kernel = def.kernel,
                    .stride = def.stride,
                    .pad = def.pad},
          .input = at.inputs[0],
          .bias = def.bias,
          .relu = def.relu,
          .training = at.plan.training,
          .data_gradient = at.data_gradient(),
          .requested = at.context.options.convolution,
          .has_avx512 = at.context.has_avx512};
}

FcSetup MakeFcSetup(const Place& at) {
  const LayerDef& def = at.def();
  const LayerShape in = at.in();
  return {.batch = at.plan.batch,
          .inputs = int64_t{in.channels} * in.height * in.width,
          .outputs = def.out_channels,
          .bias = def.bias,
          .relu = def.relu,
          .training = at.plan.training,
          .data_gradient = at.data_gradient()};
}

PoolSetup MakePoolSetup(const Place& at) {
  const LayerDef& def = at.def();
  const LayerShape in = at.in();
  return {.input = at.inputs[0],
          .out_height = at.out().height,
          .out_width = at.out().width,
          .kernel_height = def.global ? in.height : def.kernel,
          .kernel_width = def.global ? in.width : def.kernel,
          .stride = def.global ? 1 : def.stride,
          .pad = def.pad,
          .average = def.kind == LayerKind::kAveragePool,
          .training = at.plan.training};
}

std::unique_ptr<CpuLayer> MakeFc(const Place& at, int weight) {
  CpuParameterStore& store = *at.context.parameters;
  FcSetup setup = MakeFcSetup(at);
  const int wanted = store.format(weight).channel_block;
  if (FlatChannelBlock(at.inputs[0]) != wanted) {
    setup.map = at.inputs[0];
    setup.flat = FlatMap(setup.map, wanted);
  }
  return std::make_unique<FcLayer>(at.context.engine, store, weight, weight + 1, setup);
}

std::unique_ptr<CpuLayer> Make(const Place& at) {
  const LayerDef& def = at.def();
  const dnnl::engine& engine = at.context.engine;
  const int first = at.context.first_parameter[static_cast<size_t>(at.layer)];
  const bool training = at.plan.training;
  switch (def.kind) {
    case LayerKind::kConvolution:
      return std::make_unique<ConvLayer>(engine, *at.context.parameters, first, first + 1, MakeConvSetup(at));
    case LayerKind::kFullyConnected: return MakeFc(at, first);
    case LayerKind::kMaxPool:
    case LayerKind::kAveragePool: return std::make_unique<PoolLayer>(engine, MakePoolSetup(at));
    case LayerKind::kLrn: return std::make_unique<LrnLayer>(engine, LrnSetup{at.inputs[0], def.lrn, training});
    case LayerKind::kBatchNorm:
      return std::make_unique<BatchNormLayer>(engine, *at.context.parameters, first,
                                              BatchNormSetup{.input = at.inputs[0],
                                                             .epsilon = def.bn_epsilon,
                                                             .relu = def.relu,
                                                             .training = training,
                                                             .data_gradient = at.data_gradient()});
    case LayerKind::kConcat: return std::make_unique<ConcatLayer>(engine, ConcatSetup{at.inputs, training});
    case LayerKind::kAdd:
      return std::make_unique<AddLayer>(engine, AddSetup{at.inputs, def.relu, training, at.context.options.threads});
  }
  PLATEAU_CHECK(false, "layer kind {}", static_cast<int>(def.kind));
}

NativeFormat VectorFormat(int channels) {
  return {.desc = {{channels}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::x}};
}

// Adds the formats of one layer's parameters; the layout of its output.
Desc AddFormats(const Place& at, std::vector<NativeFormat>& formats) {
  const LayerDef& def = at.def();
  const dnnl::engine& engine = at.context.engine;
  switch (def.kind) {
    case LayerKind::kConvolution: {
      const ConvSetup setup = MakeConvSetup(at);
      formats.push_back({.desc = ConvLayer::NativeWeights(engine, setup)});
      if (def.bias) formats.push_back(VectorFormat(def.out_channels));
      return ConvLayer::OutputDesc(engine, setup);
    }
    case LayerKind::kFullyConnected: {
      const int block = std::max(FlatChannelBlock(at.inputs[0]), 1);
      const LayerShape in = at.in();
      formats.push_back(
          {.desc = FcLayer::NativeWeights(engine, MakeFcSetup(at)), .channel_block = block, .area = int64_t{in.height} * in.width});
      if (def.bias) formats.push_back(VectorFormat(def.out_channels));
      return {{at.plan.batch, def.out_channels}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::nc};
    }
    case LayerKind::kBatchNorm:
      for (int tensor = 0; tensor < 4; ++tensor) formats.push_back(VectorFormat(at.in().channels));
      return at.inputs[0];
    default: return Make(at)->output();
  }
}

}  // namespace

Desc ImageDesc(const Network& network, const PlanOptions& plan) {
  return {{plan.batch, network.channels, plan.height, plan.width}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::nchw};
}

std::unique_ptr<CpuLayer> MakeLayer(const CpuContext& context, int layer, const PlanOptions& plan,
                                    const std::vector<LayerShape>& shapes, const std::vector<Desc>& inputs) {
  return Make({context, layer, plan, shapes, inputs});
}

std::vector<NativeFormat> NativeFormats(const CpuContext& context, const std::vector<LayerShape>& shapes) {
  const PlanOptions plan{.batch = kNominalBatch, .height = context.options.crop, .width = context.options.crop, .training = true};
  std::vector<NativeFormat> formats;
  std::vector<Desc> outputs;
  for (int layer = 0; layer < static_cast<int>(context.network.layers.size()); ++layer) {
    std::vector<Desc> inputs;
    for (const int input : context.network.layers[static_cast<size_t>(layer)].inputs)
      inputs.push_back(input < 0 ? ImageDesc(context.network, plan) : outputs[static_cast<size_t>(input)]);
    outputs.push_back(AddFormats({context, layer, plan, shapes, inputs}, formats));
  }
  return formats;
}

}  // namespace plateau
