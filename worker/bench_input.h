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
  std::vector<uint8_t> pixels;
  std::vector<PixelScale> scales;
  LaneBatch lane() const {
    return {.images = images, .labels = labels, .weights = weights, .sample_index = index, .pixels = pixels, .scales = scales};
  }
};

// Images [batch, channels, crop, crop] of mean 0 and deviation 1, uniform labels, weights 1. `pixels`: as training feeds devices,
// uniform bytes with their scales, every second row mirrored; else standard normal floats.
BenchInput MakeBenchInput(int batch, int channels, int crop, int classes, bool pixels = false);

double Median(std::vector<double> values);

}  // namespace plateau
