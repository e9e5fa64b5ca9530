// Augmentation: pure draws with the recipe's distributions, crops that are exactly the pixels they should be.
#include "dataset/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/test_images.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using testing::MakeJpeg;
using testing::MakePicture;
using testing::MakePng;

Preprocessing Plain(int scale_low, int scale_high, int crop) {
  Preprocessing out;
  out.scale_low = scale_low;
  out.scale_high = scale_high;
  out.crop = crop;
  out.flip = out.colour = false;
  return out;
}

RecordView Record(const std::string& bytes, uint64_t ordinal = 0, Encoding encoding = Encoding::kJpeg) {
  RecordView record;
  record.header.source_ordinal = ordinal;
  record.header.encoding = encoding;
  record.bytes = bytes;
  return record;
}

size_t Values(const Preprocessing& preprocessing) { return static_cast<size_t>(3 * preprocessing.crop * preprocessing.crop); }

TEST(DrawAugmentation, DependsOnItsArgumentsAloneAndOnEachOfThem) {
  Preprocessing recipe = Plain(256, 512, 224);
  recipe.flip = recipe.colour = true;
  recipe.colour_eigenvalues = {0.2, 0.02, 0.005};
  recipe.colour_eigenvectors = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  const Augmentation first = DrawAugmentation(recipe, 1, 2, 3, 500, 375);
  EXPECT_EQ(first, DrawAugmentation(recipe, 1, 2, 3, 500, 375));
  EXPECT_NE(first, DrawAugmentation(recipe, 2, 2, 3, 500, 375));
  EXPECT_NE(first, DrawAugmentation(recipe, 1, 3, 3, 500, 375));
  EXPECT_NE(first, DrawAugmentation(recipe, 1, 2, 4, 500, 375));
  // Switching one kind off leaves the others as they were.
  recipe.colour = false;
  const Augmentation colourless = DrawAugmentation(recipe, 1, 2, 3, 500, 375);
  EXPECT_EQ(colourless.left, first.left);
  EXPECT_EQ(colourless.scale, first.scale);
  EXPECT_EQ(colourless.flip, first.flip);
  EXPECT_EQ(colourless.colour, (std::array<float, 3>{}));
}

TEST(DrawAugmentation, ScalesCropsAndFlipsAreUniform) {
  Preprocessing recipe = Plain(40, 43, 38);
  recipe.flip = true;
  std::map<int, int> scales, lefts, tops;
  int flips = 0;
  constexpr int kDraws = 24000;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const Augmentation drawn = DrawAugmentation(recipe, 5, 0, i, 100, 100);
    ++scales[drawn.scale];
    flips += drawn.flip;
    if (drawn.scale != 43) continue;
    ++lefts[drawn.left];
    ++tops[drawn.top];
  }
  EXPECT_NEAR(flips, kDraws / 2, 4 * std::sqrt(kDraws / 4.0));
  ASSERT_EQ(scales.size(), 4u);
  EXPECT_EQ(scales.begin()->first, 40);
  for (const auto& [scale, count] : scales) EXPECT_NEAR(count, kDraws / 4, 4 * std::sqrt(kDraws * 3 / 16.0)) << scale;
  for (const auto& counts : {lefts, tops}) {
    ASSERT_EQ(counts.size(), 6u) << "43 - 38 + 1 places";
    for (const auto& [place, count] : counts) EXPECT_NEAR(count, kDraws / 24, 5 * std::sqrt(kDraws / 24.0)) << place;
  }
}

// 255 * sum_i p_i a_i lambda_i has the covariance (255 * 0.1)^2 * P diag(lambda^2) P'.
TEST(DrawAugmentation, ColourShiftHasTheCovarianceOfTheRecipe) {
  Preprocessing recipe = Plain(64, 64, 56);
  recipe.colour = true;
  recipe.colour_eigenvalues = {0.2175, 0.0188, 0.0045};
  recipe.colour_eigenvectors = {{{-0.5675, 0.7192, 0.4009}, {-0.5808, -0.0045, -0.8140}, {-0.5836, -0.6948, 0.4203}}};
  double mean[3]{}, covariance[3][3]{};
  constexpr int kDraws = 40000;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const auto shift = DrawAugmentation(recipe, 7, 1, i, 64, 64).colour;
    for (size_t a = 0; a < 3; ++a) {
      mean[a] += shift[a] / kDraws;
      for (size_t b = 0; b < 3; ++b) covariance[a][b] += shift[a] * shift[b] / kDraws;
    }
  }
  for (size_t a = 0; a < 3; ++a) {
    EXPECT_NEAR(mean[a], 0, 0.08);
    for (size_t b = 0; b < 3; ++b) {
      double expected = 0;
      for (size_t i = 0; i < 3; ++i)
        expected +=
            recipe.colour_eigenvectors[a][i] * recipe.colour_eigenvectors[b][i] * std::pow(25.5 * recipe.colour_eigenvalues[i], 2);
      EXPECT_NEAR(covariance[a][b], expected, 0.035 * 10.4) << a << b;
    }
  }
}

