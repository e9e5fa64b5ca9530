// Casts, sums, ReLU, joins and flags against plain loops.
#include <gmock/gmock.h>

#include "tests/worker/backend/cuda/kernels_fixture.h"

namespace plateau::cuda {
namespace {

using reference::Map;
class ElementwiseTest : public KernelTest {};
PLATEAU_BOTH_TYPES(ElementwiseTest);

// Numbers between which rounding has to decide: ties to even and to odd, the largest, NaN, infinities, denormals, both zeros.
std::vector<float> AwkwardFloats() {
  std::vector<float> values = RandomFloats(1003);
  for (const uint32_t bits : {0x3F808000U, 0x3F818000U, 0x3F808001U, 0x3F807FFFU, 0x7F7FFFFFU, 0x7F800000U, 0xFF800000U,
                              0x7FC00000U, 0xFFC12345U, 0x00000001U, 0x00008000U, 0x80018000U, 0x80000000U, 0x00000000U})
    values.push_back(std::bit_cast<float>(bits));
  return values;
}

class FlatTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Type, FlatTest, testing::Values(DataType::kBf16), TypeName);

TEST_P(FlatTest, CastsRoundToNearestEvenAndComeBack) {
  const std::vector<float> values = AwkwardFloats();  // not a multiple of eight
  const auto count = static_cast<int64_t>(values.size());
  const auto from = Upload(values);
  const DeviceArray<uint16_t> half(stream(), count);
  const DeviceArray<float> back(stream(), count);
  CastToBf16(queue(), from.data(), half.data(), count);
  CastToFloat(queue(), half.data(), back.data(), count);
  const std::vector<uint16_t> got = half.Read();
  const std::vector<float> returned = back.Read();
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(returned[i])) << i;
      continue;
    }
    ASSERT_EQ(got[i], Bf16Bits(values[i])) << i << " " << values[i];
    ASSERT_EQ(returned[i], FromBf16(got[i])) << i;
  }
}

TEST_P(FlatTest, AddsAndCopiesAnyCount) {
  for (const int64_t count : {int64_t{1}, int64_t{7}, int64_t{8}, int64_t{100003}}) {
    const std::vector<float> a = RandomFloats(count, 1), b = RandomFloats(count, 2);
    const auto sum = Upload(a), values = Upload(b);
    const DeviceArray<float> copy(stream(), count);
    AddTo(queue(), sum.data(), values.data(), count);
    Copy(queue(), copy.data(), sum.data(), count);
    std::vector<float> right = a;
    for (size_t i = 0; i < right.size(); ++i) right[i] += b[i];
    EXPECT_EQ(sum.Read(), right);
    EXPECT_EQ(copy.Read(), right);
  }
}

TEST_P(ElementwiseTest, BiasAndReluByChannel) {
  for (const bool relu : {false, true}) {
    for (const bool with_bias : {false, true}) {
      const Map before = RandomMap(type(), 3, 13, 5, 7);
      std::vector<float> bias = RandomFloats(16);
      bias[13] = bias[14] = bias[15] = 5;  // behind the channels: must not reach the padding
      const auto y = Upload(before);
      const auto device_bias = Upload(bias);
      BiasRelu(queue(), y, with_bias ? device_bias.data() : nullptr, relu);
      Map right = before;
      for (int n = 0; n < 3; ++n)
        for (int c = 0; c < 13; ++c)
          for (int i = 0; i < 35; ++i) {
            double& value = right.values[static_cast<size_t>((n * 13 + c) * 35 + i)];
            value += with_bias ? bias[static_cast<size_t>(c)] : 0;
            if (relu) value = std::max(value, 0.0);
          }
      EXPECT_EQ(Differences(y.Read().values, right.values, Bound(type()), 1e-7), "") << relu << with_bias;
    }
  }
}

TEST_P(ElementwiseTest, ReluKeepsNan) {
  Map values(1, 8, 1, 1);
  values.values = {kNan, -kInfinity, kInfinity, -1, 0, 2, -0.0, 3};
  const auto y = Upload(values);
  BiasRelu(queue(), y, nullptr, true);
  EXPECT_THAT(y.Read().values, testing::ElementsAre(testing::IsNan(), 0, kInfinity, 0, 0, 2, 0, 3));
}

