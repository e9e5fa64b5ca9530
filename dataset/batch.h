// What the loader hands to training: decoded, augmented, normalised samples of one rank.
#pragma once

#include <cstdint>
#include <vector>

#include "common/pixel_scale.h"

namespace plateau {

// `rows` samples, row-major. Owned by the pipeline that filled it and recycled through it; nothing is allocated after the first
// ones.
struct Batch {
  int64_t number = 0;  // step for training (0-based), batch number for validation
  int rows = 0;
  int side = 0;                        // crop, pixels
  std::vector<float> images;           // [rows, channels, side, side], RGB or gray, normalised; padding 0; empty when bytes are wanted
  std::vector<uint8_t> pixels;         // [rows, channels, side, side], not yet mirrored, when bytes are wanted; padding 0
  std::vector<PixelScale> scales;      // [rows], of `pixels`; padding: gain and offset 0
  std::vector<int32_t> labels;         // [rows]; padding 0
  std::vector<float> weights;          // [rows]; 1, padding 0
  std::vector<uint64_t> sample_index;  // [rows]; source ordinal in the split; padding: all ones
};

}  // namespace plateau
