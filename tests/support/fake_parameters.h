// A ParameterStore of plain vectors whose native layout is the canonical one reversed and padded, so that a mix-up shows.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "worker/nn/parameter.h"

namespace plateau::test {

// Native values are the canonical ones in reverse order, followed by `padding` zeros.
class FakeParameters final : public ParameterStore {
 public:
  explicit FakeParameters(std::vector<ParameterInfo> infos, size_t padding = 3) : infos_(std::move(infos)) {
    for (const ParameterInfo& info : infos_) {
      const size_t count = static_cast<size_t>(info.CanonicalCount()) + padding;
      weights_.emplace_back(count);
      momenta_.emplace_back(count);
      gradients_.emplace_back(count);
    }
  }
  int count() const override { return static_cast<int>(infos_.size()); }
  const ParameterInfo& info(int p) const override { return infos_[static_cast<size_t>(p)]; }
  std::span<float> weight(int p) override { return weights_[static_cast<size_t>(p)]; }
  std::span<float> momentum(int p) override { return momenta_[static_cast<size_t>(p)]; }
  std::span<float> gradient(int p) override { return gradients_[static_cast<size_t>(p)]; }
  void ToCanonical(int, std::span<const float> native, std::span<float> canonical) override {
    for (size_t i = 0; i < canonical.size(); ++i) canonical[i] = native[canonical.size() - 1 - i];
  }
  void FromCanonical(int, std::span<const float> canonical, std::span<float> native) override {
    std::fill(native.begin(), native.end(), 0.0F);
    for (size_t i = 0; i < canonical.size(); ++i) native[i] = canonical[canonical.size() - 1 - i];
  }
  void RowsToCanonical(int p, std::span<const float> native, int64_t first_row, std::span<float> canonical) const override {
    const int64_t all = info(p).CanonicalCount(), row = all / info(p).shape[0];
    for (size_t i = 0; i < canonical.size(); ++i) canonical[i] = native[static_cast<size_t>(all - 1 - first_row * row) - i];
  }
  void WeightsChanged() override { ++changes; }

  int changes = 0;

 private:
  std::vector<ParameterInfo> infos_;
  std::vector<std::vector<float>> weights_, momenta_, gradients_;
};

// Weight and bias of `layers` layers; layer i's weight has (i + 1) * 100 values.
inline std::vector<ParameterInfo> ChainInfos(int layers) {
  std::vector<ParameterInfo> infos;
  for (int layer = 0; layer < layers; ++layer) {
    infos.push_back({.name = "fc" + std::to_string(layer) + ".weight", .shape = {10, (layer + 1) * 10}, .layer = layer});
    infos.push_back({.name = "fc" + std::to_string(layer) + ".bias", .shape = {10}, .layer = layer, .role = ParameterRole::kBias});
  }
  return infos;
}

}  // namespace plateau::test
