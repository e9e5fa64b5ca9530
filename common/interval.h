// A stretch of training: epochs, iterations or time.
#pragma once

namespace plateau {

// "every: 1ep", "500it", "30m": exactly one unit.
struct Interval {
  enum class Unit { kEpochs, kIterations, kSeconds };
  Unit unit = Unit::kEpochs;
  double amount = 1;  // iterations are whole numbers
  bool operator==(const Interval&) const = default;
};

}  // namespace plateau
