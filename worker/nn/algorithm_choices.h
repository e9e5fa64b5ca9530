// Which algorithm runs which layer's pass: chosen once, used by all ranks alike and by every resume.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "common/error.h"

namespace plateau {

// A choice on record that cannot be built.
struct RefusedChoice {
  std::string key, plan, text;
  Error why;  // kUnavailable: this plan has too little workspace for it, another may have enough
};

// Training thread only. A key names layer, pass, shape (without the batch, which may differ by a row between ranks), precision,
// device kind and library version: "conv3_1 forward 256x56x56 k256 3x3 s1 p1 bf16, NVIDIA H200, cuDNN 9.19"; a choice is the
// engine's own text ("engine 34 k2=1 k5=3"). One choice serves all plans, and a plan that it does not fit has an exception on record:
// `plan` names what a plan may differ in from others of that key ("batch 12 within 67108864 bytes").
class AlgorithmChoices {
 public:
  virtual ~AlgorithmChoices() = default;
  // The choice on record for `key`, else what `time` finds, which is recorded. An implementation may ask another rank or a file
  // instead of calling `time`; all ranks ask for the same keys in the same order. `time` may throw Failure.
  virtual std::string Choose(const std::string& key, const std::function<std::string()>& time) = 0;
  // Asked before Choose: what is on record for this plan alone.
  virtual std::optional<std::string> Exception(const std::string& /*key*/, const std::string& /*plan*/) { return std::nullopt; }
  // What to take in place of a choice that Choose, Exception or Replace itself answered: recorded somewhere, else what `time` finds,
  // which is then recorded. Without a record nothing is kept. Throws Failure where this process may not choose.
  virtual std::string Replace(const RefusedChoice& /*refused*/, const std::function<std::string()>& time) { return time(); }
};

}  // namespace plateau
