// How the host drives a CudaPlan layer by layer: rows up, figures down, times of passes.
#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "worker/backend/cuda/cuda_layer.h"
#include "worker/backend/cuda/cuda_plan.h"
#include "worker/backend/cuda/cuda_plan_buffers.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

template <typename T>
void CopyRows(DeviceBuffer& to, uint64_t offset, std::span<const T> rows, cudaStream_t stream) {
  if (!rows.empty()) CopyToDevice(to.at(offset), rows.data(), rows.size_bytes(), stream);
}

bool InputFinite(const LaneBatch& lane) {
  const auto finite = [](float value) { return std::isfinite(value); };
  return std::ranges::all_of(lane.images, finite) && std::ranges::all_of(lane.scales, [&](const PixelScale& scale) {
           return std::ranges::all_of(scale.gain, finite) && std::ranges::all_of(scale.offset, finite);
         });
}

}  // namespace

void CudaPlan::Forward(const LaneBatch& lane, uint64_t step) {
  const DeviceRows rows = Upload(lane, step);
  timing_->Restart();
  Begin(rows, &small_->figures()->scalars);
  for (int layer = 0; layer < layer_count(); ++layer) {
    if (layers_[static_cast<size_t>(layer)])
      timing_->layers[static_cast<size_t>(layer)].forward.Run(stream(), [&] { RunLayer(layer); });
    if (context_.options.progress != nullptr) ++*context_.options.progress;
  }
  LogitsToFloat(stream(), Output(layer_count() - 1), small_->device.as<float>(small_->at.logits));
  small_->logits_wanted = true;
}

LossSums CudaPlan::Loss(const LaneBatch& lane, int global_batch) {
  RequireOwner("Loss", false);
  CheckLane(lane);
  RequireLabels(lane.labels, lane.weights, classes());
  CopyRows(small_->device, small_->at.labels, lane.labels, stream());
  CopyRows(small_->device, small_->at.weights, lane.weights, stream());
  HostFigures* figures = small_->figures();
  Check(cudaMemsetAsync(&figures->loss, 0, sizeof(DeviceLoss), stream()), "cudaMemsetAsync");
  EnqueueLoss(rows_, 1.0F / static_cast<float>(global_batch), &figures->loss);
  CopyToHost(&small_->host().loss, &figures->loss, sizeof(DeviceLoss), stream());
  libraries().stream().Wait();
  const DeviceLoss& sums = small_->host().loss;
  return {.loss = sums.loss, .images = sums.images, .top1_correct = sums.top1_correct, .top5_correct = sums.top5_correct};
}

void CudaPlan::BackwardData(int layer) {
  RequireOwner("BackwardData", true);
  if (!At(layer).backward) return;
  timing_->layers[static_cast<size_t>(layer)].data.Run(stream(), [&] { EnqueueBackwardData(layer); });
}

void CudaPlan::BackwardWeights(int layer) {
  RequireOwner("BackwardWeights", true);
  if (!At(layer).backward || !HasParameters(Def(layer))) return;
  timing_->layers[static_cast<size_t>(layer)].weights.Run(stream(), [&] { EnqueueBackwardWeights(layer); });
}

bool CudaPlan::HiddenFinite() const { return !options().training || !Raised(); }

bool CudaPlan::Raised() const {
  CopyToHost(&small_->host().nonfinite, hidden_nonfinite(), sizeof(int32_t), stream());
  libraries().stream().Wait();
  return small_->host().nonfinite != 0;
}

std::span<const float> CudaPlan::logits() const {
  const std::span<const float> values(small_->host_logits.as<float>(), small_->host_logits.bytes() / sizeof(float));
  if (small_->logits_wanted) {
    CopyToHost(small_->host_logits.data(), small_->device.at(small_->at.logits), values.size_bytes(), stream());
    libraries().stream().Wait();
    small_->logits_wanted = false;
  }
  return values;
}

std::string CudaPlan::FirstNonFiniteLayer(const LaneBatch& lane, uint64_t step) {
  CheckLane(lane);
  if (!InputFinite(lane)) return "input";
  DeviceRows rows = Upload(lane, step);
  rows.first = false;
  Check(cudaMemsetAsync(hidden_nonfinite(), 0, sizeof(int32_t), stream()), "cudaMemsetAsync");
  Begin(rows, &small_->figures()->scalars);
  context_.arena.owner = nullptr;
  for (int layer = 0; layer < layer_count(); ++layer) {
    if (!At(layer).present) continue;
    // A fused ReLU may turn NaN into 0, so a layer with a weight that is not finite is named by its weight.
    FlagParameters(layer, parameters().weights());
    if (Raised()) return Def(layer).name;
    RunLayer(layer);
    const Map output = Output(layer);
    FlagNonFinite(stream(), output.data, output.type, output.shape.values(), hidden_nonfinite());
    if (Raised()) return Def(layer).name;
  }
  return "";
}

