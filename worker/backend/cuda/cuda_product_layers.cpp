// Layers that multiply by weights: convolution and fully connected.
#include <algorithm>

#include "worker/backend/cuda/conv_op.h"
#include "worker/backend/cuda/cuda_layer.h"
#include "worker/backend/cuda/fc_op.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

class CudaConv final : public CudaLayer {
 public:
  explicit CudaConv(const LayerPlace& place)
      : libraries_(*place.context.libraries), store_(*place.context.parameters), weight_(place.parameter()), bias_(place.def().bias) {
    const LayerDef& def = place.def();
    const int batch = place.plan.options.batch;
    const ConvShape shape{.x = ShapeOf(place.in(), batch),
                          .y = ShapeOf(place.at().output, batch),
                          .kernel = def.kernel,
                          .stride = def.stride,
                          .pad = def.pad};
    const ConvUse use{.bias = def.bias,
                      .relu = def.relu,
                      .training = place.plan.options.training,
                      .data_gradient = place.at().data_gradient,
                      .data_relu = place.meets_relu()};
    op_ = ConvOp::Create(libraries_, def.name, shape, use, WorkspaceLimit(place.plan));
    workspace_bytes_ = op_->workspace_bytes();
    if (!use.training || !def.bias) return;
    const DeviceLayer& at = place.at();
    const DeviceMap& summed = at.pooled_bias ? place.plan.layers[static_cast<size_t>(at.readers[0].layer)].output : at.output;
    workspace_bytes_ = std::max(workspace_bytes_, static_cast<size_t>(BiasGradientScratch(ShapeOf(summed, batch))) * sizeof(float));
  }
  size_t workspace_bytes() const override { return workspace_bytes_; }
  void Forward(const LaneFigures&) override {
    op_->Forward(maps_.inputs[0].data, store_.map_weight_at(weight_), bias_ ? store_.weight_at(weight_ + 1) : nullptr,
                 maps_.output.data, maps_.workspace);
  }
  void BackwardData(const LaneFigures&) override {
    op_->BackwardData(maps_.output_gradient.data, store_.map_weight_at(weight_), maps_.inputs[0].data,
                      maps_.input_gradients[0].data, maps_.workspace);
  }
  void BackwardWeights(const LaneFigures& lane) override {
    op_->BackwardWeights(maps_.inputs[0].data, maps_.output_gradient.data, store_.gradient_at(weight_), maps_.workspace);
    if (!bias_) return;
    auto* partial = static_cast<float*>(maps_.workspace);
    float* gradient = store_.gradient_at(weight_ + 1);
    const cudaStream_t stream = libraries_.stream().get();
    if (maps_.pool_winners != nullptr)
      PoolBiasGradient(stream, maps_.pool_gradient, maps_.pool_winners, partial, gradient, lane.nonfinite);
    else
      BiasGradient(stream, maps_.output_gradient, partial, gradient, lane.nonfinite);
  }
  std::vector<std::string> algorithms() const override { return op_->algorithms(); }

 private:
  Libraries& libraries_;
  CudaParameterStore& store_;
  int weight_;
  bool bias_;
  std::unique_ptr<ConvOp> op_;
  size_t workspace_bytes_ = 0;
};

class CudaFc final : public CudaLayer {
 public:
  explicit CudaFc(const LayerPlace& place)
      : store_(*place.context.parameters), weight_(place.parameter()), bias_(place.def().bias) {
    const LayerDef& def = place.def();
    const FcShape shape{
        .rows = place.plan.options.batch, .inputs = place.in().values(), .outputs = place.at().output.values()};
    const FcUse use{.bias = def.bias,
                    .relu = def.relu,
                    .training = place.plan.options.training,
                    .data_gradient = place.at().data_gradient,
                    .data_relu = place.meets_relu()};
    op_ = FcOp::Create(*place.context.libraries, def.name, shape, use, WorkspaceLimit(place.plan));
  }
  size_t workspace_bytes() const override { return op_->workspace_bytes(); }
  void Forward(const LaneFigures&) override {
    op_->Forward(maps_.inputs[0].data, store_.map_weight_at(weight_), bias_ ? store_.weight_at(weight_ + 1) : nullptr,
                 maps_.output.data, maps_.workspace);
  }
  void BackwardData(const LaneFigures&) override {
    op_->BackwardData(maps_.output_gradient.data, store_.map_weight_at(weight_), maps_.inputs[0].data,
                      maps_.input_gradients[0].data, maps_.workspace);
  }
  void BackwardWeights(const LaneFigures&) override {
    op_->BackwardWeights(maps_.inputs[0].data, maps_.output_gradient.data, store_.gradient_at(weight_),
                         bias_ ? store_.gradient_at(weight_ + 1) : nullptr, maps_.workspace);
  }
  std::vector<std::string> algorithms() const override { return op_->algorithms(); }

 private:
  CudaParameterStore& store_;
  int weight_;
  bool bias_;
  std::unique_ptr<FcOp> op_;
};

}  // namespace

std::unique_ptr<CudaLayer> MakeProductLayer(const LayerPlace& place) {
  if (place.def().kind == LayerKind::kConvolution) return std::make_unique<CudaConv>(place);
  return std::make_unique<CudaFc>(place);
}

}  // namespace plateau::cuda
