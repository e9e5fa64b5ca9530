// Parameters in plain memory, in canonical layout.
#include "worker/nn/canonical_parameters.h"

#include <algorithm>

#include "common/check.h"

namespace plateau {

CanonicalParameters::CanonicalParameters(std::vector<ParameterInfo> infos) : infos_(std::move(infos)) {
  for (const ParameterInfo& info : infos_) {
    weights_.emplace_back(static_cast<size_t>(info.CanonicalCount()));
    momenta_.emplace_back(static_cast<size_t>(info.CanonicalCount()));
  }
}

void CanonicalParameters::ToCanonical(int parameter, std::span<const float> native, std::span<float> canonical) {
  RowsToCanonical(parameter, native, 0, canonical);
}

void CanonicalParameters::FromCanonical(int parameter, std::span<const float> canonical, std::span<float> native) {
  PLATEAU_CHECK(canonical.size() == native.size(), "{}: {} values for {}", info(parameter).name, canonical.size(), native.size());
  std::copy(canonical.begin(), canonical.end(), native.begin());
}

void CanonicalParameters::RowsToCanonical(int parameter, std::span<const float> native, int64_t first_row,
                                          std::span<float> canonical) const {
  const ParameterInfo& one = info(parameter);
  const auto at = static_cast<size_t>(first_row * (one.CanonicalCount() / one.shape[0]));
  PLATEAU_CHECK(at + canonical.size() <= native.size(), "{}: rows from {} on", one.name, first_row);
  std::copy_n(native.begin() + static_cast<int64_t>(at), canonical.size(), canonical.begin());
}

}  // namespace plateau
