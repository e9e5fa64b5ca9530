// Resizing against Pillow's own output, against a naive sum in double, and variant against variant.
#include "dataset/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "common/pixel_scale.h"
#include "common/random.h"
#include "tests/support/test_images.h"

namespace plateau {
namespace {

using testing::MakePicture;

Image Formula(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) image.pixels.push_back(static_cast<uint8_t>(x * 37 + y * 91 + c * 53 + x * y * 7));
  return image;
}

// What this processor can run: the plain loops always, AVX2 where it is.
std::vector<ResizeKernels> Variants() {
  std::vector<ResizeKernels> variants{BaselineKernels()};
  if (const ResizeKernels* avx2 = Avx2Kernels()) variants.push_back(*avx2);
  return variants;
}

// Image.fromarray(formula).resize((w, h), Image.BILINEAR) of Pillow 9.4.
TEST(Resize, IsPillowsBitForBit) {
  const std::vector<uint8_t> smaller{106, 131, 143, 120, 135, 146, 126, 124, 134, 115, 130, 137, 119, 144, 118,
                                     123, 134, 130, 140, 141, 132, 141, 128, 126, 127, 129, 127, 135, 144, 144,
                                     115, 147, 122, 128, 130, 113, 144, 134, 127, 124, 132, 109, 138, 106, 128,
                                     131, 105, 146, 132, 117, 138, 122, 121, 128, 128, 124, 132, 129, 100, 153};
  const std::vector<uint8_t> larger{0,   53,  106, 13,  66,  119, 34,  87,  140, 56,  109, 162, 77,  130, 183, 98,  151, 204,
                                    111, 164, 217, 36,  89,  142, 51,  104, 157, 73,  126, 179, 96,  149, 151, 119, 165, 123,
                                    142, 129, 145, 156, 106, 159, 91,  144, 197, 107, 160, 213, 132, 185, 238, 157, 210, 135,
                                    182, 217, 32,  207, 96,  57,  223, 20,  73,  146, 199, 98,  163, 161, 115, 190, 101, 143,
                                    141, 118, 119, 92,  138, 96,  119, 107, 123, 137, 87,  140, 182, 235, 32,  200, 162, 50,
                                    229, 45,  79,  131, 56,  109, 32,  85,  138, 61,  114, 167, 79,  132, 185};
  for (const ResizeKernels& kernels : Variants()) {
    Resizer resizer(kernels);
    Image out;
    resizer.ToImage(Formula(13, 9), 5, 4, out);
    EXPECT_EQ(out.pixels, smaller);
    resizer.ToImage(Formula(4, 3), 7, 5, out);
    EXPECT_EQ(out.pixels, larger);
  }
}

TEST(Resize, ToTheSameSizeChangesNothing) {
  const Image picture = MakePicture(64, 48);
  Resizer resizer;
  Image out;
  resizer.ToImage(picture, 64, 48, out);
  EXPECT_EQ(out.pixels, picture.pixels);
}

// The definition: a triangle of half width max(1, scale) around the pixel's centre, normalised; no rounding on the way.
double NaiveAt(const Image& image, double scale_x, double scale_y, int x, int y, int channel) {
  const auto weight = [](int input, double centre, double support) {
    return std::max(0.0, 1.0 - std::abs(input + 0.5 - centre) / support);
  };
  const double centre_x = (x + 0.5) * scale_x, centre_y = (y + 0.5) * scale_y;
  const double support_x = std::max(1.0, scale_x), support_y = std::max(1.0, scale_y);
  double sum = 0, weights = 0;
  for (int row = 0; row < image.height; ++row)
    for (int column = 0; column < image.width; ++column) {
      const double w = weight(row, centre_y, support_y) * weight(column, centre_x, support_x);
      sum += w * image.pixels[3 * (static_cast<size_t>(row) * static_cast<size_t>(image.width) + static_cast<size_t>(column)) +
                              static_cast<size_t>(channel)];
      weights += w;
    }
  return sum / weights;
}

// Two roundings to bytes: at most one level from the exact value (half a level each).
TEST(Resize, StaysWithinTwoRoundingsOfTheNaiveSum) {
  const Image picture = MakePicture(61, 47, 5);
  Resizer resizer;
  Image out;
  for (const auto& [width, height] : {std::pair{31, 24}, {17, 40}, {90, 70}, {61, 20}, {1, 1}}) {
    resizer.ToImage(picture, width, height, out);
    double worst = 0;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < 3; ++c) {
          const double exact = NaiveAt(picture, 61.0 / width, 47.0 / height, x, y, c);
          worst = std::max(worst, std::abs(exact - out.pixels[static_cast<size_t>(3 * (y * width + x) + c)]));
        }
    EXPECT_LE(worst, 1.0001) << width << "x" << height;
    EXPECT_GT(worst, 0.3) << "the roundings are there to be seen";
  }
}

TEST(Resize, ACropIsThatPartOfTheWholeMirroredOrNot) {
  const Image picture = MakePicture(100, 80, 2);
  Resizer resizer;
  Image whole;
  resizer.ToImage(picture, 64, 51, whole);
  constexpr int kCrop = 37, kLeft = 11, kTop = 9;
  AxisFilter columns, rows;
  rows.Make(80, 80, 51, kTop, kCrop, false);
  std::vector<float> out(3 * kCrop * kCrop);
  for (const bool mirrored : {false, true}) {
    columns.Make(100, 100, 64, kLeft, kCrop, mirrored);
    resizer.ToPlanar(picture, 0, 0, columns, rows, 3, {1, 2, 0.5F}, {0, -3, 7}, out.data());
    for (int c = 0; c < 3; ++c)
      for (int y = 0; y < kCrop; ++y)
        for (int x = 0; x < kCrop; ++x) {
          const int from = kLeft + (mirrored ? kCrop - 1 - x : x);
          const float value = whole.pixels[static_cast<size_t>(3 * ((kTop + y) * 64 + from) + c)];
          const float expected = c == 0 ? value : c == 1 ? value * 2 - 3 : value * 0.5F + 7;
          ASSERT_EQ(out[static_cast<size_t>((c * kCrop + y) * kCrop + x)], expected);
        }
  }
}

