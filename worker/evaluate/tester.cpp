// Cuts views out of loaded images, passes them through a network, and averages their posteriors.
#include "worker/evaluate/tester.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "dataset/test_image.h"
#include "worker/evaluate/counts.h"

namespace plateau {

int MostRows(const Network& network, int height, int width, int batch) {
  const auto shapes = InferShapes(network, height, width);
  if (!shapes) throw Failure(shapes.error().code, shapes.error().message);
  const auto bytes = [](const LayerShape& s) { return int64_t{s.channels} * s.height * s.width * int64_t{sizeof(float)}; };
  int64_t most = 1;
  for (size_t layer = 0; layer < shapes->size(); ++layer) {
    int64_t both = bytes((*shapes)[layer]);
    for (size_t i = 0; i < network.layers[layer].inputs.size(); ++i)
      both += bytes(InputShape(network, *shapes, height, width, static_cast<int>(layer), static_cast<int>(i)));
    most = std::max(most, both);
  }
  return static_cast<int>(std::clamp<int64_t>(kPassBytes / most, 1, batch));
}

std::vector<TestPass> PassesOf(const TestEngines& engines, const TestSettings& settings, int crop, const ImageGroup& group) {
  std::vector<TestPass> passes;
  const int images = static_cast<int>(group.images.size());
  const auto add = [&](Engine* engine, int views, int height, int width) {
    for (const int rows : CutIntoPasses(views, MostRows(engine->network(), height, width, settings.batch)))
      passes.push_back({engine, {.batch = rows, .height = height, .width = width, .training = false}});
  };
  if (settings.dense())
    for (const ImageSize& size : group.scaled) add(engines.dense, images * settings.flips(), size.height, size.width);
  if (settings.crops())
    for (size_t scale = 0; scale < group.scaled.size(); ++scale) add(engines.crops, images * settings.crop_views(), crop, crop);
  return passes;
}

Tester::Tester(TestEngines engines, const TestSettings& settings, int crop, int channels, int classes,
               std::function<bool()> stopped)
    : engines_(engines), settings_(settings), crop_(crop), channels_(channels), classes_(classes), stopped_(std::move(stopped)) {
  PLATEAU_CHECK(!settings.dense() || engines.dense != nullptr, "no engine for whole images");
  PLATEAU_CHECK(!settings.crops() || engines.crops != nullptr, "no engine for crops");
}

std::span<const float> Tester::Run(const LoadedGroup& loaded) {
  const ImageGroup& group = *loaded.group;
  const size_t scales = settings_.scales.size();
  sums_.assign(group.images.size() * static_cast<size_t>(classes_), 0.0);
  const double part = (settings_.mode == EvaluationMode::kBoth ? 0.5 : 1.0) / static_cast<double>(scales);
  for (size_t scale = 0; scale < scales && settings_.dense(); ++scale)
    AddViews(*engines_.dense, loaded, DenseViews(group, scale), part / settings_.flips());
  for (size_t scale = 0; scale < scales && settings_.crops(); ++scale)
    AddViews(*engines_.crops, loaded, CropViews(group, scale), part / settings_.crop_views());
  if (stopped_()) return {};  // some views may be missing
  posteriors_.resize(sums_.size());
  for (size_t i = 0; i < sums_.size(); ++i) {
    if (!std::isfinite(sums_[i]))
      throw Failure(ErrorCode::kNumeric, fmt::format("image {} of the split: the network's scores are not finite; its weights have "
                                                     "diverged, use an older checkpoint",
                                                     group.images[i / static_cast<size_t>(classes_)]));
    posteriors_[i] = static_cast<float>(sums_[i]);
  }
  return posteriors_;
}

std::vector<Tester::View> Tester::DenseViews(const ImageGroup& group, size_t scale) const {
  const ImageSize size = group.scaled[scale];
  std::vector<View> views;
  for (size_t image = 0; image < group.images.size(); ++image)
    for (int flip = 0; flip < settings_.flips(); ++flip)
      views.push_back(
          {image, image * settings_.scales.size() + scale, {0, 0, size.width, size.height}, size.width, size.height, flip == 1});
  return views;
}

std::vector<Tester::View> Tester::CropViews(const ImageGroup& group, size_t scale) const {
  const ImageSize size = group.scaled[scale];
  std::vector<Rectangle> windows;
  if (settings_.mode == EvaluationMode::kCenter) {
    windows.push_back({0, 0, crop_, crop_});
  } else {
    const auto grid = GridCrops(size, crop_);
    windows.assign(grid.begin(), grid.end());
  }
  std::vector<View> views;
  for (size_t image = 0; image < group.images.size(); ++image)
    for (const Rectangle& window : windows)
      for (int flip = 0; flip < settings_.flips(); ++flip)
        views.push_back({image, image * settings_.scales.size() + scale, window, size.width, size.height, flip == 1});
  return views;
}

template <typename T>
void Tester::CopyView(const std::vector<T>& map, const View& view, bool mirrored, T* out) const {
  PLATEAU_CHECK(std::ssize(map) == int64_t{channels_} * view.map_width * view.map_height, "{} values of a map of {}x{}x{}",
                map.size(), channels_, view.map_height, view.map_width);
  for (int c = 0; c < channels_; ++c) {
    for (int y = 0; y < view.window.height; ++y) {
      const T* from = map.data() + (int64_t{c} * view.map_height + view.window.top + y) * view.map_width + view.window.left;
      if (mirrored)
        std::reverse_copy(from, from + view.window.width, out);
      else
        std::copy_n(from, view.window.width, out);
      out += view.window.width;
    }
  }
}

// The views as rows of a pass; valid until the next call. A device mirrors bytes itself.
LaneBatch Tester::RowsOf(const LoadedGroup& loaded, std::span<const View> views) {
  const size_t count = views.size(), values = static_cast<size_t>(channels_) * static_cast<size_t>(views[0].window.height) *
                                              static_cast<size_t>(views[0].window.width);
  labels_.assign(count, 0);
  weights_.assign(count, 1.0F);
  if (loaded.pixels.empty()) {
    images_.resize(count * values);
    for (size_t row = 0; row < count; ++row)
      CopyView(loaded.maps[views[row].map], views[row], views[row].mirrored, images_.data() + row * values);
    return {images_, labels_, weights_, {}};
  }
  pixels_.resize(count * values);
  pixel_scales_.assign(count, loaded.scale);
  for (size_t row = 0; row < count; ++row) {
    CopyView(loaded.pixels[views[row].map], views[row], false, pixels_.data() + row * values);
    pixel_scales_[row].flip = views[row].mirrored ? 1 : 0;
  }
  return {{}, labels_, weights_, {}, pixels_, pixel_scales_};
}

void Tester::AddViews(Engine& engine, const LoadedGroup& loaded, const std::vector<View>& views, double weight) {
  const int height = views[0].window.height, width = views[0].window.width;
  const auto classes = static_cast<size_t>(classes_);
  size_t next = 0;
  for (const int rows : CutIntoPasses(static_cast<int>(views.size()), MostRows(engine.network(), height, width, settings_.batch))) {
    if (stopped_()) return;
    const auto plan = engine.Compile({.batch = rows, .height = height, .width = width, .training = false});
    if (!plan && stopped_()) return;  // which also ends the choice of algorithms
    if (!plan) throw Failure(plan.error().code, plan.error().message + " (--batch bounds the rows of a pass)");
    const auto count = static_cast<size_t>(rows);
    (*plan)->Forward(RowsOf(loaded, std::span(views).subspan(next, count)), 0);
    const std::span<const float> scores = (*plan)->logits();
    for (size_t row = 0; row < count; ++row)
      AddSoftmax(scores.subspan(row * classes, classes), weight,
                 std::span(sums_).subspan(views[next + row].image * classes, classes));
    next += count;
  }
}

}  // namespace plateau
