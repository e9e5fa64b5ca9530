// Which units dropout keeps: a pure function of seed, step, sample, layer and unit, whatever the batch, rank and threads.
#pragma once

#include <cstdint>
#include <span>

namespace plateau {

// Identifies one sample's mask at one layer.
struct DropoutKey {
  uint64_t seed = 0, step = 0;
  uint64_t sample = 0;  // source ordinal
  int layer = 0;        // index in Network::layers, below 1024
};

// A unit is dropped when its word is below this: rate * 2^32.
uint32_t DropoutThreshold(double rate);
// The definition: word of unit `unit` (canonical C,H,W order, below 2^24): RandomStream(seed, kDropout, step, sample), block
// layer * 2^22 + unit / 4, word unit % 4.
uint32_t DropoutWord(const DropoutKey& key, uint32_t unit);
// Multiplies kept units by 1 / (1 - rate) and zeroes the others: `units` is one sample's row. Same masks as DropoutWord.
void ApplyDropout(const DropoutKey& key, double rate, std::span<float> units);

}  // namespace plateau
