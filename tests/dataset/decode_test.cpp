// Decoding against pictures made here: every kind of JPEG and PNG, regions against whole images, damage of every sort.
#include "dataset/decode.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/test_images.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using testing::JpegKind;
using testing::MakeJpeg;
using testing::MakePicture;
using testing::MakePng;

double MeanDifference(const Image& a, const Image& b) {
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.height, b.height);
  double sum = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) sum += std::abs(a.pixels[i] - b.pixels[i]);
  return sum / static_cast<double>(a.pixels.size());
}

std::string Patched(std::string bytes, size_t at, std::initializer_list<uint8_t> with) {
  std::copy(with.begin(), with.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
  return bytes;
}

// Offset of marker FF `code` (a segment's start, walked segment by segment).
size_t FindMarker(const std::string& jpeg, uint8_t code) {
  size_t at = 2;
  while (static_cast<uint8_t>(jpeg[at + 1]) != code)
    at += 2 + static_cast<uint8_t>(jpeg[at + 2]) * size_t{256} + static_cast<uint8_t>(jpeg[at + 3]);
  return at;
}

TEST(ProbeImage, ReadsSizeAndComponentsOfBothFormats) {
  const Image picture = MakePicture(83, 61);
  const auto jpeg = ProbeImage(MakeJpeg(picture, {.progressive = true}));
  ASSERT_TRUE(jpeg) << jpeg.error().message;
  EXPECT_EQ(jpeg->encoding, Encoding::kJpeg);
  EXPECT_EQ(jpeg->width, 83);
  EXPECT_EQ(jpeg->height, 61);
  EXPECT_EQ(jpeg->components, 3);
  const std::vector<uint8_t> gray(83 * 61, 7), ink(83 * 61 * 4, 7);
  EXPECT_EQ(ProbeImage(MakeJpeg(gray, 83, 61, {.stored = JCS_GRAYSCALE}))->components, 1);
  EXPECT_EQ(ProbeImage(MakeJpeg(ink, 83, 61, {.stored = JCS_CMYK}))->components, 4);
  const auto png = ProbeImage(MakePng(picture));
  ASSERT_TRUE(png) << png.error().message;
  EXPECT_EQ(png->encoding, Encoding::kPng);
  EXPECT_EQ(png->width, 83);
  EXPECT_EQ(png->height, 61);
  EXPECT_EQ(png->components, 3);
}

TEST(ProbeImage, SaysWhatAForeignFileIs) {
  EXPECT_EQ(ProbeImage("").error().message, "empty file");
  EXPECT_EQ(ProbeImage("GIF89a....").error().message, "not a JPEG or PNG (starts with 47 49 46 38: a GIF)");
  EXPECT_THAT(ProbeImage("<!DOCTYPE html>").error().message, HasSubstr("HTML"));
  EXPECT_THAT(ProbeImage("\x01").error().message, HasSubstr("starts with 01)"));
  EXPECT_THAT(ProbeImage("\xFF\xD8\xFF").error().message, HasSubstr("no frame header"));
  EXPECT_EQ(ProbeImage("GIF8").error().code, ErrorCode::kInvalidInput);
}

TEST(DecodeFull, JpegComesOutAsItWentIn) {
  const Image picture = MakePicture(97, 65);
  for (const bool progressive : {false, true}) {
    Decoder decoder;
    Image out;
    ASSERT_TRUE(decoder.DecodeFull(MakeJpeg(picture, {.progressive = progressive, .quality = 98}), out));
    EXPECT_LT(MeanDifference(picture, out), 2.0);
  }
  const auto encoded = EncodeJpeg(picture, 98);
  ASSERT_TRUE(encoded);
  Decoder decoder;
  Image out;
  ASSERT_TRUE(decoder.DecodeFull(*encoded, out));
  EXPECT_LT(MeanDifference(picture, out), 2.0);
}

TEST(DecodeFull, GrayIsExpanded) {
  std::vector<uint8_t> gray(40 * 30);
  for (size_t i = 0; i < gray.size(); ++i) gray[i] = static_cast<uint8_t>(5 * (i % 40));
  Decoder decoder;
  Image out;
  ASSERT_TRUE(decoder.DecodeFull(MakeJpeg(gray, 40, 30, {.quality = 100, .stored = JCS_GRAYSCALE}), out));
  ASSERT_EQ(out.pixels.size(), gray.size() * 3);
  for (size_t i = 0; i < gray.size(); ++i)
    for (size_t c = 0; c < 3; ++c) ASSERT_NEAR(out.pixels[3 * i + c], gray[i], 3);
  ASSERT_TRUE(decoder.DecodeFull(MakePng(gray, 40, 30, PNG_COLOR_TYPE_GRAY), out));
  for (size_t i = 0; i < gray.size(); ++i)
    for (size_t c = 0; c < 3; ++c) ASSERT_EQ(out.pixels[3 * i + c], gray[i]);
}

// R = (255 - C)(255 - K) / 255; files with Adobe's marker hold 255 - ink.
TEST(DecodeFull, InkBecomesLightInvertedOrNot) {
  constexpr int kSide = 16;
  const std::array<uint8_t, 4> ink{200, 100, 20, 60};
  for (const bool adobe : {false, true})
    for (const auto space : {JCS_CMYK, JCS_YCCK}) {
      std::vector<uint8_t> stored;
      for (int i = 0; i < kSide * kSide; ++i)
        for (const uint8_t amount : ink) stored.push_back(adobe ? static_cast<uint8_t>(255 - amount) : amount);
      if (space == JCS_YCCK && !adobe) continue;  // only Adobe's marker says that a file is YCCK
      Decoder decoder;
      Image out;
      ASSERT_TRUE(
          decoder.DecodeFull(MakeJpeg(stored, kSide, kSide, {.quality = 100, .stored = space, .adobe_marker = adobe}), out));
      for (size_t c = 0; c < 3; ++c) EXPECT_NEAR(out.pixels[c], (255 - ink[c]) * (255 - ink[3]) / 255.0, 4) << adobe << space;
    }
}

TEST(DecodeFull, PngOfEveryColourType) {
  const Image picture = MakePicture(33, 21);
  const size_t count = 33 * 21;
  Decoder decoder;
  Image out;
  for (const bool interlaced : {false, true}) {
    ASSERT_TRUE(decoder.DecodeFull(MakePng(picture.pixels, 33, 21, PNG_COLOR_TYPE_RGB, 8, interlaced), out));
    EXPECT_EQ(out.pixels, picture.pixels);
  }
  std::vector<uint8_t> wide, with_alpha, index;
  for (size_t i = 0; i < 3 * count; ++i) {  // 16 bits: v * 257 is v exactly; +100 still rounds to v
    const int value = picture.pixels[i] * 257 + (picture.pixels[i] < 255 ? 100 : 0);
    wide.push_back(static_cast<uint8_t>(value >> 8));
    wide.push_back(static_cast<uint8_t>(value));
  }
  ASSERT_TRUE(decoder.DecodeFull(MakePng(wide, 33, 21, PNG_COLOR_TYPE_RGB, 16), out));
  EXPECT_EQ(out.pixels, picture.pixels);
  for (size_t i = 0; i < count; ++i) {
    for (size_t c = 0; c < 3; ++c) with_alpha.push_back(picture.pixels[3 * i + c]);
    with_alpha.push_back(static_cast<uint8_t>(i % 256));
    index.push_back(static_cast<uint8_t>(i % 256));
  }
  ASSERT_TRUE(decoder.DecodeFull(MakePng(with_alpha, 33, 21, PNG_COLOR_TYPE_RGB_ALPHA), out));
  for (size_t i = 0; i < 3 * count; ++i)
    ASSERT_NEAR(out.pixels[i], picture.pixels[i] * static_cast<double>(i / 3 % 256) / 255, 0.51);
  ASSERT_TRUE(decoder.DecodeFull(MakePng(index, 33, 21, PNG_COLOR_TYPE_PALETTE), out));
  for (size_t i = 0; i < count; ++i) {
    ASSERT_EQ(out.pixels[3 * i], index[i]);
    ASSERT_EQ(out.pixels[3 * i + 1], 255 - index[i]);
    ASSERT_EQ(out.pixels[3 * i + 2], index[i] / 2);
  }
}

struct RegionCase {
  std::string name;
  JpegKind kind;
};

class DecodeRegion : public ::testing::TestWithParam<RegionCase> {};

// Any region at any scale has exactly the pixels of the whole image at that scale.
TEST_P(DecodeRegion, HasThePixelsOfTheWholeImage) {
  constexpr int kWidth = 211, kHeight = 157;
  const JpegKind kind = GetParam().kind;
  std::vector<uint8_t> pixels = MakePicture(kWidth, kHeight, 3).pixels;
  if (kind.stored == JCS_GRAYSCALE) pixels.resize(kWidth * kHeight);
  if (kind.stored == JCS_CMYK) pixels.resize(kWidth * kHeight * 4, 90);
  const std::string jpeg = MakeJpeg(pixels, kWidth, kHeight, kind);
  Decoder decoder;
  RandomStream random(1, RandomPurpose::kSynthetic, 0, 0);
  for (const int denominator : {1, 2, 4, 8}) {
    Image whole, part;
    Rectangle covered;
    ASSERT_TRUE(decoder.DecodeRegion(jpeg, {0, 0, kWidth, kHeight}, denominator, whole, covered));
    EXPECT_EQ(covered.width, kWidth);
    EXPECT_EQ(whole.width, (kWidth + denominator - 1) / denominator);
    for (int trial = 0; trial < 60; ++trial) {
      Rectangle region;
      region.left = static_cast<int>(random.NextBelow(kWidth));
      region.top = static_cast<int>(random.NextBelow(kHeight));
      region.width = 1 + static_cast<int>(random.NextBelow(static_cast<uint32_t>(kWidth - region.left)));
      region.height = 1 + static_cast<int>(random.NextBelow(static_cast<uint32_t>(kHeight - region.top)));
      const auto used = decoder.DecodeRegion(jpeg, region, denominator, part, covered);
      ASSERT_TRUE(used) << used.error().message;
      ASSERT_EQ(*used, denominator);
      ASSERT_LE(covered.left, region.left);
      ASSERT_LE(covered.top, region.top);
      ASSERT_GE(covered.left + covered.width, region.left + region.width);
      ASSERT_GE(covered.top + covered.height, region.top + region.height);
      ASSERT_EQ(covered.left % denominator, 0);
      const int left = region.left / denominator, right = (region.left + region.width + denominator - 1) / denominator;
      const int offset_x = covered.left / denominator, offset_y = covered.top / denominator;
      for (int y = region.top / denominator; y < (region.top + region.height + denominator - 1) / denominator; ++y) {
        const auto* expected = &whole.pixels[size_t{3} * (y * whole.width + left)];
        const auto* got = &part.pixels[size_t{3} * ((y - offset_y) * part.width + left - offset_x)];
        ASSERT_TRUE(std::equal(expected, expected + 3 * (right - left), got))
            << "row " << y << " region " << region.left << "," << region.top << " " << region.width << "x" << region.height << " 1/"
            << denominator;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DecodeRegion,
                         ::testing::Values(RegionCase{"Yuv444", {}}, RegionCase{"Yuv420", {.luma_h = 2, .luma_v = 2}},
                                           RegionCase{"Yuv422", {.luma_h = 2}}, RegionCase{"Yuv440", {.luma_v = 2}},
                                           RegionCase{"Yuv411", {.luma_h = 4}},
                                           RegionCase{"Progressive420", {.luma_h = 2, .luma_v = 2, .progressive = true}},
                                           RegionCase{"Restarts420", {.luma_h = 2, .luma_v = 2, .restart_rows = 1}},
                                           RegionCase{"Gray", {.stored = JCS_GRAYSCALE}}, RegionCase{"Rgb", {.stored = JCS_RGB}},
                                           RegionCase{"Cmyk", {.stored = JCS_CMYK}}),
                         [](const auto& info) { return info.param.name; });

TEST(DecodeRegionOfPng, ComesWholeAndUnscaled) {
  const Image picture = MakePicture(50, 40);
  Decoder decoder;
  Image out;
  Rectangle covered;
  const auto used = decoder.DecodeRegion(MakePng(picture), {10, 10, 5, 5}, 4, out, covered);
  ASSERT_TRUE(used);
  EXPECT_EQ(*used, 1);
  EXPECT_EQ(covered.width, 50);
  EXPECT_EQ(out.pixels, picture.pixels);
}

TEST(DecodeRegionOutside, IsAnErrorAndNotACrash) {
  Decoder decoder;
  Image out;
  Rectangle covered;
  EXPECT_FALSE(decoder.DecodeRegion(MakeJpeg(MakePicture(20, 20)), {30, 0, 5, 5}, 1, out, covered));
}

TEST(Damage, ATruncatedJpegSaysSoAndTheDecoderGoesOn) {
  const Image picture = MakePicture(200, 150);
  const std::string jpeg = MakeJpeg(picture);
  Decoder decoder;
  Image out;
  const auto status = decoder.DecodeFull(std::string_view(jpeg).substr(0, jpeg.size() / 2), out);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(status.error().message, HasSubstr("Premature end of JPEG file"));
  EXPECT_THAT(status.error().message, HasSubstr(fmt::format("of {})", jpeg.size() / 2)));
  EXPECT_FALSE(decoder.DecodeFull(std::string_view(jpeg).substr(0, jpeg.size() - 2), out)) << "no end marker";
  ASSERT_TRUE(decoder.DecodeFull(jpeg, out)) << "the decoder is as good as new after an error";
  EXPECT_LT(MeanDifference(picture, out), 4.0);
}

TEST(Damage, StrayBytesBetweenMarkersAreLetPassButLostSyncIsNot) {
  const Image picture = MakePicture(64, 64);
  std::string jpeg = MakeJpeg(picture);
  Decoder decoder;
  Image out;
  EXPECT_TRUE(decoder.DecodeFull(jpeg.substr(0, jpeg.size() - 2) + "abc" + "\xFF\xD9", out));
  std::string with_restarts = MakeJpeg(picture, {.restart_rows = 1});
  const size_t restart = with_restarts.find("\xFF\xD1");
  ASSERT_NE(restart, std::string::npos);
  EXPECT_FALSE(decoder.DecodeFull(with_restarts.erase(restart, 2), out));
}

TEST(Damage, HugeClaimsAreRefusedBeforeMemoryIsTaken) {
  const std::string jpeg = MakeJpeg(MakePicture(16, 16));
  const size_t frame = FindMarker(jpeg, 0xC0);
  Decoder decoder;
  Image out;
  const auto huge = decoder.DecodeFull(Patched(jpeg, frame + 5, {0xFF, 0, 0xFF, 0}), out);
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::kInvalidInput);
  EXPECT_THAT(huge.error().message, HasSubstr("65280 x 65280"));
  const std::string png = MakePng(MakePicture(16, 16));
  const auto wide = decoder.DecodeFull(Patched(png, 16, {0, 1, 0, 0, 0, 1, 0, 0}), out);
  ASSERT_FALSE(wide);
  EXPECT_THAT(wide.error().message, HasSubstr("65536 x 65536"));
  EXPECT_EQ(out.pixels.capacity(), 0u);
}

// Cut anywhere, flipped anywhere: an error or an image of the stated size, never a crash (the debug preset runs this under ASan).
TEST(Damage, CutsAndFlipsNeverCrash) {
  const Image picture = MakePicture(70, 50);
  const std::vector<uint8_t> ink(70 * 50 * 4, 120);
  const std::vector<std::string> originals = {
      MakeJpeg(picture),
      MakeJpeg(picture, {.luma_h = 2, .luma_v = 2, .progressive = true}),
      MakeJpeg(picture, {.luma_h = 2, .restart_rows = 1}),
      MakeJpeg(ink, 70, 50, {.stored = JCS_YCCK, .adobe_marker = true}),
      MakePng(picture),
      MakePng(picture.pixels, 70, 50, PNG_COLOR_TYPE_RGB, 8, true),
  };
  Decoder decoder;
  Image out;
  Rectangle covered;
  RandomStream random(2, RandomPurpose::kSynthetic, 0, 0);
  int refused = 0;
  const auto attempt = [&](std::string_view bytes) {
    if (const auto info = ProbeImage(bytes); info && int64_t{info->width} * info->height > 4'000'000) return;  // big, and allowed
    if (decoder.DecodeFull(bytes, out)) {
      ASSERT_EQ(out.pixels.size(), size_t{3} * out.width * out.height);
    } else {
      ++refused;
    }
    if (decoder.DecodeRegion(bytes, {20, 10, 30, 30}, 2, out, covered)) {
      ASSERT_EQ(out.pixels.size(), size_t{3} * out.width * out.height);
    }
  };
  for (const std::string& original : originals) {
    for (size_t size = 0; size < original.size(); size += 1 + original.size() / 150)
      attempt(std::string_view(original).substr(0, size));
    for (int trial = 0; trial < 400; ++trial) {
      std::string bytes = original;
      for (uint32_t flips = 1 + random.NextBelow(3); flips > 0; --flips) {
        // Half of the flips fall into the headers, where they do most.
        const size_t span = trial % 2 == 0 ? std::min<size_t>(bytes.size(), 700) : bytes.size();
        bytes[random.NextBelow(static_cast<uint32_t>(span))] ^= static_cast<char>(1 + random.NextBelow(255));
      }
      attempt(bytes);
    }
    ASSERT_TRUE(decoder.DecodeFull(original, out));
    ASSERT_EQ(out.width, 70);
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace plateau
