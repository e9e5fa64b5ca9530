// Pools and local response normalisation against the reference's loops.
#include <gmock/gmock.h>

#include "tests/worker/backend/cuda/kernels_fixture.h"

namespace plateau::cuda {
namespace {

using reference::Map;
using reference::Window;

struct PoolCase {
  int h, w;
  Window window;
};
// Odd sizes, rows that no window covers, windows that end outside, padding, overlap, gaps between windows, one window over all.
const PoolCase kPools[] = {{8, 6, {2, 2, 0, false}},   {7, 9, {2, 2, 0, false}}, {7, 9, {2, 2, 0, true}},  {5, 8, {2, 2, 0, true}},
                           {9, 11, {3, 2, 0, false}},  {8, 10, {3, 2, 0, true}}, {7, 7, {3, 2, 1, false}}, {6, 7, {3, 1, 1, false}},
                           {8, 8, {2, 2, 1, true}},    {9, 9, {2, 3, 0, true}},  {7, 7, {7, 1, 0, false}}, {1, 1, {2, 2, 1, false}},
                           {15, 16, {15, 1, 0, false}}};
const int kChannels[] = {8, 3, 21};

std::string Name(const PoolCase& pool, int channels) {
  return fmt::format("{}x{} kernel {} stride {} pad {} {}, {} channels", pool.h, pool.w, pool.window.kernel, pool.window.stride,
                     pool.window.pad, pool.window.ceil_mode ? "ceil" : "floor", channels);
}
PoolWindow DeviceWindow(const Window& window) { return {window.kernel, window.stride, window.pad}; }

// Few different values: nearly every window has ties.
Map MapWithTies(DataType type, int n, int c, int h, int w, bool relu) {
  Map map = RandomMap(type, n, c, h, w, 7);
  for (double& value : map.values) value = std::round(value);
  if (relu) reference::Relu(map);
  return map;
}

class PoolTest : public KernelTest {
 protected:
  struct MaxResult {
    Map y, dx;
    std::vector<uint8_t> bytes;
  };
  MaxResult MaxPool(const Map& x, const Map& dy, const Window& window, bool relu, int32_t* flag = nullptr) {
    const auto device = Upload(x), gradient = Upload(dy), y = Fresh(dy.n, dy.c, dy.h, dy.w), dx = Fresh(x.n, x.c, x.h, x.w);
    const DeviceArray<uint8_t> winner(stream(), y.shape().values());
    MaxPoolForward(queue(), device, DeviceWindow(window), relu, y, winner.data(), flag);
    MaxPoolBackward(queue(), gradient, winner.data(), DeviceWindow(window), dx, flag);
    return {y.Read(), dx.Read(), dx.Bytes()};
  }
};
PLATEAU_BOTH_TYPES(PoolTest);

TEST_P(PoolTest, MaxPoolsForwardAndBackward) {
  for (const PoolCase& pool : kPools) {
    for (const int channels : kChannels) {
      for (const bool ties : {false, true}) {
        const Map x =
            ties ? MapWithTies(type(), 3, channels, pool.h, pool.w, false) : RandomMap(type(), 3, channels, pool.h, pool.w);
        const Map right = reference::PoolForward(x, pool.window);
        const Map dy = RandomMap(type(), 3, channels, right.h, right.w, 2);
        const auto got = MaxPool(x, dy, pool.window, false);
        EXPECT_EQ(Differences(got.y.values, right.values, 0), "") << Name(pool, channels);
        EXPECT_EQ(Differences(got.dx.values, reference::PoolBackward(dy, x, pool.window).values, Bound(type()), 1e-5), "")
            << Name(pool, channels) << (ties ? " with ties" : "");
        EXPECT_EQ(MaxPool(x, dy, pool.window, false).bytes, got.bytes);
      }
    }
  }
}

TEST_P(PoolTest, MaxPoolsPassTheReluBelowThem) {
  for (const PoolCase& pool : kPools) {
    const Map x = MapWithTies(type(), 2, 11, pool.h, pool.w, true);
    const Map y = reference::PoolForward(x, pool.window), dy = RandomMap(type(), 2, 11, y.h, y.w, 2);
    Map right = reference::PoolBackward(dy, x, pool.window);
    reference::ReluBackward(x, right);
    const auto got = MaxPool(x, dy, pool.window, true);
    EXPECT_EQ(Differences(got.y.values, y.values, 0), "");
    EXPECT_EQ(Differences(got.dx.values, right.values, Bound(type()), 1e-5), "") << Name(pool, 11);
  }
}

TEST_P(PoolTest, MaxPoolWithoutWinnersGivesTheSameOutput) {
  for (const PoolCase& pool : kPools) {
    const Map x = RandomMap(type(), 2, 11, pool.h, pool.w), right = reference::PoolForward(x, pool.window);
    const auto device = Upload(x), y = Fresh(right.n, right.c, right.h, right.w);
    MaxPoolForward(queue(), device, DeviceWindow(pool.window), false, y, nullptr);
    EXPECT_EQ(Differences(y.Read().values, right.values, 0), "") << Name(pool, 11);
  }
}

TEST_P(PoolTest, NanWinsOnlyInFirstPlaceAndInfinityAlways) {
  for (const Window& window : {Window{2, 2, 0, false}, Window{3, 2, 1, false}}) {
    Map x = RandomMap(type(), 1, 8, 6, 6);
    x.at(0, 0, 0, 0) = kNan;  // first of a 2x2 window
    x.at(0, 1, 1, 1) = kNan;  // last of one
    x.at(0, 2, 2, 2) = kInfinity;
    x.at(0, 3, 3, 3) = -kInfinity;
    const Map right = reference::PoolForward(x, window), dy = RandomMap(type(), 1, 8, right.h, right.w, 2);
    const auto flag = Flag();
    const auto got = MaxPool(x, dy, window, false, flag.data());
    EXPECT_EQ(Differences(got.y.values, right.values, 0), "");
    EXPECT_EQ(Differences(got.dx.values, reference::PoolBackward(dy, x, window).values, Bound(type()), 1e-5), "");
    EXPECT_EQ(flag.ReadOne(), 1);
  }
}

TEST_P(PoolTest, FlagsRiseForBadInputsAndGradientsOnly) {
  for (const Window& window : {Window{2, 2, 0, false}, Window{3, 2, 1, false}}) {
    const Map x = RandomMap(type(), 2, 5, 6, 6), y = reference::PoolForward(x, window);
    const Map dy = RandomMap(type(), 2, 5, y.h, y.w, 2);
    for (const bool in_gradient : {false, true}) {
      const auto fine = Flag(), raised = Flag();
      MaxPool(x, dy, window, false, fine.data());
      EXPECT_EQ(fine.ReadOne(), 0);
      Map bad_x = x, bad_dy = dy;
      (in_gradient ? bad_dy : bad_x).values[40] = kNan;
      MaxPool(bad_x, bad_dy, window, false, raised.data());
      EXPECT_EQ(raised.ReadOne(), 1) << in_gradient;
    }
  }
}

TEST_P(PoolTest, AveragePools) {
  for (const PoolCase& pool : kPools) {
    for (const int channels : kChannels) {
      const Map x = RandomMap(type(), 2, channels, pool.h, pool.w), right = reference::AveragePoolForward(x, pool.window);
      const Map dy = RandomMap(type(), 2, channels, right.h, right.w, 2);
      const auto device = Upload(x), gradient = Upload(dy), y = Fresh(2, channels, right.h, right.w),
                 dx = Fresh(2, channels, pool.h, pool.w);
      AveragePoolForward(queue(), device, DeviceWindow(pool.window), y);
      AveragePoolBackward(queue(), gradient, DeviceWindow(pool.window), dx);
      EXPECT_EQ(Differences(y.Read().values, right.values, Bound(type()), 1e-6), "") << Name(pool, channels);
      EXPECT_EQ(Differences(dx.Read().values, reference::AveragePoolBackward(dy, x, pool.window).values, Bound(type()), 1e-6), "")
          << Name(pool, channels);
    }
  }
}

TEST_P(PoolTest, LocalResponsesOfAnyWindow) {
  const LrnDef kDefs[] = {{5, 2, 1e-4, 0.75}, {5, 1, 0.5, 0.75}, {1, 1, 0.3, 0.5},
                          {2, 2, 0.2, 0.75},  {4, 1, 0.1, 1.1},  {9, 2, 0.1, 0.6}};
  for (const LrnDef& def : kDefs) {
    for (const int channels : {3, 8, 13, 32}) {
      const Map x = RandomMap(type(), 2, channels, 3, 4, 1), dy = RandomMap(type(), 2, channels, 3, 4, 2);
      const auto device = Upload(x), gradient = Upload(dy), y = Fresh(2, channels, 3, 4), dx = Fresh(2, channels, 3, 4);
      const LrnWindow window{def.size, def.k, def.alpha, def.beta};
      LrnForward(queue(), device, window, y);
      LrnBackward(queue(), device, gradient, window, dx);
      EXPECT_EQ(Differences(y.Read().values, reference::LrnForward(x, def).values, Bound(type(), 2e-6), 1e-9), "")
          << def.size << " " << channels;
      EXPECT_EQ(Differences(dx.Read().values, reference::LrnBackward(dy, x, def).values, Bound(type(), 2e-6), 3e-6), "")
          << def.size << " " << channels;
    }
  }
}

}  // namespace
}  // namespace plateau::cuda
