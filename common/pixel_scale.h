// What the loader leaves to a device: how the bytes of an image become the network's input.
#pragma once

#include <cstdint>
#include <span>

namespace plateau {

// Images of more channels come as floats.
inline constexpr int kMostPixelChannels = 3;

// value = byte * gain[c] + offset[c], colour shift included, and then mirrored left to right or not. Trivial, so that a device reads it
// as it is.
struct PixelScale {
  float gain[kMostPixelChannels] = {1, 1, 1}, offset[kMostPixelChannels] = {0, 0, 0};
  uint32_t flip = 0;
};

// The values of one image on the host, bit for bit what a device makes of it: multiplied and added apart (not fused), as the resizer does
// where floats are wanted. pixels and values: [channels, side, side], 1 to kMostPixelChannels channels.
void ToValues(std::span<const uint8_t> pixels, const PixelScale& scale, int side, std::span<float> values);

}  // namespace plateau
