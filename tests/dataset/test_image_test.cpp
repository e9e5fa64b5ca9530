// Images for testing: the same bits as validation has, crops where the recipe wants them, odd images rendered or refused.
#include "dataset/test_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "dataset/augment.h"
#include "tests/support/test_images.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using testing::MakeJpeg;
using testing::MakePicture;
using testing::MakePng;

Preprocessing Recipe(int scale, int crop) {
  Preprocessing out;
  out.scale_low = out.scale_high = scale;
  out.crop = crop;
  out.mean = {120, 110, 100};
  out.standard_deviation = {60, 61, 62};
  return out;
}

RecordView Record(const std::string& bytes, int width, int height, Encoding encoding = Encoding::kJpeg, uint8_t channels = 3) {
  RecordView record;
  record.header.encoding = encoding;
  record.header.channels = channels;
  record.header.width = static_cast<uint32_t>(width);
  record.header.height = static_cast<uint32_t>(height);
  record.bytes = bytes;
  return record;
}

std::vector<float> Rendered(TestImage& image, int scale, const Rectangle& window, int channels = 3) {
  std::vector<float> out(static_cast<size_t>(channels) * window.height * window.width);
  image.Render(scale, window, out.data());
  return out;
}

TEST(TestImage, TheMiddleCropHasTheBitsOfValidation) {
  for (const auto& [width, height] : {std::pair{70, 45}, {45, 71}, {40, 40}, {33, 90}}) {
    const std::string jpeg = MakeJpeg(MakePicture(width, height), {.luma_h = 2, .luma_v = 2});
    for (const int scale : {36, 44, 57}) {
      const Preprocessing recipe = Recipe(scale, 32);
      TestImage image(recipe);
      ASSERT_TRUE(image.Decode(Record(jpeg, width, height)));
      const auto crop = Rendered(image, scale, MiddleCrop(ScaledSize(width, height, scale), 32));
      std::vector<float> expected(crop.size());
      ASSERT_TRUE(Augmenter(recipe).Evaluate(Record(jpeg, width, height), expected.data()));
      EXPECT_EQ(crop, expected) << width << "x" << height << " at " << scale;
    }
  }
}

TEST(TestImage, BytesAreTheValuesThatTheyStandFor) {
  const Preprocessing recipe = Recipe(40, 24);
  TestImage image(recipe);
  const std::string png = MakePng(MakePicture(61, 43));
  ASSERT_TRUE(image.Decode(Record(png, 61, 43, Encoding::kPng)));
  for (const Rectangle& window : {Rectangle{0, 0, 40, 40}, Rectangle{9, 3, 32, 32}}) {
    const auto values = Rendered(image, 40, window);
    std::vector<uint8_t> bytes(values.size());
    image.Render(40, window, bytes.data());
    std::vector<float> made(values.size());
    ToValues(bytes, TestScale(recipe), window.width, made);
    EXPECT_EQ(made, values);
  }
}

TEST(TestImage, WindowsAreCutOutOfTheWholeScaledImage) {
  const std::string png = MakePng(MakePicture(61, 43));
  TestImage image(Recipe(40, 24));
  ASSERT_TRUE(image.Decode(Record(png, 61, 43, Encoding::kPng)));
  const ImageSize scaled = ScaledSize(61, 43, 40);
  const auto whole = Rendered(image, 40, {0, 0, scaled.width, scaled.height});
  for (const Rectangle& crop : GridCrops(scaled, 24)) {
    const auto part = Rendered(image, 40, crop);
    for (int c = 0; c < 3; ++c)
      for (int y = 0; y < 24; ++y)
        for (int x = 0; x < 24; ++x)
          ASSERT_EQ(part[static_cast<size_t>((c * 24 + y) * 24 + x)],
                    whole[static_cast<size_t>((c * scaled.height + crop.top + y) * scaled.width + crop.left + x)]);
  }
}

TEST(TestImage, GrayRecordsGiveOneChannel) {
  Preprocessing recipe = Recipe(28, 28);
  recipe.channels = 1;
  const std::string pixels(28 * 28, static_cast<char>(200));
  TestImage image(recipe);
  ASSERT_TRUE(image.Decode(Record(pixels, 28, 28, Encoding::kRaw8, 1)));
  EXPECT_EQ(Rendered(image, 28, {0, 0, 28, 28}, 1), std::vector<float>(28 * 28, 200 * (1.0F / 60) - 120 * (1.0F / 60)));
}

TEST(GridCrops, TwentyFivePlacesFromCornerToCorner) {
  const auto crops = GridCrops({341, 256}, 224);
  const int lefts[] = {0, 29, 59, 88, 117}, tops[] = {0, 8, 16, 24, 32};  // 117 / 4 = 29.25, 58.5, 87.75
  for (int i = 0; i < 25; ++i) {
    EXPECT_EQ(crops[static_cast<size_t>(i)].left, lefts[i % 5]);
    EXPECT_EQ(crops[static_cast<size_t>(i)].top, tops[i / 5]);
    EXPECT_EQ(crops[static_cast<size_t>(i)].width, 224);
    EXPECT_EQ(crops[static_cast<size_t>(i)].height, 224);
  }
  for (const Rectangle& crop : GridCrops({224, 224}, 224)) EXPECT_EQ(crop.left + crop.top, 0);
}

TEST(TestImage, OnePixelFillsTheScaledImage) {
  Image pixel{1, 1, {10, 20, 30}};
  TestImage image(Recipe(40, 32));
  ASSERT_TRUE(image.Decode(Record(MakePng(pixel), 1, 1, Encoding::kPng)));
  const auto whole = Rendered(image, 40, {0, 0, 40, 40});
  for (size_t i = 0; i < 1600; ++i) {
    EXPECT_FLOAT_EQ(whole[i], (10 - 120) / 60.0F);
    EXPECT_FLOAT_EQ(whole[3200 + i], (30 - 100) / 62.0F);
  }
}

TEST(TestImage, AnAnimatedPngIsItsDefaultImage) {
  const Image picture = MakePicture(20, 20);
  std::string png = MakePng(picture);
  const auto chunk = [](const std::string& name, const std::string& data) {
    std::string body = name + data;
    const auto crc =
        static_cast<uint32_t>(::crc32(0, reinterpret_cast<const unsigned char*>(body.data()), static_cast<unsigned>(body.size())));
    const auto word = [](uint32_t v) {
      return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8), static_cast<char>(v)};
    };
    return word(static_cast<uint32_t>(data.size())) + body + word(crc);
  };
  png.insert(33, chunk("acTL", std::string("\0\0\0\2\0\0\0\0", 8)));  // after IHDR: two frames, endless
  TestImage image(Recipe(20, 20));
  ASSERT_TRUE(image.Decode(Record(png, 20, 20, Encoding::kPng)));
  const auto out = Rendered(image, 20, {0, 0, 20, 20});
  for (size_t i = 0; i < 400; ++i) ASSERT_NEAR(out[i], (picture.pixels[3 * i] - 120) / 60.0, 1e-5);
}

TEST(TestImage, ASizeThatIsNotTheRecordsIsCorrupt) {
  const std::string jpeg = MakeJpeg(MakePicture(30, 20));
  TestImage image(Recipe(40, 32));
  const Status status = image.Decode(Record(jpeg, 31, 20));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(status.error().message, HasSubstr("30 x 20"));
}

}  // namespace
}  // namespace plateau
