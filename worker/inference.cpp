// Runs a trained network on images.
#include "worker/inference.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/text.h"
#include "worker/evaluate/dense_network.h"
#include "worker/train/choices_files.h"

namespace plateau {
namespace {

// The layers that layer `last` is computed from, and itself as the last one; inputs move with their layers.
std::vector<LayerDef> AncestorsOf(const std::vector<LayerDef>& layers, size_t last) {
  std::vector<bool> needed(last + 1, false);
  needed[last] = true;
  for (size_t index = last + 1; index-- > 0;)
    for (const int input : layers[index].inputs)
      if (needed[index] && input >= 0) needed[static_cast<size_t>(input)] = true;
  std::vector<LayerDef> kept;
  std::vector<int> moved_to(last + 1, -1);
  for (size_t index = 0; index <= last; ++index) {
    if (!needed[index]) continue;
    LayerDef layer = layers[index];
    for (int& input : layer.inputs)
      if (input >= 0) input = moved_to[static_cast<size_t>(input)];
    moved_to[index] = static_cast<int>(kept.size());
    kept.push_back(std::move(layer));
  }
  return kept;
}

// All rows of a pass: the first ones of `from`, the others zero.
template <typename T>
void FillRows(std::span<const T> from, size_t filled, size_t all, std::vector<T>& rows) {
  PLATEAU_CHECK(from.size() >= filled, "{} values where {} are wanted", from.size(), filled);
  rows.assign(from.begin(), from.begin() + static_cast<int64_t>(filled));
  rows.resize(all);
}

}  // namespace

Result<Network> CutNetwork(const Network& network, const std::string& name, int crop) {
  Network cut = WithoutAuxiliary(network);
  const auto found = std::find_if(cut.layers.begin(), cut.layers.end(), [&](const LayerDef& layer) { return layer.name == name; });
  if (found == cut.layers.end()) {
    std::vector<std::string> names;
    for (const LayerDef& layer : cut.layers) names.push_back(layer.name);
    const std::string nearest = NearestName(name, names);
    return Fail(ErrorCode::kNotFound, "--layer {}: {} has no such layer{}; its layers are {}", name, network.name,
                nearest.empty() ? "" : ", did you mean " + nearest + "?", JoinNames(names));
  }
  cut.layers = AncestorsOf(cut.layers, static_cast<size_t>(found - cut.layers.begin()));
  PLATEAU_ASSIGN(const auto shapes, InferShapes(cut, crop, crop));
  const int last = static_cast<int>(cut.layers.size()) - 1;
  if (cut.layers.back().kind == LayerKind::kFullyConnected) {
    cut.layers.back().relu = false;
    cut.layers.back().dropout = 0;
  } else {
    cut.layers.push_back({.kind = LayerKind::kAveragePool, .name = name + "/mean", .inputs = {last}, .global = true});
  }
  cut.classes = shapes.back().channels;
  return cut;
}

Result<Inference> Inference::Make(FileSystem& files, const TrainedModel& model, const std::string& layer, int batch, int threads,
                                  const Compute& compute) {
  const int crop = model.identity.preprocessing.crop;
  Network network = WithoutAuxiliary(model.network);
  if (!layer.empty()) {
    PLATEAU_ASSIGN(network, CutNetwork(model.network, layer, crop));
  }
  Inference made;
  for (const LayerDef& def : model.network.layers)
    if (def.name == layer) made.rectify_ = def.kind == LayerKind::kFullyConnected && def.relu;
  made.values_ = network.classes;
  made.batch_ = batch;
  made.image_values_ = static_cast<size_t>(network.channels) * static_cast<size_t>(crop) * static_cast<size_t>(crop);
  made.weights_.resize(static_cast<size_t>(batch));
  made.labels_.resize(static_cast<size_t>(batch));
  made.index_.resize(static_cast<size_t>(batch));
  made.precision_ = PrecisionName(compute.precision);
  if (compute.device.cuda) made.choices_ = OpenChoices(files, 0, model.identity.choices, RecordedChoices::Use::kTest);
  PLATEAU_ASSIGN(made.engine_,
                 CreateEngine(compute.device, std::move(network),
                              {.threads = threads, .crop = crop, .precision = compute.precision, .choices = made.choices_.get()}));
  PLATEAU_TRY(FillParameters(model, made.engine_->parameters()));
  PLATEAU_ASSIGN(made.plan_, made.engine_->Compile({.batch = batch, .height = crop, .width = crop, .training = false}));
  if (made.choices_) KeepTimedChoices(files, *made.choices_);
  return made;
}

std::span<const float> Inference::Run(std::span<const float> images, int rows) {
  FillRows(images, image_values_ * static_cast<size_t>(rows), image_values_ * static_cast<size_t>(batch_), images_);
  return Answer({images_, labels_, weights_, index_}, rows);
}

std::span<const float> Inference::Run(std::span<const uint8_t> pixels, std::span<const PixelScale> scales, int rows) {
  FillRows(pixels, image_values_ * static_cast<size_t>(rows), image_values_ * static_cast<size_t>(batch_), pixels_);
  FillRows(scales, static_cast<size_t>(rows), static_cast<size_t>(batch_), scales_);
  return Answer({{}, labels_, weights_, index_, pixels_, scales_}, rows);
}

std::span<const float> Inference::Answer(const LaneBatch& images, int rows) {
  PLATEAU_CHECK(rows >= 1 && rows <= batch_, "{} rows of {}", rows, batch_);
  for (int row = 0; row < batch_; ++row) weights_[static_cast<size_t>(row)] = row < rows ? 1.0F : 0.0F;
  plan_->Forward(images, 0);
  const auto out = plan_->logits().subspan(0, static_cast<size_t>(rows) * static_cast<size_t>(values_));
  output_.assign(out.begin(), out.end());
  if (rectify_)
    for (float& value : output_) value = std::max(value, 0.0F);
  return output_;
}

std::vector<double> Softmax(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  std::vector<double> out;
  double sum = 0;
  for (const float logit : logits) sum += out.emplace_back(std::exp(logit - most));
  for (double& value : out) value /= sum;
  return out;
}

}  // namespace plateau