// Each variant against the whole image of the plain one, scaled and shifted value by value.
TEST(Resize, EveryProcessorVariantGivesTheBitsOfPlainArithmetic) {
  const std::array<float, 3> gain{0.017F, 0.018F, 0.019F}, offset{-2.1F, 0.3F, 1.7F};
  constexpr int kLeft = 3, kTop = 7;
  for (const int side : {5, 31, 56, 224}) {
    const Image picture = MakePicture(301, 277, static_cast<uint32_t>(side));
    Image whole;
    Resizer(BaselineKernels()).ToImage(picture, 260, 239, whole);
    AxisFilter columns, rows;
    columns.Make(301, 301, 260, kLeft, side, true);
    rows.Make(277, 277, 239, kTop, side, false);
    std::vector<float> right;
    for (size_t c = 0; c < 3; ++c)
      for (int y = 0; y < side; ++y)
        for (int x = side - 1; x >= 0; --x) {
          const size_t pixel = static_cast<size_t>(kTop + y) * 260 + static_cast<size_t>(kLeft + x);
          const volatile float product = static_cast<float>(whole.pixels[3 * pixel + c]) * gain[c];  // never fused with the sum
          right.push_back(product + offset[c]);
        }
    for (const ResizeKernels& kernels : Variants()) {
      Resizer resizer(kernels);
      std::vector<float> out(right.size(), -1);
      resizer.ToPlanar(picture, 0, 0, columns, rows, 3, gain, offset, out.data());
      EXPECT_EQ(std::memcmp(out.data(), right.data(), right.size() * sizeof(float)), 0) << side;
    }
  }
}

// Bytes are what floats are made of, in the same order of operations; a mirrored filter gives the bytes of mirroring. Sizes around
// the variants' sixteen outputs at a time, from shrinking (many taps) to enlarging.
TEST(Resize, BytesAreTheFloatsBeforeGainAndOffsetAndMirroringIsFlipping) {
  const PixelScale scale{.gain = {0.017F, 0.018F, 0.019F}, .offset = {-2.1F, 0.3F, 1.7F}, .flip = 1};
  for (const int side : {1, 15, 16, 17, 56, 224}) {
    const Image picture = MakePicture(301, 277, static_cast<uint32_t>(side));
    for (const int target : {std::max(side, 31), 260, 420}) {
      AxisFilter columns, mirrored, rows;
      columns.Make(301, 301, target, target - side, side, false);
      mirrored.Make(301, 301, target, target - side, side, true);
      rows.Make(277, 277, target, (target - side) / 2, side, false);
      const auto values = static_cast<size_t>(side * side);
      for (const int channels : {1, 3}) {
        const size_t all = static_cast<size_t>(channels) * values;
        std::vector<uint8_t> plain(all);
        Resizer(BaselineKernels()).ToBytes(picture, 0, 0, columns, rows, channels, plain.data());
        for (const ResizeKernels& kernels : Variants()) {
          Resizer resizer(kernels);
          std::vector<uint8_t> bytes(all + 1, 77), flipped(all);
          resizer.ToBytes(picture, 0, 0, columns, rows, channels, bytes.data());
          EXPECT_EQ(bytes[all], 77) << "nothing is written behind the end";
          bytes.pop_back();
          EXPECT_EQ(bytes, plain) << side << " of " << target;
          std::vector<float> floats(all), from_bytes(all);
          resizer.ToPlanar(picture, 0, 0, mirrored, rows, channels, std::to_array(scale.gain), std::to_array(scale.offset),
                           floats.data());
          ToValues(bytes, scale, side, from_bytes);
          EXPECT_EQ(std::memcmp(floats.data(), from_bytes.data(), all * sizeof(float)), 0) << side << " of " << target;
          resizer.ToBytes(picture, 0, 0, mirrored, rows, channels, flipped.data());
          for (auto row = bytes.begin(); row != bytes.end(); row += side) std::reverse(row, row + side);
          EXPECT_EQ(flipped, bytes) << side << " of " << target;
        }
      }
    }
  }
}

// The last row's last pixel is read four bytes at a time: the image must not need a byte behind it (ASan watches).
TEST(Resize, ReadsNothingBehindTheImage) {
  for (int side = 1; side < 9; ++side) {
    const Image picture = MakePicture(side, side);
    Image exact{side, side, std::vector<uint8_t>(picture.pixels.begin(), picture.pixels.end())};
    Resizer resizer;
    Image out;
    resizer.ToImage(exact, side + 1, side + 1, out);
    EXPECT_EQ(out.pixels.size(), static_cast<size_t>(3 * (side + 1) * (side + 1)));
  }
}

TEST(ScaledSize, ShortestSideExactOtherTruncated) {
  EXPECT_EQ(ScaledSize(500, 375, 256).width, 341);  // 341.33
  EXPECT_EQ(ScaledSize(500, 375, 256).height, 256);
  EXPECT_EQ(ScaledSize(375, 500, 256).height, 341);
  EXPECT_EQ(ScaledSize(333, 500, 256).height, 384);  // 384.38
  EXPECT_EQ(ScaledSize(500, 334, 256).width, 383);   // 383.23
  EXPECT_EQ(ScaledSize(64, 64, 64).width, 64);
  EXPECT_EQ(ScaledSize(65500, 1, 512).width, 65500 * 512);
}

}  // namespace
}  // namespace plateau
