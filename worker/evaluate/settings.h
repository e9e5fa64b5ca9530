// What a test looks at: scales, modes, mirrors. What each mode computes is in worker/EVALUATE.md.
#pragma once

#include <string>
#include <vector>

#include "common/job_spec.h"

namespace plateau {

struct TestSettings {
  std::vector<int> scales;  // shortest sides, pixels, at least the network's crop
  EvaluationMode mode = EvaluationMode::kDense;
  bool flip = false;  // each view mirrored too
  int batch = 32;     // most rows of one pass

  bool dense() const { return mode == EvaluationMode::kDense || mode == EvaluationMode::kBoth; }
  bool crops() const { return mode != EvaluationMode::kDense; }
  int flips() const { return flip ? 2 : 1; }
  int crop_views() const;  // crops of one image at one scale, mirrors included; 0 in dense mode
};

// "224,256,288", each once. Errors name the scale: not a whole number from 1 to 16384, or twice.
Result<std::vector<int>> ParseScales(const std::string& text);
// kInvalidInput when a scale is smaller than the crop or the batch is not in [1, 65536].
Status CheckSettings(const TestSettings& settings, int crop);

}  // namespace plateau
