// Floors count the operations and bytes that a pass cannot do without.
#include "worker/bench_floor.h"

#include <gtest/gtest.h>

#include "worker/model/accounting.h"

namespace plateau {
namespace {

constexpr int kBatch = 2, kSide = 32;

class BenchFloor : public ::testing::Test {
 protected:
  BenchFloor() {
    network_.name = "small";
    network_.classes = 16;
    network_.layers = {{.name = "conv", .inputs = {-1}, .out_channels = 16, .kernel = 3, .pad = 1, .relu = true},
                       {.name = "conv2", .inputs = {0}, .out_channels = 32, .kernel = 3, .pad = 1, .relu = true},
                       {.kind = LayerKind::kMaxPool, .name = "pool", .inputs = {1}, .kernel = 2, .stride = 2},
                       {.kind = LayerKind::kFullyConnected, .name = "fc", .inputs = {2}, .out_channels = 16}};
    shapes_ = *InferShapes(network_, kSide, kSide);
    plan_ = LayOutPlan(network_, shapes_, {.batch = kBatch, .height = kSide, .width = kSide, .training = true}, Precision::kBf16);
    floors_ = FloorsOf(network_, shapes_, plan_);
  }
  Network network_;
  std::vector<LayerShape> shapes_;
  DevicePlan plan_;
  std::vector<LayerFloor> floors_;
};

TEST_F(BenchFloor, OperationsAddUpToThoseOfATrainedImage) {
  double flops = 0;
  for (const LayerFloor& floor : floors_)
    for (const PassFloor& pass : {floor.forward, floor.data, floor.weights}) flops += pass.flops;
  EXPECT_DOUBLE_EQ(flops, kBatch * TrainFlops(network_, *CountCosts(network_, kSide, kSide)));
}

TEST_F(BenchFloor, TheFirstConvolutionHasNoDataPassAndPoolsNoWeights) {
  EXPECT_FALSE(floors_[0].data.runs);
  EXPECT_EQ(floors_[0].data.Seconds(1e9, 1e9), 0);
  EXPECT_TRUE(floors_[0].weights.runs);
  EXPECT_TRUE(floors_[2].data.runs);
  EXPECT_FALSE(floors_[2].weights.runs);
}

TEST_F(BenchFloor, EachTensorIsCountedOnce) {
  const double in = 2.0 * kBatch * 16 * kSide * kSide, out = 2.0 * kBatch * 32 * kSide * kSide, weights = 16 * 32 * 9;
  EXPECT_DOUBLE_EQ(floors_[1].forward.bytes, in + out + 2 * weights);
  EXPECT_DOUBLE_EQ(floors_[1].data.bytes, in + out + 2 * weights);
  EXPECT_DOUBLE_EQ(floors_[1].weights.bytes, in + out + 4 * weights);
  EXPECT_DOUBLE_EQ(floors_[2].forward.bytes, out + out / 4);
  EXPECT_DOUBLE_EQ(floors_[2].data.bytes, out + out / 4 + out / 8);  // and one byte a winner
}

TEST_F(BenchFloor, TheLongerOfOperationsAndBytesCounts) {
  const PassFloor pass{.flops = 100, .bytes = 10, .runs = true};
  EXPECT_DOUBLE_EQ(pass.Seconds(100, 100), 1);
  EXPECT_DOUBLE_EQ(pass.Seconds(1e6, 5), 2);
}

}  // namespace
}  // namespace plateau
