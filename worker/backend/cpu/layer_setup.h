// From a network's table to compiled layers, and the parameter layouts that follow from them.
#pragma once

#include <memory>
#include <vector>

#include "worker/backend/cpu/cpu_context.h"
#include "worker/backend/cpu/cpu_layer.h"

namespace plateau {

// The images as they come: plain N,C,H,W.
dnnl::memory::desc ImageDesc(const Network& network, const PlanOptions& plan);

// Layer `layer` of context.network for a plan whose InferShapes are `shapes`; `inputs`: the layouts of its inputs. Throws
// dnnl::error when no implementation takes it.
std::unique_ptr<CpuLayer> MakeLayer(const CpuContext& context, int layer, const PlanOptions& plan,
                                    const std::vector<LayerShape>& shapes, const std::vector<dnnl::memory::desc>& inputs);

// The layout of every parameter of context.network for training at context.options.crop.
std::vector<NativeFormat> NativeFormats(const CpuContext& context, const std::vector<LayerShape>& shapes);

}  // namespace plateau