TEST(TrainingDenominator, LargestThatStillHasThePixels) {
  EXPECT_EQ(TrainingDenominator(500, 375, 256), 1);
  EXPECT_EQ(TrainingDenominator(512, 700, 256), 2);
  EXPECT_EQ(TrainingDenominator(511, 700, 256), 1);
  EXPECT_EQ(TrainingDenominator(5000, 4000, 256), 8);
  EXPECT_EQ(TrainingDenominator(64, 64, 64), 1);
}

// 64 x 64 at scale 64, or any image whose shortest side is the scale: exactly the decoded pixels, moved and mirrored.
TEST(Train, WithoutRescalingTheCropIsExactlyThePixels) {
  Preprocessing recipe = Plain(64, 64, 56);
  recipe.flip = true;
  const std::string jpeg = MakeJpeg(MakePicture(80, 64), {.luma_h = 2, .luma_v = 2});
  Decoder decoder;
  Image whole;
  ASSERT_TRUE(decoder.DecodeFull(jpeg, whole));
  Augmenter augmenter(recipe);
  std::vector<float> out(Values(recipe));
  bool flipped = false, straight = false;
  for (uint64_t ordinal = 0; ordinal < 20; ++ordinal) {
    ASSERT_TRUE(augmenter.Train(Record(jpeg, ordinal), 1, 4, out.data()));
    const Augmentation drawn = DrawAugmentation(recipe, 1, 4, ordinal, 80, 64);
    (drawn.flip ? flipped : straight) = true;
    for (int c = 0; c < 3; ++c)
      for (int y = 0; y < 56; ++y)
        for (int x = 0; x < 56; ++x) {
          const int from = drawn.left + (drawn.flip ? 55 - x : x);
          ASSERT_EQ(out[static_cast<size_t>((c * 56 + y) * 56 + x)],
                    whole.pixels[static_cast<size_t>(3 * ((drawn.top + y) * 80 + from) + c)]);
        }
  }
  EXPECT_TRUE(flipped && straight);
}

// A gray ramp says where each pixel came from: half a pixel is 0.17 levels at 1/1, 0.35 at 1/2, 0.7 at 1/4, 1.4 at 1/8.
// Noise keeps the rounding to whole levels (four times on the way) from falling into step with the ramp; 0.1 of it stays.
TEST(Train, ADctScaledCropShowsTheRightPlace) {
  constexpr int kWidth = 701, kHeight = 533;  // 1/8 leaves a fraction of a pixel at the right and the bottom
  constexpr double kSlope = 0.35;
  for (const bool across : {true, false}) {
    std::vector<uint8_t> ramp;
    RandomStream noise(1, RandomPurpose::kSynthetic, 0, 0);
    for (int y = 0; y < kHeight; ++y)
      for (int x = 0; x < kWidth; ++x)
        ramp.push_back(static_cast<uint8_t>(std::lround(4 + kSlope * (across ? x : y) + 8 * (noise.NextUniform() - 0.5))));
    const std::string jpeg = MakeJpeg(ramp, kWidth, kHeight, {.quality = 100, .stored = JCS_GRAYSCALE});
    for (const int scale : {60, 100, 200, 400}) {  // denominators 8, 4, 2, 1
      const Preprocessing recipe = Plain(scale, scale, 56);
      Augmenter augmenter(recipe);
      std::vector<float> out(Values(recipe));
      for (uint64_t ordinal = 0; ordinal < 6; ++ordinal) {
        ASSERT_TRUE(augmenter.Train(Record(jpeg, ordinal), 1, 0, out.data()));
        const Augmentation drawn = DrawAugmentation(recipe, 1, 0, ordinal, kWidth, kHeight);
        const ImageSize scaled = ScaledSize(kWidth, kHeight, scale);
        double mean = 0;
        for (int y = 1; y < 55; ++y)
          for (int x = 1; x < 55; ++x) {
            const double source =
                across ? (drawn.left + x + 0.5) * kWidth / scaled.width : (drawn.top + y + 0.5) * kHeight / scaled.height;
            mean += (out[static_cast<size_t>(y * 56 + x)] - kSlope * (source - 0.5) - 4) / (54 * 54);
          }
        EXPECT_LT(std::abs(mean), 0.15) << scale;
      }
    }
  }
}