std::span<const double> CudaPlan::forward_seconds() const {
  libraries().stream().Wait();
  for (size_t layer = 0; layer < timing_->layers.size(); ++layer)
    timing_->forward_seconds[layer] = timing_->layers[layer].forward.Seconds();
  return timing_->forward_seconds;
}

std::vector<PassSeconds> CudaPlan::pass_seconds() const {
  libraries().stream().Wait();
  std::vector<PassSeconds> passes;
  for (const Timing::Layer& layer : timing_->layers)
    passes.push_back({layer.forward.Seconds(), layer.data.Seconds(), layer.weights.Seconds()});
  return passes;
}

std::vector<std::string> CudaPlan::algorithms() const {
  std::vector<std::string> lines;
  for (const auto& layer : layers_) {
    if (!layer) continue;
    const auto of_layer = layer->algorithms();
    lines.insert(lines.end(), of_layer.begin(), of_layer.end());
  }
  return lines;
}

DeviceRows CudaPlan::Upload(const LaneBatch& lane, uint64_t step) {
  CheckLane(lane);
  Claim();
  libraries().stream().Wait();  // the host's figures may still be on their way
  small_->host().scalars = {.step = step};
  DeviceBuffer& device = small_->device;
  CopyToDevice(&small_->figures()->scalars, &small_->host().scalars, sizeof(StepScalars), stream());
  const bool bytes = !lane.pixels.empty();
  const std::span<const std::byte> images = bytes ? std::as_bytes(lane.pixels) : std::as_bytes(lane.images);
  std::byte* staging = Buffer(layout_.images);  // has room for floats
  CopyToDevice(staging, images.data(), images.size(), stream());
  CopyRows(device, small_->at.scales, lane.scales, stream());
  CopyRows(device, small_->at.labels, lane.labels, stream());
  CopyRows(device, small_->at.weights, lane.weights, stream());
  CopyRows(device, small_->at.sample_index, lane.sample_index, stream());
  const auto padding = std::ranges::find_if(lane.weights, [](float weight) { return !(weight > 0); });
  return {.images = bytes ? nullptr : reinterpret_cast<const float*>(staging),
          .pixels = bytes ? reinterpret_cast<const uint8_t*>(staging) : nullptr,
          .scales = bytes ? device.as<PixelScale>(small_->at.scales) : nullptr,
          .labels = device.as<int32_t>(small_->at.labels),
          .weights = device.as<float>(small_->at.weights),
          .sample_index = device.as<uint64_t>(small_->at.sample_index),
          .rows = static_cast<int>(padding - lane.weights.begin())};
}

void CudaPlan::CheckLane(const LaneBatch& lane) const {
  const auto batch = static_cast<size_t>(options().batch);
  const size_t image = static_cast<size_t>(network().channels) * static_cast<size_t>(options().height) *
                       static_cast<size_t>(options().width);
  const bool bytes = !lane.pixels.empty();
  PLATEAU_CHECK(lane.images.size() == (bytes ? 0 : batch * image) && lane.pixels.size() == (bytes ? batch * image : 0) &&
                    lane.scales.size() == (bytes ? batch : 0) && (!bytes || network().channels <= kMostPixelChannels),
                "batch {} of {}x{}x{}: {} image values, {} bytes, {} scales", batch, network().channels, options().height,
                options().width, lane.images.size(), lane.pixels.size(), lane.scales.size());
  PLATEAU_CHECK(
      lane.labels.size() == batch && lane.weights.size() == batch && (lane.sample_index.size() == batch || !options().training),
      "batch {}: {} labels, {} weights, {} sample indices", batch, lane.labels.size(), lane.weights.size(),
      lane.sample_index.size());
  const bool has_batch_norm = std::ranges::find(network().layers, LayerKind::kBatchNorm, &LayerDef::kind) != network().layers.end();
  if (!options().training || !has_batch_norm) return;
  const auto padding = std::ranges::find_if(lane.weights, [](float weight) { return !(weight > 0); });
  PLATEAU_CHECK(padding != lane.weights.begin() &&
                    std::all_of(padding, lane.weights.end(), [](float weight) { return !(weight > 0); }),
                "batch norm needs a lane's padding rows behind its samples; {} of {} rows come before the first padding",
                padding - lane.weights.begin(), batch);
}

}  // namespace plateau::cuda
