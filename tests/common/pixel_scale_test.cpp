// Bytes to values by hand.
#include "common/pixel_scale.h"

#include <vector>

#include <gtest/gtest.h>

namespace plateau {
namespace {

TEST(ToValues, MultipliesAddsAndMirrorsEachRow) {
  const std::vector<uint8_t> pixels{0, 1, 2, 255, 10, 11, 12, 13};
  std::vector<float> values(8);
  const PixelScale scale{.gain = {2, 0.5F, 9}, .offset = {-1, 100, 9}};
  ToValues(pixels, scale, 2, values);
  EXPECT_EQ(values, (std::vector<float>{-1, 1, 3, 509, 105, 105.5F, 106, 106.5F}));
  ToValues(pixels, {.gain = {2, 0.5F, 9}, .offset = {-1, 100, 9}, .flip = 1}, 2, values);
  EXPECT_EQ(values, (std::vector<float>{1, -1, 509, 3, 105.5F, 105, 106.5F, 106}));
}

}  // namespace
}  // namespace plateau
