// Bytes to the values that they stand for.
#include "common/pixel_scale.h"

#include <algorithm>

#include "common/check.h"

namespace plateau {

void ToValues(std::span<const uint8_t> pixels, const PixelScale& scale, int side, std::span<float> values) {
  const auto width = static_cast<size_t>(side), plane = width * width;
  PLATEAU_CHECK(pixels.size() == values.size() && pixels.size() % plane == 0 && pixels.size() <= kMostPixelChannels * plane,
                "{} bytes to {} values of planes of {}", pixels.size(), values.size(), plane);
  for (size_t i = 0; i < pixels.size(); ++i)
    values[i] = static_cast<float>(pixels[i]) * scale.gain[i / plane] + scale.offset[i / plane];
  if (scale.flip == 0) return;
  for (size_t row = 0; row < values.size(); row += width) std::ranges::reverse(values.subspan(row, width));
}

}  // namespace plateau