TEST_P(ElementwiseTest, ReluBackwardMasks) {
  const Map output = RandomMap(type(), 2, 11, 3, 5, 1), gradient = RandomMap(type(), 2, 11, 3, 5, 2);
  const auto y = Upload(output), dy = Upload(gradient);
  const auto flag = Flag();
  ReluBackward(queue(), y, dy, flag.data());
  Map right = gradient;
  reference::ReluBackward(output, right);
  EXPECT_EQ(Differences(dy.Read().values, right.values, 0), "");
  EXPECT_EQ(flag.ReadOne(), 0);
}

TEST_P(ElementwiseTest, ReluBackwardFlagsWhatItHides) {
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    for (const bool in_gradient : {false, true}) {
      Map output = RandomMap(type(), 2, 11, 3, 5, 1), gradient = RandomMap(type(), 2, 11, 3, 5, 2);
      output.values[100] = -1;  // shut: the bad gradient is masked, and was there all the same
      (in_gradient ? gradient : output).values[100] = bad;
      const auto y = Upload(output), dy = Upload(gradient);
      const auto flag = Flag();
      ReluBackward(queue(), y, dy, flag.data());
      EXPECT_EQ(flag.ReadOne(), 1) << bad << in_gradient;
      EXPECT_TRUE(!in_gradient || dy.Read().values[100] == 0);
    }
  }
}

TEST_P(ElementwiseTest, SumsOfOneToEightMapsWithReluOrMask) {
  for (int count = 1; count <= 8; ++count) {
    std::vector<Map> values;
    std::vector<DeviceMap> devices;
    std::vector<cuda::Map> parts;
    for (int p = 0; p < count; ++p) values.push_back(RandomMap(type(), 2, 10, 3, 3, static_cast<uint64_t>(p)));
    for (const Map& value : values) devices.push_back(Upload(value));
    for (const DeviceMap& device : devices) parts.push_back(device);
    const Map mask = RandomMap(type(), 2, 10, 3, 3, 99);
    const auto device_mask = Upload(mask), out = Fresh(2, 10, 3, 3);
    std::vector<const Map*> pointers;
    for (const Map& value : values) pointers.push_back(&value);
    Map right = reference::Add(pointers);
    const double cancelled = 1e-6 * count;  // sums near zero keep the error of their parts
    SumMaps(queue(), parts, false, cuda::Map{}, out);
    EXPECT_EQ(Differences(out.Read().values, right.values, Bound(type()), cancelled), "");
    SumMaps(queue(), parts, false, device_mask, out);
    Map masked = right;
    reference::ReluBackward(mask, masked);
    EXPECT_EQ(Differences(out.Read().values, masked.values, Bound(type()), cancelled), "");
    SumMaps(queue(), parts, true, cuda::Map{}, parts[static_cast<size_t>(count) - 1]);  // in place
    reference::Relu(right);
    EXPECT_EQ(Differences(devices.back().Read().values, right.values, Bound(type()), cancelled), "");
  }
}

TEST_P(ElementwiseTest, SumsFlagWhatIsNotFinite) {
  Map a = RandomMap(type(), 1, 9, 2, 2, 1), mask = RandomMap(type(), 1, 9, 2, 2, 2);
  a.values[5] = kInfinity;
  mask.values[5] = -1;
  const auto device = Upload(a), other = Upload(a), device_mask = Upload(mask), out = Fresh(1, 9, 2, 2);
  const auto flag = Flag(), second = Flag();
  const std::vector<cuda::Map> parts{device, other}, fine{device_mask};
  SumMaps(queue(), parts, false, device_mask, out, flag.data());
  SumMaps(queue(), fine, false, cuda::Map{}, out, second.data());
  EXPECT_EQ(flag.ReadOne(), 1);
  EXPECT_EQ(second.ReadOne(), 0);
  mask.values[7] = kInfinity;
  const auto bad_mask = Upload(mask);
  SumMaps(queue(), fine, false, bad_mask, out, second.data());
  EXPECT_EQ(second.ReadOne(), 1);
}

