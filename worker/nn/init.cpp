// Normal draws by Box-Muller over the counter-based stream: canonical element e takes word pair e / 2 of its parameter.
#include "worker/nn/init.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "common/check.h"
#include "common/random.h"

namespace plateau {
namespace {

// Two normals of one word pair.
void NormalPair(uint32_t first, uint32_t second, double sigma, float* out) {
  const double radius = sigma * std::sqrt(-2.0 * std::log((static_cast<double>(first) + 0.5) * 0x1.0p-32));
  const double angle = 2.0 * std::numbers::pi * static_cast<double>(second) * 0x1.0p-32;
  out[0] = static_cast<float>(radius * std::cos(angle));
  out[1] = static_cast<float>(radius * std::sin(angle));
}

}  // namespace

double InitSigma(const InitScheme& scheme, const ParameterInfo& info) {
  if (info.role != ParameterRole::kWeight) return 0;
  switch (scheme.kind) {
    case InitScheme::Kind::kHe: return std::sqrt(2.0 / static_cast<double>(info.fan_in));
    case InitScheme::Kind::kGlorot: return std::sqrt(2.0 / static_cast<double>(info.fan_in + info.fan_out));
    case InitScheme::Kind::kGaussian: return scheme.sigma;
  }
  return 0;
}

void InitCanonical(const InitScheme& scheme, const ParameterInfo& info, int parameter, uint64_t seed, std::span<float> canonical) {
  PLATEAU_CHECK(static_cast<int64_t>(canonical.size()) == info.CanonicalCount(), "{}: {} values", info.name, canonical.size());
  const double sigma = InitSigma(scheme, info);
  if (sigma == 0) {
    const bool one = info.role == ParameterRole::kScale || info.role == ParameterRole::kRunningVariance;
    std::fill(canonical.begin(), canonical.end(), one ? 1.0F : 0.0F);
    return;
  }
  const RandomStream stream(seed, RandomPurpose::kInit, 0, static_cast<uint64_t>(parameter));
  const int64_t blocks = (static_cast<int64_t>(canonical.size()) + 3) / 4;
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    const auto words = stream.Block(static_cast<uint32_t>(block));
    float values[4];
    NormalPair(words[0], words[1], sigma, values);
    NormalPair(words[2], words[3], sigma, values + 2);
    const size_t begin = static_cast<size_t>(block) * 4;
    std::copy_n(values, std::min<size_t>(4, canonical.size() - begin), canonical.begin() + static_cast<int64_t>(begin));
  }
}

void InitParameters(ParameterStore& store, const InitScheme& scheme, uint64_t seed) {
  std::vector<float> canonical;
  for (int parameter = 0; parameter < store.count(); ++parameter) {
    const ParameterInfo& info = store.info(parameter);
    canonical.resize(static_cast<size_t>(info.CanonicalCount()));
    InitCanonical(scheme, info, parameter, seed, canonical);
    store.FromCanonical(parameter, canonical, store.weight(parameter));
  }
  store.WeightsChanged();
}

}  // namespace plateau
