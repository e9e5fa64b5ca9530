// Input and dropout against plain loops and the masks of worker/nn/dropout.h.
#include <gmock/gmock.h>

#include "tests/worker/backend/cuda/kernels_fixture.h"
#include "worker/nn/dropout.h"

namespace plateau::cuda {
namespace {

using reference::Map;
class InputTest : public KernelTest {};
PLATEAU_BOTH_TYPES(InputTest);

TEST_P(InputTest, FloatsChangeTheirLayout) {
  for (const int channels : {1, 3, 8, 11}) {
    const Map images = RandomMap(DataType::kFloat, 3, channels, 7, 9);
    const auto device = Upload(std::vector<float>(images.values.begin(), images.values.end()));
    const auto out = Fresh(3, channels, 7, 9);
    const auto flag = Flag();
    InputFromFloat(queue(), device.data(), out, flag.data());
    Map right = images;
    for (double& value : right.values) value = Rounded(static_cast<float>(value), type());
    EXPECT_EQ(out.Read().values, right.values) << channels;
    EXPECT_EQ(flag.ReadOne(), 0);
  }
}

TEST_P(InputTest, FloatsThatAreNotFiniteRaiseTheFlag) {
  std::vector<float> images = RandomFloats(2 * 3 * 5 * 5);
  images[71] = kNan;
  const auto device = Upload(images);
  const auto out = Fresh(2, 3, 5, 5);
  const auto flag = Flag();
  InputFromFloat(queue(), device.data(), out, flag.data());
  EXPECT_EQ(flag.ReadOne(), 1);
}

TEST_P(InputTest, BytesAreScaledShiftedAndFlipped) {
  for (const int channels : {1, 2, 3}) {
    constexpr int kN = 3, kH = 5, kW = 7;
    RandomStream random(9, RandomPurpose::kSynthetic, 0, 0);
    std::vector<uint8_t> pixels(static_cast<size_t>(kN * kH * kW * channels));
    for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(random.NextBelow(256));
    const std::vector<PixelScale> scales{{.gain = {1 / 58.4F, 1 / 57.1F, 1 / 57.4F}, .offset = {-2.1F, -1.7F, 0.3F}, .flip = 0},
                                         {.gain = {0.1F, 0.2F, 0.3F}, .offset = {3, 2, 1}, .flip = 1},
                                         {.gain = {0, 0, 0}, .offset = {0, 0, 0}, .flip = 0}};
    Map right(kN, channels, kH, kW);
    for (int n = 0; n < kN; ++n)
      for (int c = 0; c < channels; ++c)
        for (int h = 0; h < kH; ++h)
          for (int w = 0; w < kW; ++w) {
            const PixelScale& scale = scales[static_cast<size_t>(n)];
            const int from = scale.flip != 0 ? kW - 1 - w : w;
            const float pixel = pixels[static_cast<size_t>(((n * channels + c) * kH + h) * kW + from)];
            const volatile float product = pixel * scale.gain[c];  // never fused with the sum
            right.at(n, c, h, w) = Rounded(product + scale.offset[c], type());
          }
    const auto device = Upload(pixels);
    const auto on_device = Upload(scales);
    const auto out = Fresh(kN, channels, kH, kW);
    InputFromBytes(queue(), device.data(), on_device.data(), out);
    EXPECT_EQ(out.Read().values, right.values) << channels;
  }
}

// Every byte under gains and offsets as the recipe draws them: a fused multiply-add would round some of these otherwise.
TEST_P(InputTest, BytesAreTheValuesThatTheHostHas) {
  constexpr int kRows = 64, kSide = 16;  // of 256 bytes
  RandomStream random(3, RandomPurpose::kSynthetic, 0, 0);
  std::vector<uint8_t> pixels;
  std::vector<PixelScale> scales(kRows);
  for (int row = 0; row < kRows; ++row) {
    scales[static_cast<size_t>(row)].flip = static_cast<uint32_t>(row % 2);
    for (size_t c = 0; c < 3; ++c) {
      const float gain = 1 / (50 + 10 * static_cast<float>(random.NextUniform()));
      scales[static_cast<size_t>(row)].gain[c] = gain;
      scales[static_cast<size_t>(row)].offset[c] = (5 * static_cast<float>(random.NextNormal()) - 115) * gain;
      for (int byte = 0; byte < 256; ++byte) pixels.push_back(static_cast<uint8_t>(byte));
    }
  }
  std::vector<float> values(pixels.size());
  constexpr size_t kImage = 3 * kSide * kSide;
  for (size_t row = 0; row < kRows; ++row)
    ToValues(std::span(pixels).subspan(row * kImage, kImage), scales[row], kSide, std::span(values).subspan(row * kImage, kImage));
  Map right(kRows, 3, kSide, kSide);
  for (size_t i = 0; i < values.size(); ++i) right.values[i] = Rounded(values[i], type());
  const auto device = Upload(pixels);
  const auto on_device = Upload(scales);
  const auto out = Fresh(kRows, 3, kSide, kSide), from_floats = Fresh(kRows, 3, kSide, kSide);
  InputFromBytes(queue(), device.data(), on_device.data(), out);
  EXPECT_EQ(out.Read().values, right.values);
  const auto floats = Upload(values);
  InputFromFloat(queue(), floats.data(), from_floats);
  EXPECT_EQ(out.Bytes(), from_floats.Bytes());
}

class DropoutTest : public KernelTest {};
PLATEAU_BOTH_TYPES(DropoutTest);

TEST_P(DropoutTest, MasksAreThoseOfTheDefinition) {
  constexpr uint64_t kSeed = 0x123456789ABCDEFULL, kStep = (uint64_t{1} << 33) + 12345;  // halves and bits above 32 matter
  const std::vector<uint64_t> samples{5, 1281166, (uint64_t{1} << 40) + 3};
  const auto scalars = Upload(std::vector<StepScalars>{{.step = kStep}});
  const auto index = Upload(samples);
  for (const double rate : {0.5, 0.4, 0.0, 0.99}) {
    for (const auto& [channels, side] : std::vector<std::pair<int, int>>{{4096, 1}, {13, 1}, {21, 3}, {8, 2}}) {
      const int layer = 1000 + side;
      const Map before = RandomMap(type(), 3, channels, side, side);
      const auto y = Upload(before);
      Dropout(queue(), y, rate, kSeed, layer, index.data(), scalars.data());
      Map right = before;
      const auto scale = static_cast<float>(1 / (1 - rate));
      for (int n = 0; n < 3; ++n)
        for (int unit = 0; unit < channels * side * side; ++unit) {
          double& value = right.values[static_cast<size_t>(n * channels * side * side + unit)];
          const DropoutKey key{.seed = kSeed, .step = kStep, .sample = samples[static_cast<size_t>(n)], .layer = layer};
          const bool kept = DropoutWord(key, static_cast<uint32_t>(unit)) >= DropoutThreshold(rate);
          value = kept ? Rounded(static_cast<float>(value) * scale, type()) : 0;
        }
      EXPECT_EQ(Differences(y.Read().values, right.values, 0), "") << rate << " " << channels << "x" << side;
    }
  }
}

TEST_P(DropoutTest, UnitWhoseWordIsTheThresholdIsKept) {
  const DropoutKey key{.seed = 5, .step = 77, .sample = 9, .layer = 2};
  const double rate = DropoutWord(key, 3) * 0x1.0p-32;
  ASSERT_EQ(DropoutThreshold(rate), DropoutWord(key, 3));
  Map ones(1, 8, 1, 1);
  for (double& value : ones.values) value = 1;
  const auto y = Upload(ones);
  const auto index = Upload(std::vector<uint64_t>{key.sample});
  const auto scalars = Upload(std::vector<StepScalars>{{.step = key.step}});
  Dropout(queue(), y, rate, key.seed, key.layer, index.data(), scalars.data());
  EXPECT_GT(y.Read().values[3], 0);
}

// The host works on floats alone.
class FloatDropoutTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Float, FloatDropoutTest, testing::Values(DataType::kFloat));

TEST_P(FloatDropoutTest, AreTheBitsOfApplyDropout) {
  const std::vector<uint64_t> samples{9, 10};
  const Map before = RandomMap(type(), 2, 1001, 1, 1);
  const auto y = Upload(before);
  const auto index = Upload(samples);
  const auto scalars = Upload(std::vector<StepScalars>{{.step = 77}});
  Dropout(queue(), y, 0.3, 5, 2, index.data(), scalars.data());
  std::vector<float> right(before.values.begin(), before.values.end());
  for (size_t n = 0; n < 2; ++n)
    ApplyDropout({.seed = 5, .step = 77, .sample = samples[n], .layer = 2}, 0.3, std::span<float>(right).subspan(n * 1001, 1001));
  EXPECT_EQ(y.Read().values, Doubles(right));
}

}  // namespace
}  // namespace plateau::cuda
