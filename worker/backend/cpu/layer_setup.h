// From a network's table to the setups of compiled layers.
#pragma once

#include "worker/backend/cpu/conv_layer.h"
#include "worker/backend/cpu/cpu_context.h"
#include "worker/backend/cpu/fc_layer.h"
#include "worker/backend/cpu/pool_layer.h"

namespace plateau {

// The images as they come: plain N,C,H,W.
dnnl::memory::desc ImageDesc(const Network& network, const PlanOptions& plan);
ConvSetup MakeConvSetup(const CpuContext& context, int layer, const PlanOptions& plan, const std::vector<LayerShape>& shapes,
                        const dnnl::memory::desc& input);
PoolSetup MakePoolSetup(const CpuContext& context, int layer, const PlanOptions& plan, const std::vector<LayerShape>& shapes,
                        const dnnl::memory::desc& input);
FcSetup MakeFcSetup(const CpuContext& context, int layer, const PlanOptions& plan, const std::vector<LayerShape>& shapes);

// The layout of every parameter of context.network for training at context.options.crop.
std::vector<NativeFormat> NativeFormats(const CpuContext& context, const std::vector<LayerShape>& shapes);
// kUnsupported, naming the layer, for a network that is not a chain.
Status RequireChain(const Network& network);

}  // namespace plateau
