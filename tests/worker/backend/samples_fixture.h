// Data and engines for tests: small networks, filled parameters, samples.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "common/pixel_scale.h"
#include "common/random.h"
#include "worker/model/network.h"
#include "worker/nn/init.h"
#include "worker/nn/plan.h"

namespace plateau {

struct Samples {
  std::vector<float> images, weights;
  std::vector<int32_t> labels;
  std::vector<uint64_t> index;
  // Where there are any, `images` are the values that they stand for.
  std::vector<uint8_t> pixels;
  std::vector<PixelScale> scales;
  LaneBatch lane() const { return {images, labels, weights, index}; }
  LaneBatch pixel_lane() const {
    return {.images = {}, .labels = labels, .weights = weights, .sample_index = index, .pixels = pixels, .scales = scales};
  }
  // Rows [begin, end), as a lane of its own.
  LaneBatch rows(int begin, int end) const {
    const size_t image = images.size() / labels.size(), count = static_cast<size_t>(end - begin);
    return {std::span(images).subspan(begin * image, count * image), std::span(labels).subspan(begin, count),
            std::span(weights).subspan(begin, count), std::span(index).subspan(begin, count)};
  }
};

inline Samples MakeSamples(int batch, int crop, int classes, uint64_t seed = 7, int channels = 3) {
  Samples samples;
  RandomStream stream(seed, RandomPurpose::kSynthetic, 0, 0);
  samples.images.resize(static_cast<size_t>(batch) * static_cast<size_t>(channels * crop * crop));
  for (float& value : samples.images) value = static_cast<float>(stream.NextNormal());
  for (int n = 0; n < batch; ++n) {
    samples.labels.push_back(static_cast<int32_t>(stream.NextBelow(static_cast<uint32_t>(classes))));
    samples.weights.push_back(1);
    samples.index.push_back(1000 + 17 * static_cast<uint64_t>(n));
  }
  return samples;
}

// The same with images that come as bytes, each scaled, shifted and mirrored in its own way.
inline Samples MakePixelSamples(int batch, int crop, int classes, uint64_t seed = 7, int channels = 3) {
  Samples samples = MakeSamples(batch, crop, classes, seed, channels);
  RandomStream stream(seed, RandomPurpose::kSynthetic, 0, 1);
  samples.pixels.resize(samples.images.size());
  samples.scales.resize(static_cast<size_t>(batch));
  for (uint8_t& pixel : samples.pixels) pixel = static_cast<uint8_t>(stream.NextBelow(256));
  const size_t image = samples.images.size() / static_cast<size_t>(batch);
  for (size_t row = 0; row < samples.scales.size(); ++row) {
    PixelScale& scale = samples.scales[row];
    scale.flip = stream.NextBelow(2);
    for (float& gain : scale.gain) gain = 1 / (60 + 10 * static_cast<float>(stream.NextUniform()));
    for (float& offset : scale.offset) offset = static_cast<float>(stream.NextUniform()) - 2.5F;
    ToValues(std::span(samples.pixels).subspan(row * image, image), scale, crop, std::span(samples.images).subspan(row * image, image));
  }
  return samples;
}

inline Network MakeTestNetwork(const std::string& name, double width, int classes, double dropout) {
  return *MakeNetwork(name, {.width = width, .classes = classes, .dropout = dropout});
}

// Weights as training begins them; biases and batch norm's parameters too, so that a wrong one cannot hide behind zero or one.
inline void FillParameters(ParameterStore& store, uint64_t seed) {
  InitParameters(store, InitScheme{}, seed);
  for (int p = 0; p < store.count(); ++p) {
    const ParameterRole role = store.info(p).role;
    if (role == ParameterRole::kWeight) continue;
    const float centre = role == ParameterRole::kScale || role == ParameterRole::kRunningVariance ? 1 : 0;
    std::vector<float> values(static_cast<size_t>(store.info(p).CanonicalCount()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = centre + 0.02F * static_cast<float>(static_cast<int>(i % 7) - 3);
    store.FromCanonical(p, values, store.weight(p));
  }
  store.WeightsChanged();
}

inline std::unique_ptr<Engine> MakeEngine(const Network& network, const EngineOptions& options) {
  auto engine = CreateCpuEngine(network, options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  FillParameters((*engine)->parameters(), options.seed);
  return std::move(*engine);
}

inline std::vector<float> Canonical(ParameterStore& store, int parameter, std::span<const float> native) {
  std::vector<float> values(static_cast<size_t>(store.info(parameter).CanonicalCount()));
  store.ToCanonical(parameter, native, values);
  return values;
}

template <typename A, typename B>
double RelativeError(const A& actual, const B& expected) {
  double difference = 0, size = 0;
  EXPECT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (double{actual[i]} - expected[i]) * (double{actual[i]} - expected[i]);
    size += double{expected[i]} * expected[i];
  }
  return std::sqrt(difference / std::max(size, 1e-300));
}

}  // namespace plateau
