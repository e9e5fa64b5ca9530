// How stored pixels become network input: scale, crop, augmentation and normalisation; part of every checkpoint.
#pragma once

#include <array>

#include "common/job_spec.h"
#include "dataset/manifest.h"

namespace plateau {

struct Preprocessing {
  int scale_low = 256, scale_high = 256;             // shortest side S, pixels; evaluation uses scale_low
  int crop = 224;                                    // pixels, <= scale_low
  int channels = 3;                                  // 1: gray, the first of the equal channels
  bool flip = true, colour = true;                   // training only
  std::array<float, 3> mean{};                       // RGB, 0..255
  std::array<float, 3> standard_deviation{1, 1, 1};  // RGB, 0..255; 1 with normalize: mean
  // Of the RGB covariance on the [0,1] scale, for the colour shift (recipe.md, Training); as in PixelMoments.
  std::array<double, 3> colour_eigenvalues{};
  std::array<std::array<double, 3>, 3> colour_eigenvectors{};  // [channel][component]
};

// For training: data.train_scale and data.augment of the spec, moments of the manifest.
Preprocessing MakePreprocessing(const JobSpec& spec, const Manifest& manifest);
// For validation: scale validation.scale, no augmentation, normalised as in training.
Preprocessing MakeEvaluationPreprocessing(const JobSpec& spec, const Manifest& manifest);

}  // namespace plateau
