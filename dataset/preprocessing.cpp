// Preprocessing from a job's specification and a store's moments.
#include "dataset/preprocessing.h"

namespace plateau {

Preprocessing MakePreprocessing(const JobSpec& spec, const Manifest& manifest) {
  Preprocessing out;
  out.scale_low = spec.data.train_scale_low;
  out.scale_high = spec.data.train_scale_high;
  out.crop = spec.data.crop;
  out.channels = manifest.channels;
  out.flip = spec.data.flip;
  out.colour = spec.data.colour;
  for (size_t c = 0; c < 3; ++c) {
    out.mean[c] = static_cast<float>(manifest.moments.mean[c]);
    // A channel that is the same everywhere has nothing to divide by.
    const double deviation = manifest.moments.standard_deviation[c];
    out.standard_deviation[c] = spec.data.normalize == Normalize::kMeanStd && deviation > 0 ? static_cast<float>(deviation) : 1.0F;
  }
  out.colour_eigenvalues = manifest.moments.covariance_eigenvalues;
  out.colour_eigenvectors = manifest.moments.covariance_eigenvectors;
  return out;
}

Preprocessing MakeEvaluationPreprocessing(const JobSpec& spec, const Manifest& manifest) {
  Preprocessing out = MakePreprocessing(spec, manifest);
  out.scale_low = out.scale_high = spec.validation.scale;
  out.flip = out.colour = false;
  return out;
}

}  // namespace plateau
