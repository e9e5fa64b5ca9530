// Draws the input of benchmarks.
#include "worker/bench_input.h"

#include <algorithm>

#include "common/random.h"

namespace plateau {
namespace {

constexpr float kByteMean = 127.5F, kByteDeviation = 73.9F;  // of uniform bytes

void DrawPixels(RandomStream& stream, int batch, size_t values, BenchInput& input) {
  input.pixels.resize(values);
  for (uint8_t& pixel : input.pixels) pixel = static_cast<uint8_t>(stream.NextBelow(256));
  PixelScale scale;
  for (float& gain : scale.gain) gain = 1 / kByteDeviation;
  for (float& offset : scale.offset) offset = -kByteMean / kByteDeviation;
  input.scales.assign(static_cast<size_t>(batch), scale);
  for (size_t row = 0; row < input.scales.size(); ++row) input.scales[row].flip = row % 2;
}

}  // namespace

BenchInput MakeBenchInput(int batch, int channels, int crop, int classes, bool pixels) {
  BenchInput input;
  RandomStream stream(1, RandomPurpose::kSynthetic, 0, 0);
  const size_t values = static_cast<size_t>(batch) * channels * crop * crop;
  if (pixels) {
    DrawPixels(stream, batch, values, input);
  } else {
    input.images.resize(values);
    for (float& value : input.images) value = static_cast<float>(stream.NextNormal());
  }
  for (int n = 0; n < batch; ++n) {
    input.labels.push_back(static_cast<int32_t>(stream.NextBelow(static_cast<uint32_t>(classes))));
    input.weights.push_back(1);
    input.index.push_back(static_cast<uint64_t>(n));
  }
  return input;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace plateau
