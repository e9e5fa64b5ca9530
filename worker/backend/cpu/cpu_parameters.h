// The CPU engine's weights, momentum and gradients, in the layout that oneDNN's weight gradients come in.
#pragma once

#include <memory>
#include <vector>

#include <dnnl.hpp>

#include "worker/backend/cpu/canonical_map.h"
#include "worker/backend/cpu/huge_buffer.h"
#include "worker/nn/parameter.h"

namespace plateau {

// The native layout of one parameter.
struct NativeFormat {
  dnnl::memory::desc desc;
  int channel_block = 1;  // see CanonicalMap
  int64_t area = 1;
};

class CpuParameterStore final : public ParameterStore {
 public:
  CpuParameterStore(const dnnl::engine& engine, int threads, std::vector<ParameterInfo> infos,
                    const std::vector<NativeFormat>& formats);

  int count() const override { return static_cast<int>(slots_.size()); }
  const ParameterInfo& info(int parameter) const override { return slots_[parameter].info; }
  std::span<float> weight(int parameter) override { return Values(slots_[parameter].weight, parameter); }
  std::span<float> momentum(int parameter) override { return Values(slots_[parameter].momentum, parameter); }
  std::span<float> gradient(int parameter) override { return Values(slots_[parameter].gradient, parameter); }
  void ToCanonical(int parameter, std::span<const float> native, std::span<float> canonical) override;
  void FromCanonical(int parameter, std::span<const float> canonical, std::span<float> native) override;
  void RowsToCanonical(int parameter, std::span<const float> native, int64_t first_row, std::span<float> canonical) const override;
  void WeightsChanged() override { ++version_; }

  const dnnl::memory::desc& desc(int parameter) const { return slots_[parameter].format.desc; }
  const NativeFormat& format(int parameter) const { return slots_[parameter].format; }
  dnnl::memory WeightMemory(int parameter);
  dnnl::memory GradientMemory(int parameter);
  // A copy of a weight in another layout, shared by all plans that want it; returns its number.
  int AddDerived(int parameter, const dnnl::memory::desc& desc);
  // The copy, made anew when the weights have changed since.
  dnnl::memory DerivedMemory(int derived) const { return derived_[derived].memory; }
  void RefreshDerived(int derived, dnnl::stream& stream);
  // Touches gradients and momentum too, so that the first step does not pay for their pages.
  void TouchForTraining();

 private:
  struct Slot {
    ParameterInfo info;
    NativeFormat format;
    CanonicalMap map;
    HugeBuffer weight, momentum, gradient;
  };
  struct Derived {
    int parameter = 0;
    HugeBuffer buffer;
    dnnl::memory memory;
    dnnl::reorder reorder;
    uint64_t version = 0;
  };
  std::span<float> Values(const HugeBuffer& buffer, int parameter) const {
    return {buffer.floats(), static_cast<size_t>(slots_[parameter].map.native_count())};
  }

  dnnl::engine engine_;
  int threads_;
  std::vector<Slot> slots_;
  std::vector<Derived> derived_;
  uint64_t version_ = 1;
  bool touched_ = false;
};

}  // namespace plateau
