// Inverted dropout from the counter-based stream.
#include "worker/nn/dropout.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/check.h"
#include "common/random.h"

namespace plateau {
namespace {

constexpr uint32_t kLayerShift = 22;

RandomStream Stream(const DropoutKey& key) { return {key.seed, RandomPurpose::kDropout, key.step, key.sample}; }
uint32_t FirstBlock(const DropoutKey& key) { return static_cast<uint32_t>(key.layer) << kLayerShift; }

}  // namespace

uint32_t DropoutThreshold(double rate) {
  PLATEAU_CHECK(rate >= 0 && rate < 1, "rate {}", rate);
  return static_cast<uint32_t>(std::llround(std::min(rate * 0x1.0p32, 0x1.0p32 - 1)));
}

uint32_t DropoutWord(const DropoutKey& key, uint32_t unit) { return Stream(key).Block(FirstBlock(key) + unit / 4)[unit % 4]; }

void ApplyDropout(const DropoutKey& key, double rate, std::span<float> units) {
  PLATEAU_CHECK(key.layer >= 0 && key.layer < 1024 && units.size() < (size_t{1} << 24), "layer {}, {} units", key.layer,
                units.size());
  const RandomStream stream = Stream(key);
  const uint32_t threshold = DropoutThreshold(rate), first = FirstBlock(key);
  const float scale = static_cast<float>(1 / (1 - rate));
  for (size_t begin = 0; begin < units.size(); begin += 4) {
    const auto words = stream.Block(first + static_cast<uint32_t>(begin / 4));
    const size_t count = std::min<size_t>(4, units.size() - begin);
    for (size_t i = 0; i < count; ++i) units[begin + i] = words[i] >= threshold ? units[begin + i] * scale : 0.0F;
  }
}

}  // namespace plateau
