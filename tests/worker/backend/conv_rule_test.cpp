// The fixed rule that chooses direct or Winograd.
#include "worker/backend/cpu/conv_rule.h"

#include <gtest/gtest.h>

namespace plateau {
namespace {

ConvShape Shape(int batch, int side, int in = 64, int out = 64) {
  return {
      .batch = batch, .in_channels = in, .out_channels = out, .height = side, .width = side, .kernel = 3, .stride = 1, .pad = 1};
}

ConvAlgorithm Choose(const ConvShape& shape, ConvPass pass = ConvPass::kForward, ConvAlgorithm requested = ConvAlgorithm::kAuto) {
  return ChooseConvAlgorithm(shape, pass, requested, true);
}

constexpr auto kDirect = ConvAlgorithm::kDirect, kWinograd = ConvAlgorithm::kWinograd;

TEST(ConvRule, LargeMapsAreWinogradInEveryPass) {
  for (const auto pass : {ConvPass::kForward, ConvPass::kBackwardData, ConvPass::kBackwardWeights}) {
    for (const int side : {224, 112, 56, 28, 14}) EXPECT_EQ(Choose(Shape(8, side), pass), kWinograd) << side;
  }
}

TEST(ConvRule, TheFirstConvolutionIsDirectWhateverIsAsked) {
  EXPECT_EQ(Choose(Shape(8, 224, 3)), kDirect);
  EXPECT_EQ(Choose(Shape(8, 224, 3), ConvPass::kForward, kWinograd), kDirect);
}

TEST(ConvRule, TinyMapsAreDirectExceptWhereWinogradMeasuredFaster) {
  EXPECT_EQ(Choose(Shape(64, 2)), kDirect);
  EXPECT_EQ(Choose(Shape(64, 3)), kDirect);
  EXPECT_EQ(Choose(Shape(64, 3), ConvPass::kBackwardWeights), kWinograd);
  EXPECT_EQ(Choose(Shape(8, 3), ConvPass::kBackwardWeights), kDirect);
  EXPECT_EQ(Choose(Shape(8, 7)), kWinograd);
  EXPECT_EQ(Choose(Shape(4, 7)), kDirect);
}

TEST(ConvRule, OtherWindowsAndMachinesWithoutAvx512AreDirect) {
  ConvShape shape = Shape(8, 56);
  EXPECT_EQ(ChooseConvAlgorithm(shape, ConvPass::kForward, kWinograd, false), kDirect);
  shape.kernel = 1, shape.pad = 0;
  EXPECT_EQ(Choose(shape, ConvPass::kForward, kWinograd), kDirect);
  shape = Shape(8, 56);
  shape.stride = 2;
  EXPECT_EQ(Choose(shape), kDirect);
  for (const int kernel : {5, 7, 11}) {
    shape = Shape(8, 56);
    shape.kernel = kernel, shape.pad = kernel / 2;
    EXPECT_EQ(Choose(shape, ConvPass::kForward, kWinograd), kDirect) << kernel;
  }
  EXPECT_EQ(Choose(Shape(8, 56, 24, 64), ConvPass::kForward, kWinograd), kDirect);
  EXPECT_EQ(Choose(Shape(8, 56, 64, 24), ConvPass::kForward, kWinograd), kDirect);
}

TEST(ConvRule, ARequestWins) {
  EXPECT_EQ(Choose(Shape(8, 224), ConvPass::kForward, kDirect), kDirect);
  EXPECT_EQ(Choose(Shape(1, 2), ConvPass::kForward, kWinograd), kWinograd);
}

}  // namespace
}  // namespace plateau