// (pixel + colour - mean) / standard deviation, in that order of meaning.
TEST(Train, ColourAndNormalisationAreApplied) {
  Preprocessing recipe = Plain(32, 32, 32);
  const std::string png = MakePng(MakePicture(32, 32));
  std::vector<float> plain(Values(recipe)), out(Values(recipe));
  ASSERT_TRUE(Augmenter(recipe).Train(Record(png, 3, Encoding::kPng), 1, 0, plain.data()));
  recipe.colour = true;
  recipe.colour_eigenvalues = {0.2, 0.1, 0.05};
  recipe.colour_eigenvectors = {{{0.6, 0.8, 0}, {-0.8, 0.6, 0}, {0, 0, 1}}};
  recipe.mean = {120, 110, 100};
  recipe.standard_deviation = {60, 50, 40};
  ASSERT_TRUE(Augmenter(recipe).Train(Record(png, 3, Encoding::kPng), 1, 0, out.data()));
  const auto shift = DrawAugmentation(recipe, 1, 0, 3, 32, 32).colour;
  EXPECT_NE(shift[0], 0);
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < 32 * 32; ++i)
      ASSERT_NEAR(out[c * 1024 + i], (plain[c * 1024 + i] + shift[c] - recipe.mean[c]) / recipe.standard_deviation[c], 1e-5);
}

// Every kind of record and every denominator, flipped or not: what a device makes of the bytes is what the CPU trains on.
TEST(Bytes, AndTheirScaleAreTheFloatsBitForBit) {
  Preprocessing recipe = Plain(40, 110, 37);
  recipe.flip = recipe.colour = true;
  recipe.colour_eigenvalues = {0.2175, 0.0188, 0.0045};
  recipe.colour_eigenvectors = {{{-0.5675, 0.7192, 0.4009}, {-0.5808, -0.0045, -0.8140}, {-0.5836, -0.6948, 0.4203}}};
  recipe.mean = {123.68F, 116.779F, 103.939F};
  recipe.standard_deviation = {58.4F, 57.1F, 57.4F};
  const std::string jpeg = MakeJpeg(MakePicture(331, 353), {.luma_h = 2, .luma_v = 2}), png = MakePng(MakePicture(61, 43));
  const std::string raw(size_t{3} * 45 * 50, 'x');
  for (const int channels : {1, 3}) {
    recipe.channels = channels;
    const auto count = static_cast<size_t>(channels * recipe.crop * recipe.crop);
    Augmenter augmenter(recipe);
    std::vector<float> floats(count), made(count);
    std::vector<uint8_t> bytes(count);
    PixelScale scale;
    const auto same = [&] {
      ToValues(bytes, scale, recipe.crop, made);
      return std::memcmp(made.data(), floats.data(), count * sizeof(float)) == 0;
    };
    int flipped = 0;
    for (uint64_t ordinal = 0; ordinal < 24; ++ordinal) {
      RecordView record = ordinal % 3 == 0   ? Record(jpeg, ordinal)
                          : ordinal % 3 == 1 ? Record(png, ordinal, Encoding::kPng)
                                             : Record(raw, ordinal, Encoding::kRaw8);
      if (ordinal % 3 == 2) record.header.width = 45, record.header.height = 50, record.header.channels = 3;
      ASSERT_TRUE(augmenter.Train(record, 1, 4, floats.data()));
      ASSERT_TRUE(augmenter.Train(record, 1, 4, bytes.data(), scale));
      EXPECT_TRUE(same()) << "training, record " << ordinal;
      flipped += static_cast<int>(scale.flip);
      ASSERT_TRUE(augmenter.Evaluate(record, floats.data()));
      ASSERT_TRUE(augmenter.Evaluate(record, bytes.data(), scale));
      EXPECT_TRUE(same()) << "evaluation, record " << ordinal;
      EXPECT_EQ(scale.flip, 0u);
    }
    EXPECT_GT(flipped, 0);
    EXPECT_LT(flipped, 24);
  }
}

