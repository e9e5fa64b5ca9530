// Parameters in plain memory, in canonical layout, for work that needs no engine: reading, converting and writing weights.
#pragma once

#include <vector>

#include "worker/nn/parameter.h"

namespace plateau {

// Weights and momenta begin at zero; there are no gradients (their spans are empty).
class CanonicalParameters final : public ParameterStore {
 public:
  explicit CanonicalParameters(std::vector<ParameterInfo> infos);
  int count() const override { return static_cast<int>(infos_.size()); }
  const ParameterInfo& info(int parameter) const override { return infos_[static_cast<size_t>(parameter)]; }
  std::span<float> weight(int parameter) override { return weights_[static_cast<size_t>(parameter)]; }
  std::span<float> momentum(int parameter) override { return momenta_[static_cast<size_t>(parameter)]; }
  std::span<float> gradient(int) override { return {}; }
  void ToCanonical(int parameter, std::span<const float> native, std::span<float> canonical) override;
  void FromCanonical(int parameter, std::span<const float> canonical, std::span<float> native) override;
  void RowsToCanonical(int parameter, std::span<const float> native, int64_t first_row, std::span<float> canonical) const override;
  void WeightsChanged() override {}

 private:
  std::vector<ParameterInfo> infos_;
  std::vector<std::vector<float>> weights_, momenta_;
};

}  // namespace plateau
