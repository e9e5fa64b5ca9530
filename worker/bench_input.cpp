// Draws the input of benchmarks.
#include "worker/bench_input.h"

#include <algorithm>

#include "common/random.h"

namespace plateau {

BenchInput MakeBenchInput(int batch, int channels, int crop, int classes) {
  BenchInput input;
  RandomStream stream(1, RandomPurpose::kSynthetic, 0, 0);
  input.images.resize(static_cast<size_t>(batch) * channels * crop * crop);
  for (float& value : input.images) value = static_cast<float>(stream.NextNormal());
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
