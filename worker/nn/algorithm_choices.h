// Which algorithm runs which layer's pass: chosen once, used by all ranks alike and by every resume.
#pragma once

#include <functional>
#include <string>

namespace plateau {

// Training thread only. A key names layer, pass, shape (without the batch, which may differ by a row between ranks), precision,
// device kind and library version: "conv3_1 forward 256x56x56 k256 3x3 s1 p1 bf16, NVIDIA H200, cuDNN 9.19"; a choice is the
// engine's own text ("engine 34 k2=1 k5=3").
class AlgorithmChoices {
 public:
  virtual ~AlgorithmChoices() = default;
  // The choice on record for `key`, else what `time` finds, which is recorded. An implementation may ask another rank or a file
  // instead of calling `time`; all ranks ask for the same keys in the same order. `time` may throw Failure.
  virtual std::string Choose(const std::string& key, const std::function<std::string()>& time) = 0;
};

}  // namespace plateau