TEST(CentreCrop, HalvesRoundToEvenAsTorchvision) {
  const auto at = [](int width, int height, int crop) { return CentreCrop(Plain(256, 256, crop), width, height); };
  EXPECT_EQ(at(256, 256, 224).left, 16);
  EXPECT_EQ(at(257, 256, 224).left, 16);  // round(16.5) = 16
  EXPECT_EQ(at(259, 256, 224).left, 18);  // round(17.5) = 18
  EXPECT_EQ(at(256, 341, 224).top, 58);   // round(58.5) = 58
  EXPECT_EQ(at(256, 256, 255).top, 0);    // round(0.5) = 0
}

// Only the crop's part of the file is decoded, yet the crop is that of the fully decoded and fully resized image.
TEST(Evaluate, IsTheCentreOfTheWholeImageResized) {
  const std::string jpeg = MakeJpeg(MakePicture(317, 243, 8), {.luma_h = 2, .luma_v = 2});
  const Preprocessing recipe = Plain(100, 100, 85);
  Decoder decoder;
  Image whole, resized;
  ASSERT_TRUE(decoder.DecodeFull(jpeg, whole));
  Resizer().ToImage(whole, 130, 100, resized);
  std::vector<float> out(Values(recipe));
  ASSERT_TRUE(Augmenter(recipe).Evaluate(Record(jpeg), out.data()));
  const int left = 22, top = 8;  // round(22.5), round(7.5)
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y < 85; ++y)
      for (int x = 0; x < 85; ++x)
        ASSERT_EQ(out[static_cast<size_t>((c * 85 + y) * 85 + x)],
                  resized.pixels[static_cast<size_t>(3 * ((top + y) * 130 + left + x) + c)]);
}

TEST(Evaluate, RawRecordsOfOneAndThreeChannels) {
  const Preprocessing recipe = Plain(28, 28, 28);
  for (const uint8_t channels : {uint8_t{1}, uint8_t{3}}) {
    std::string bytes(28 * 28 * channels, '\0');
    std::iota(bytes.begin(), bytes.end(), '\0');
    RecordView record = Record(bytes, 0, Encoding::kRaw8);
    record.header.width = record.header.height = 28;
    record.header.channels = channels;
    std::vector<float> out(Values(recipe));
    ASSERT_TRUE(Augmenter(recipe).Evaluate(record, out.data()));
    EXPECT_EQ(out[784 + 5], static_cast<uint8_t>(channels == 1 ? 5 : 16));
    record.header.height = 27;
    EXPECT_FALSE(Augmenter(recipe).Evaluate(record, out.data()));
  }
}

TEST(Render, ImagesSmallerThanTheScaleAreEnlargedAndThinOnesDoNotCrash) {
  const Preprocessing recipe = Plain(64, 96, 56);
  std::vector<float> out(Values(recipe));
  for (const auto& [width, height] : {std::pair{20, 30}, {1, 1}, {1, 400}, {900, 2}, {3, 3}}) {
    const std::string jpeg = MakeJpeg(MakePicture(width, height));
    Augmenter augmenter(recipe);
    for (uint64_t ordinal = 0; ordinal < 10; ++ordinal) {
      ASSERT_TRUE(augmenter.Train(Record(jpeg, ordinal), 1, 0, out.data())) << width << "x" << height;
      EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float v) { return v >= 0 && v <= 255; }));
    }
    ASSERT_TRUE(augmenter.Evaluate(Record(jpeg), out.data()));
  }
}

TEST(Render, DamageIsAnErrorThatSaysWhat) {
  const Preprocessing recipe = Plain(64, 64, 56);
  const std::string jpeg = MakeJpeg(MakePicture(100, 100));
  std::vector<float> out(Values(recipe));
  const auto status = Augmenter(recipe).Evaluate(Record(jpeg.substr(0, jpeg.size() / 3)), out.data());
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("damaged JPEG"));
}

}  // namespace
}  // namespace plateau
