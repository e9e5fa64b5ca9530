// Runs a compiled network forward and backward: what a trainer enqueues.
#include "worker/backend/cuda/cuda_plan.h"

#include <algorithm>

#include "common/check.h"
#include "worker/backend/cuda/cuda_layer.h"
#include "worker/backend/cuda/cuda_plan_buffers.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {

void RequireLabels(std::span<const int32_t> labels, std::span<const float> weights, int classes) {
  for (size_t row = 0; row < labels.size(); ++row) {
    if (!(weights[row] > 0) || (labels[row] >= 0 && labels[row] < classes)) continue;
    throw Failure(ErrorCode::kInvalidInput,
                  fmt::format("row {} of the batch has label {}, the network has {} classes: the model does not fit the data set",
                              row, labels[row], classes));
  }
}

void CudaPlan::Claim() {
  Bind();
  context_.arena.owner = this;
  loss_done_ = false;
}

void CudaPlan::Begin(const DeviceRows& rows, const StepScalars* scalars) {
  Claim();
  rows_ = rows;
  scalars_ = scalars;
  if (options().training && rows.first) {
    Check(cudaMemsetAsync(hidden_nonfinite(), 0, sizeof(int32_t), stream()), "cudaMemsetAsync");
    FlagNonFinite(stream(), parameters().weights(), DataType::kFloat, parameters().total(), hidden_nonfinite());
  }
  if (rows.pixels != nullptr)
    InputFromBytes(stream(), rows.pixels, rows.scales, input());
  else if (rows.images != nullptr)
    InputFromFloat(stream(), rows.images, input(), Figures().nonfinite);
}

void CudaPlan::EnqueueForward(const DeviceRows& rows, const StepScalars* scalars) {
  Begin(rows, scalars);
  for (int layer = 0; layer < layer_count(); ++layer) RunLayer(layer);
}

void CudaPlan::EnqueueLoss(const DeviceRows& rows, float gradient_scale, DeviceLoss* loss) {
  RequireOwner("Loss", false);
  loss_done_ = true;
  share_ = static_cast<float>(rows.rows) * gradient_scale;
  for (size_t head = 0; head < layout_.heads.size(); ++head) {
    const int layer = layout_.heads[head];
    const bool main = head == 0;
    Map gradient;
    if (options().training) gradient = MapAt(At(layer).output, At(layer).loss_gradient);
    SoftmaxLoss(stream(), Output(layer), rows.labels, rows.weights,
                gradient_scale * static_cast<float>(layout_.loss_weights[head]), gradient,
                main ? small_->device.as<RowLoss>(small_->at.row_losses) : nullptr, main ? loss : nullptr);
  }
}

void CudaPlan::EnqueueBackwardData(int layer) {
  RequireOwner("BackwardData", true);
  if (At(layer).backward) RunBackwardData(layer);
}

void CudaPlan::EnqueueBackwardWeights(int layer) {
  RequireOwner("BackwardWeights", true);
  if (At(layer).backward && HasParameters(Def(layer))) RunBackwardWeights(layer);
}

void CudaPlan::RunLayer(int layer) {
  if (!layers_[static_cast<size_t>(layer)]) return;
  layers_[static_cast<size_t>(layer)]->Forward(Figures());
  const double rate = Def(layer).dropout;
  if (options().training && rate > 0)
    Dropout(stream(), Output(layer), rate, context_.options.seed, layer, rows_.sample_index, scalars_);
}

void CudaPlan::RunBackwardData(int layer) {
  const DeviceLayer& at = At(layer);
  const LayerDef& def = Def(layer);
  if (at.combines) CombineGradient(layer);
  if (def.dropout > 0)
    Dropout(stream(), Gradient(layer), def.dropout, context_.options.seed, layer, rows_.sample_index, scalars_);
  // Batch norm's data pass makes the gradients of its parameters.
  if (at.data_gradient || def.kind == LayerKind::kBatchNorm) layers_[static_cast<size_t>(layer)]->BackwardData(Figures());
}

void CudaPlan::RunBackwardWeights(int layer) {
  layers_[static_cast<size_t>(layer)]->BackwardWeights(Figures());
  FlagParameters(layer, parameters().gradients());
}

// Sums what the loss and the readers made, in backward order, and puts it through the ReLU.
void CudaPlan::CombineGradient(int layer) {
  const DeviceLayer& at = At(layer);
  std::vector<Map> parts;
  if (at.loss_gradient >= 0) parts.push_back(MapAt(at.output, at.loss_gradient));
  for (auto reader = at.readers.rbegin(); reader != at.readers.rend(); ++reader)
    parts.push_back(MapAt(at.output, reader->gradient));
  const Map sum = Gradient(layer);
  const bool masked = at.mask == GradientMask::kOwn;
  if (masked && parts.size() == 1 && parts[0].data == sum.data)
    ReluBackward(stream(), Output(layer), sum, Figures().nonfinite);
  else
    SumAll(stream(), std::move(parts), false, masked ? Output(layer) : Map{}, sum, Figures().nonfinite);
}

void CudaPlan::FlagParameters(int layer, const float* flat) {
  const int first = context_.first_parameter[static_cast<size_t>(layer)];
  if (first < 0) return;
  int last = first;
  while (last + 1 < parameters().count() && parameters().info(last + 1).layer == layer) ++last;
  // A layer's parameters lie one behind the other, with zeros between them.
  const int64_t begin = parameters().layout(first).begin, end = parameters().layout(last).begin + parameters().layout(last).count();
  FlagNonFinite(stream(), flat + begin, DataType::kFloat, end - begin, &small_->figures()->nonfinite);
}

LaneFigures CudaPlan::Figures() const {
  return {.rows = rows_.rows, .share = share_, .nonfinite = options().training ? hidden_nonfinite() : nullptr};
}

int32_t* CudaPlan::hidden_nonfinite() const { return &small_->figures()->nonfinite; }

void CudaPlan::RequireOwner(const char* call, bool backward) const {
  if (context_.arena.owner == this && (!backward || (options().training && loss_done_))) return;
  throw Failure(ErrorCode::kInternal,
                fmt::format("{} of a plan (batch {}, {}) without its own Forward{} just before", call, options().batch,
                            options().training ? "training" : "evaluation", backward ? " and Loss" : ""));
}

}  // namespace plateau::cuda
