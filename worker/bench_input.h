// Made-up images and labels that benchmarks train on.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/nn/plan.h"

namespace plateau {

struct BenchInput {
  std::vector<float> images, weights;
  std::vector<int32_t> labels;
  std::vector<uint64_t> index;
  LaneBatch lane() const { return {images, labels, weights, index}; }
};

// Standard normal images [batch, channels, crop, crop], uniform labels, weights 1.
BenchInput MakeBenchInput(int batch, int channels, int crop, int classes);

double Median(std::vector<double> values);

}  // namespace plateau
