// Setups of layers, and the parameter layouts that follow from them.
#include "worker/backend/cpu/layer_setup.h"

#include "common/check.h"

namespace plateau {
namespace {

// Batch at which parameter layouts are taken; other batches that want another layout keep a derived copy.
constexpr int kNominalBatch = 32;

LayerShape InputShape(const CpuContext& context, int layer, const PlanOptions& plan, const std::vector<LayerShape>& shapes) {
  return layer == 0 ? LayerShape{context.network.channels, plan.height, plan.width} : shapes[layer - 1];
}

}  // namespace

dnnl::memory::desc ImageDesc(const Network& network, const PlanOptions& plan) {
  return {{plan.batch, network.channels, plan.height, plan.width}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::nchw};
}

ConvSetup MakeConvSetup(const CpuContext& context, int layer, const PlanOptions& plan, const std::vector<LayerShape>& shapes,
                        const dnnl::memory::desc& input) {
  const LayerDef& def = context.network.layers[layer];
  return {.shape = {.batch = plan.batch,
                    .in_channels = InputShape(context, layer, plan, shapes).channels,
                    .out_channels = def.out_channels,
                    .height = shapes[layer].height,
                    .width = shapes[layer].width,
                    .kernel = def.kernel,
                    .stride = def.stride,
                    .pad = def.pad},
          .input = input,
          .relu = def.relu,
          .training = plan.training,
          .data_gradient = layer > 0,
          .requested = context.options.convolution,
          .has_avx512 = context.has_avx512};
}

PoolSetup MakePoolSetup(const CpuContext& context, int layer, const PlanOptions& plan, const std::vector<LayerShape>& shapes,
                        const dnnl::memory::desc& input) {
  const LayerDef& def = context.network.layers[layer];
  return {.input = input,
          .out_height = shapes[layer].height,
          .out_width = shapes[layer].width,
          .kernel = def.kernel,
          .stride = def.stride,
          .pad = def.pad,
          .training = plan.training};
}

FcSetup MakeFcSetup(const CpuContext& context, int layer, const PlanOptions& plan, const std::vector<LayerShape>& shapes) {
  const LayerDef& def = context.network.layers[layer];
  const LayerShape in = InputShape(context, layer, plan, shapes);
  return {.batch = plan.batch,
          .inputs = int64_t{in.channels} * in.height * in.width,
          .outputs = def.out_channels,
          .relu = def.relu,
          .training = plan.training};
}

std::vector<NativeFormat> NativeFormats(const CpuContext& context, const std::vector<LayerShape>& shapes) {
  const PlanOptions plan{.batch = kNominalBatch, .height = context.options.crop, .width = context.options.crop, .training = true};
  std::vector<NativeFormat> formats;
  dnnl::memory::desc input = ImageDesc(context.network, plan);
  for (int layer = 0; layer < static_cast<int>(context.network.layers.size()); ++layer) {
    const LayerDef& def = context.network.layers[layer];
    const NativeFormat bias{.desc = {{def.out_channels}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::x}};
    switch (def.kind) {
      case LayerKind::kConvolution: {
        const ConvSetup setup = MakeConvSetup(context, layer, plan, shapes, input);
        formats.push_back({.desc = ConvLayer::NativeWeights(context.engine, setup)});
        formats.push_back(bias);
        input = ConvLayer::OutputDesc(context.engine, setup);
        break;
      }
      case LayerKind::kMaxPool:
        input = PoolLayer(context.engine, MakePoolSetup(context, layer, plan, shapes, input)).output();
        break;
      case LayerKind::kFullyConnected: {
        const FcSetup setup = MakeFcSetup(context, layer, plan, shapes);
        const int block = FlatChannelBlock(input);
        if (block == 0) throw dnnl::error(dnnl_unimplemented, "the rows of the map before the layer are not dense");
        const LayerShape in = InputShape(context, layer, plan, shapes);
        formats.push_back(
            {.desc = FcLayer::NativeWeights(context.engine, setup), .channel_block = block, .area = int64_t{in.height} * in.width});
        formats.push_back(bias);
        input = {{plan.batch, def.out_channels}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::nc};
        break;
      }
      default: throw dnnl::error(dnnl_unimplemented, "a kind of layer that the CPU engine does not have");
    }
  }
  return formats;
}

Status RequireChain(const Network& network) {
  for (int layer = 0; layer < static_cast<int>(network.layers.size()); ++layer) {
    const LayerDef& def = network.layers[layer];
    if (def.inputs.size() != 1 || def.inputs[0] != layer - 1) {
      return Fail(ErrorCode::kUnsupported,
                  "{}: layer {} does not take the layer before it as its one input; the CPU engine runs chains only", network.name,
                  def.name);
    }
  }
  if (network.layers.empty() || network.layers.back().kind != LayerKind::kFullyConnected || network.layers.back().relu) {
    return Fail(ErrorCode::kUnsupported, "{}: the last layer must be fully connected without ReLU: it gives the logits",
                network.name);
  }
  return {};
}

}  // namespace plateau
