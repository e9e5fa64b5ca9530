// Bias gradients and batch norm against sums in double.
#include <gmock/gmock.h>

#include "tests/worker/backend/cuda/kernels_fixture.h"

namespace plateau::cuda {
namespace {

using reference::Map;

struct Shape {
  int n, c, h, w;
};
// One vector, parts of one, more vectors than a tile has, sizes that leave threads, runs and tiles half empty, many splits.
const Shape kShapes[] = {{1, 1, 1, 1},   {2, 3, 5, 7},     {3, 24, 9, 5},   {5, 64, 17, 13},
                         {4, 300, 3, 5}, {37, 4096, 1, 1}, {3, 8, 200, 111}};
std::string Name(const Shape& s) { return fmt::format("[{}, {}, {}, {}]", s.n, s.c, s.h, s.w); }

std::vector<double> ChannelSums(const Map& dy) {
  std::vector<double> sums(static_cast<size_t>(Stored(dy.c)));
  for (int n = 0; n < dy.n; ++n)
    for (int c = 0; c < dy.c; ++c)
      for (int i = 0; i < dy.h * dy.w; ++i)
        sums[static_cast<size_t>(c)] += dy.values[(static_cast<size_t>(n) * dy.c + c) * dy.h * dy.w + i];
  return sums;
}
// What float sums of normal values may be off by: far below what one forgotten value changes.
double SumBound(const Map& dy) { return 4e-7 * std::sqrt(static_cast<double>(dy.n) * dy.h * dy.w) + 1e-6; }

class ReduceTest : public KernelTest {
 protected:
  std::vector<float> Bias(const Map& dy, int32_t* flag = nullptr) {
    const auto device = Upload(dy);
    const DeviceArray<float> partial(stream(), BiasGradientScratch(device.shape())), db(stream(), device.shape().stored);
    BiasGradient(queue(), device, partial.data(), db.data(), flag);
    return db.Read();
  }
};
PLATEAU_BOTH_TYPES(ReduceTest);

TEST_P(ReduceTest, BiasGradientSumsEveryPixelOnce) {
  for (const Shape& s : kShapes) {
    const Map dy = RandomMap(type(), s.n, s.c, s.h, s.w);
    const std::vector<float> got = Bias(dy);
    EXPECT_EQ(Differences(Doubles(got), ChannelSums(dy), 1e-6, SumBound(dy)), "") << Name(s);
    EXPECT_EQ(Bias(dy), got) << "two runs differ";
  }
}

TEST_P(ReduceTest, BiasGradientFlagsAnyBadValue) {
  for (const float bad : {kNan, kInfinity}) {
    Map dy = RandomMap(type(), 3, 24, 9, 5);
    const auto fine = Flag(), raised = Flag();
    Bias(dy, fine.data());
    dy.values[777] = bad;
    Bias(dy, raised.data());
    EXPECT_EQ(fine.ReadOne(), 0);
    EXPECT_EQ(raised.ReadOne(), 1);
  }
}

TEST_P(ReduceTest, BiasThroughAPoolEqualsTheSumOfItsInputGradient) {
  for (const bool relu : {false, true}) {
    for (const PoolWindow window : {PoolWindow{2, 2, 0}, PoolWindow{3, 2, 0}}) {
      Map x = RandomMap(type(), 3, 21, 23, 15, 1);
      if (relu) reference::Relu(x);
      const reference::Window of{window.kernel, window.stride, 0, false};
      const Map y = reference::PoolForward(x, of), dy = RandomMap(type(), 3, 21, y.h, y.w, 2);
      Map dx = reference::PoolBackward(dy, x, of);
      if (relu) reference::ReluBackward(x, dx);
      const auto device = Upload(x), gradient = Upload(dy), out = Fresh(3, 21, y.h, y.w);
      const DeviceArray<uint8_t> winner(stream(), out.shape().values());
      const DeviceArray<float> partial(stream(), BiasGradientScratch(out.shape())), db(stream(), 24);
      MaxPoolForward(queue(), device, window, relu, out, winner.data());
      PoolBiasGradient(queue(), gradient, winner.data(), partial.data(), db.data());
      EXPECT_EQ(Differences(Doubles(db.Read()), ChannelSums(dx), 1e-6, SumBound(dy)), "") << relu;
    }
  }
}

constexpr float kEpsilon = 1e-3F;

class BatchNormTest : public KernelTest {
 protected:
  // Zero behind the channels.
  DeviceArray<float> Vector(int channels, uint64_t seed, float centre) {
    std::vector<float> values = RandomFloats(channels, seed);
    for (float& value : values) value += centre;
    values.resize(static_cast<size_t>(Stored(channels)));
    return Upload(values);
  }
  static std::vector<double> Head(const DeviceArray<float>& values, int channels) {
    std::vector<double> all = Doubles(values.Read());
    for (size_t c = static_cast<size_t>(channels); c < all.size(); ++c) EXPECT_EQ(all[c], 0);
    all.resize(static_cast<size_t>(channels));
    return all;
  }
  struct Statistics {
    DeviceArray<double> partial;
    DeviceArray<float> mean, variance;
  };
  Statistics Measure(const DeviceMap& x, int rows, int32_t* flag = nullptr) {
    const int stored = x.shape().stored;
    Statistics s{DeviceArray<double>(stream(), BatchNormScratch(x.shape()) / 8), DeviceArray<float>(stream(), stored),
                 DeviceArray<float>(stream(), stored)};
    BatchNormStatistics(queue(), x, rows, s.partial.data(), s.mean.data(), s.variance.data(), flag);
    return s;
  }
};
PLATEAU_BOTH_TYPES(BatchNormTest);

TEST_P(BatchNormTest, StatisticsAreOfTheCountedRows) {
  for (const Shape& s : kShapes) {
    for (const int rows : {s.n, (s.n + 1) / 2}) {
      Map x = RandomMap(type(), s.n, s.c, s.h, s.w);
      for (double& value : x.values) value = Rounded(static_cast<float>(value + 30), type());  // a mean far from 0
      const auto device = Upload(x);
      const Statistics got = Measure(device, rows), again = Measure(device, rows);
      const auto right = reference::BatchStatistics(x, rows);
      EXPECT_EQ(Differences(Head(got.mean, s.c), right.mean, 1e-6), "") << Name(s) << rows;
      EXPECT_EQ(Differences(Head(got.variance, s.c), right.variance, 1e-6, 1e-9), "") << Name(s) << rows;
      EXPECT_EQ(again.variance.Read(), got.variance.Read());
    }
  }
}

TEST_P(BatchNormTest, VarianceOfEqualValuesIsNotNegative) {
  Map x(3, 64, 31, 37);  // more pixels than the squares' sums are exact for
  const std::vector<float> values = RandomFloats(64);
  for (int n = 0; n < 3; ++n)
    for (int c = 0; c < 64; ++c)
      for (int i = 0; i < 1147; ++i)
        x.values[static_cast<size_t>((n * 64 + c) * 1147 + i)] = Rounded(1000 * values[static_cast<size_t>(c)], type());
  const auto device = Upload(x);
  for (const double variance : Head(Measure(device, 3).variance, 64)) {
    EXPECT_GE(variance, 0);
    EXPECT_LT(variance, 1e-7);
  }
}

TEST_P(BatchNormTest, ForwardNormalisesAndKeepsPaddingZero) {
  for (const Shape& s : kShapes) {
    for (const bool relu : {false, true}) {
      const Map x = RandomMap(type(), s.n, s.c, s.h, s.w);
      const auto scale = Vector(s.c, 2, 1), shift = Vector(s.c, 3, 0);
      const auto device = Upload(x), y = Fresh(s.n, s.c, s.h, s.w);
      const Statistics got = Measure(device, s.n);
      BatchNormForward(queue(), device, scale.data(), shift.data(), got.mean.data(), got.variance.data(), kEpsilon, relu, y);
      Map right = reference::BatchNormForward(x, Head(scale, s.c), Head(shift, s.c), reference::BatchStatistics(x, s.n), kEpsilon);
      if (relu) reference::Relu(right);
      EXPECT_EQ(Differences(y.Read().values, right.values, Bound(type(), 2e-6), 1e-5), "") << Name(s) << relu;
    }
  }
}

TEST_P(BatchNormTest, BackwardLeavesOutRowsThatDoNotCount) {
  for (const Shape& s : kShapes) {
    for (const int rows : {s.n, (s.n + 1) / 2}) {
      const Map x = RandomMap(type(), s.n, s.c, s.h, s.w, 1), dy = RandomMap(type(), s.n, s.c, s.h, s.w, 2);
      const auto scale = Vector(s.c, 3, 1), dscale = Vector(s.c, 0, 0), dshift = Vector(s.c, 0, 0);
      const auto device = Upload(x), gradient = Upload(dy), dx = Fresh(s.n, s.c, s.h, s.w);
      const Statistics got = Measure(device, rows);
      const auto flag = Flag();
      const auto backward = [&](const cuda::Map& to) {
        BatchNormBackward(queue(), device, gradient, scale.data(), got.mean.data(), got.variance.data(), kEpsilon, rows,
                          got.partial.data(), to, dscale.data(), dshift.data(), flag.data());
      };
      backward(dx);
      const auto right = reference::BatchNormBackward(dy, x, Head(scale, s.c), rows, kEpsilon);
      const double sums = SumBound(dy);
      EXPECT_EQ(Differences(Head(dscale, s.c), right.scale, 1e-5, 2 * sums), "") << Name(s) << rows;
      EXPECT_EQ(Differences(Head(dshift, s.c), right.shift, 1e-6, sums), "") << Name(s) << rows;
      EXPECT_EQ(Differences(dx.Read().values, right.x.values, Bound(type(), 2e-6), 2e-5), "") << Name(s) << rows;
      EXPECT_EQ(flag.ReadOne(), 0);
      const std::vector<uint8_t> apart = dx.Bytes();
      backward(gradient);  // in place
      EXPECT_EQ(gradient.Bytes(), apart);
    }
  }
}

TEST_P(BatchNormTest, FlagsRiseForBadOutputsAndGradients) {
  Map x = RandomMap(type(), 2, 5, 3, 3, 1), dy = RandomMap(type(), 2, 5, 3, 3, 2);
  const auto fine = Flag(), bad_x = Flag(), bad_dy = Flag();
  const auto scale = Vector(5, 3, 1), dscale = Vector(5, 0, 0), dshift = Vector(5, 0, 0);
  const auto device = Upload(x);
  const Statistics got = Measure(device, 2, fine.data());
  EXPECT_EQ(fine.ReadOne(), 0);
  dy.values[17] = kInfinity;
  const auto gradient = Upload(dy), dx = Fresh(2, 5, 3, 3);
  BatchNormBackward(queue(), device, gradient, scale.data(), got.mean.data(), got.variance.data(), kEpsilon, 2, got.partial.data(),
                    dx, dscale.data(), dshift.data(), bad_dy.data());
  EXPECT_EQ(bad_dy.ReadOne(), 1);
  x.values[17] = kNan;
  Measure(Upload(x), 2, bad_x.data());
  EXPECT_EQ(bad_x.ReadOne(), 1);
}

TEST_P(BatchNormTest, ShareIsOfTheUnbiasedVariance) {
  for (const int64_t count : {int64_t{1}, int64_t{2}, int64_t{1000}}) {
    const std::vector<float> mean = RandomFloats(16, 1), variance = RandomFloats(16, 2);
    const auto a = Upload(mean), b = Upload(variance);
    const DeviceArray<float> batch_mean(stream(), 16), batch_variance(stream(), 16);
    BatchNormShare(queue(), a.data(), b.data(), 16, count, 0.25F, batch_mean.data(), batch_variance.data());
    std::vector<double> right_mean, right_variance;
    for (size_t c = 0; c < 16; ++c) {
      right_mean.push_back(0.25 * mean[c]);
      right_variance.push_back(count == 1 ? 0 : 0.25 * variance[c] * static_cast<double>(count) / static_cast<double>(count - 1));
    }
    EXPECT_EQ(Differences(Doubles(batch_mean.Read()), right_mean, 0), "");
    EXPECT_EQ(Differences(Doubles(batch_variance.Read()), right_variance, 2e-7), "") << count;
  }
}

}  // namespace
}  // namespace plateau::cuda