TEST_P(ElementwiseTest, PartsOfAnyWidthAreJoinedAndCutAgain) {
  // Begins on and off the vectors' borders, whole vectors and parts of one; the whole's padding is written by the last part alone.
  for (const std::vector<int>& widths : {std::vector<int>{8, 16, 8}, {3, 5, 8, 1}, {13, 3, 16, 9}, {24}, {5}}) {
    std::vector<Map> values;
    std::vector<const Map*> pointers;
    int channels = 0;
    for (const int width : widths) {
      values.push_back(RandomMap(type(), 2, width, 3, 5, static_cast<uint64_t>(width)));
      channels += width;
    }
    for (const Map& value : values) pointers.push_back(&value);
    const auto whole = Fresh(2, channels, 3, 5);
    int from = 0;
    for (const Map& value : values) {
      CopyChannelsIn(queue(), Upload(value), from, whole);
      from += value.c;
    }
    EXPECT_EQ(Differences(whole.Read().values, reference::Concat(pointers).values, 0), "");
    from = 0;
    for (const Map& value : values) {
      const auto part = Fresh(2, value.c, 3, 5);
      CopyChannelsOut(queue(), whole, from, part);
      EXPECT_EQ(Differences(part.Read().values, value.values, 0), "") << "from " << from;
      from += value.c;
    }
  }
}

TEST_P(ElementwiseTest, FlagFindsOneBadValueAnywhere) {
  constexpr int64_t kCount = 8 * 1000 + 5;
  const auto width = static_cast<size_t>(SizeOf(type()));
  for (const int64_t at : {int64_t{-1}, int64_t{0}, int64_t{4321}, kCount - 1, kCount - 6}) {
    for (const float bad : {kNan, -kInfinity}) {
      std::vector<float> values = RandomFloats(kCount);
      values[3] = 3e38F;  // large, and finite
      if (at >= 0) values[static_cast<size_t>(at)] = bad;
      std::vector<uint8_t> bytes(kCount * width);
      for (size_t i = 0; i < values.size(); ++i) {
        const uint16_t half = Bf16Bits(values[i]);
        std::memcpy(bytes.data() + i * width, width == 4 ? static_cast<const void*>(&values[i]) : &half, width);
      }
      const auto device = Upload(bytes);
      const auto flag = Flag();
      FlagNonFinite(queue(), device.data(), type(), kCount, flag.data());
      EXPECT_EQ(flag.ReadOne(), at >= 0 ? 1 : 0) << at;
    }
  }
}

class FloatTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Types, FloatTest, testing::Values(DataType::kFloat), TypeName);

// cuDNN's fused ReLU gives the largest float for an infinity; nothing else does.
TEST_P(FloatTest, TheLargestFloatCountsAsAnInfinityThatWasCutOff) {
  for (const auto& [value, raised] : {std::pair{std::numeric_limits<float>::max(), 1}, {3.4e38F, 0}, {-3.4e38F, 0}}) {
    std::vector<float> values(11, 1.0F);
    values[9] = value;
    const auto device = Upload(values);
    const auto flag = Flag();
    FlagNonFinite(queue(), device.data(), DataType::kFloat, 11, flag.data());
    EXPECT_EQ(flag.ReadOne(), raised) << value;
  }
}

TEST_P(FlatTest, BuffersLargerThanOneGrid) {
  // 2^16 blocks of 256 threads with eight values each, and two blocks more.
  constexpr int64_t kCount = (int64_t{1} << 27) + 8 * 300;
  const DeviceArray<uint16_t> values(stream(), kCount);
  const auto flag = Flag();
  for (const bool bad : {false, true}) {
    Check(cudaMemsetAsync(values.data(), 0, kCount * 2, queue()), "cudaMemsetAsync");
    if (bad) Check(cudaMemsetAsync(values.data() + kCount - 1, 0xFF, 2, queue()), "cudaMemsetAsync");
    FlagNonFinite(queue(), values.data(), DataType::kBf16, kCount, flag.data());
    EXPECT_EQ(flag.ReadOne(), bad ? 1 : 0);
  }
}

}  // namespace
}  // namespace plateau::cuda
