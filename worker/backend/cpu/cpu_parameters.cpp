// Buffers and layouts of the CPU engine's parameters.
#include "worker/backend/cpu/cpu_parameters.h"

#include "common/check.h"

namespace plateau {

CpuParameterStore::CpuParameterStore(const dnnl::engine& engine, int threads, std::vector<ParameterInfo> infos,
                                     const std::vector<NativeFormat>& formats)
    : engine_(engine), threads_(threads) {
  PLATEAU_CHECK(infos.size() == formats.size(), "{} parameters, {} formats", infos.size(), formats.size());
  for (size_t i = 0; i < infos.size(); ++i) {
    const size_t bytes = formats[i].desc.get_size();
    slots_.push_back({.info = std::move(infos[i]),
                      .format = formats[i],
                      .map = CanonicalMap(formats[i].desc, formats[i].channel_block, formats[i].area),
                      .weight = HugeBuffer(bytes),
                      .momentum = HugeBuffer(bytes),
                      .gradient = HugeBuffer(bytes)});
    slots_.back().weight.Touch(threads_);
  }
}

void CpuParameterStore::ToCanonical(int parameter, std::span<const float> native, std::span<float> canonical) {
  slots_[parameter].map.ToCanonical(native, canonical, threads_);
}

void CpuParameterStore::FromCanonical(int parameter, std::span<const float> canonical, std::span<float> native) {
  slots_[parameter].map.FromCanonical(canonical, native, threads_);
}

void CpuParameterStore::RowsToCanonical(int parameter, std::span<const float> native, int64_t first_row,
                                        std::span<float> canonical) const {
  slots_[parameter].map.RowsToCanonical(native, first_row, canonical);
}

dnnl::memory CpuParameterStore::WeightMemory(int parameter) { return {desc(parameter), engine_, slots_[parameter].weight.data()}; }
dnnl::memory CpuParameterStore::GradientMemory(int parameter) {
  return {desc(parameter), engine_, slots_[parameter].gradient.data()};
}

int CpuParameterStore::AddDerived(int parameter, const dnnl::memory::desc& desc) {
  for (size_t i = 0; i < derived_.size(); ++i) {
    if (derived_[i].parameter == parameter && derived_[i].memory.get_desc() == desc) return static_cast<int>(i);
  }
  HugeBuffer buffer(desc.get_size());
  buffer.Touch(threads_);
  dnnl::memory copy(desc, engine_, buffer.data());
  dnnl::reorder reorder(WeightMemory(parameter), copy);
  derived_.push_back({.parameter = parameter, .buffer = std::move(buffer), .memory = copy, .reorder = reorder});
  return static_cast<int>(derived_.size()) - 1;
}

void CpuParameterStore::RefreshDerived(int index, dnnl::stream& stream) {
  Derived& derived = derived_[index];
  if (derived.version == version_) return;
  dnnl::memory weight = WeightMemory(derived.parameter);
  derived.reorder.execute(stream, weight, derived.memory);
  derived.version = version_;
}

void CpuParameterStore::TouchForTraining() {
  if (touched_) return;
  for (Slot& slot : slots_) {
    slot.momentum.Touch(threads_);
    slot.gradient.Touch(threads_);
  }
  touched_ = true;
}

}  // namespace plateau
