// Every network becomes one for whole images: the same tensors, convolutions of the map's size, one score vector whatever the size.
#include "worker/evaluate/dense_network.h"

#include <map>

#include <gtest/gtest.h>

#include "worker/nn/parameter.h"

namespace plateau {
namespace {

std::map<std::string, int64_t> Sizes(const Network& network, int side) {
  std::map<std::string, int64_t> sizes;
  for (const ParameterInfo& info : ListParameters(network, *InferShapes(network, side, side)))
    sizes[info.name] = info.CanonicalCount();
  return sizes;
}

TEST(MakeDense, EveryNetworkTakesLargerImagesWithTheSameTensors) {
  for (const std::string& name : NetworkNames()) {
    const Network network = *MakeNetwork(name, {.width = name == "lenet" ? 1.0 : 0.1, .classes = 7});
    const int side = network.input_side;
    const auto dense = MakeDense(network, side);
    ASSERT_TRUE(dense) << name << ": " << dense.error().message;
    EXPECT_EQ(Sizes(*dense, side), Sizes(WithoutAuxiliary(network), side)) << name;
    for (const auto& [height, width] : {std::pair{side, side}, {side + 32, side + 97}, {2 * side, side}}) {
      const auto shapes = InferShapes(*dense, height, width);
      ASSERT_TRUE(shapes) << name << ": " << shapes.error().message;
      EXPECT_EQ(shapes->back().channels, 7) << name;
      EXPECT_EQ(shapes->back().height, 1) << name << " " << height << "x" << width;
      EXPECT_EQ(shapes->back().width, 1) << name << " " << height << "x" << width;
    }
    for (const LayerDef& layer : dense->layers) EXPECT_EQ(layer.auxiliary, 0) << name;
    EXPECT_TRUE(dense->auxiliary.empty()) << name;
  }
}

TEST(MakeDense, VggGetsSevenBySevenAndOneByOneConvolutions) {
  const Network network = *MakeNetwork("vgg-d", {});
  const Network dense = *MakeDense(network, 224);
  std::map<std::string, const LayerDef*> layers;
  for (const LayerDef& layer : dense.layers) layers[layer.name] = &layer;
  for (const auto& [name, kernel] : {std::pair{"fc6", 7}, {"fc7", 1}, {"fc8", 1}}) {
    ASSERT_TRUE(layers.contains(name));
    EXPECT_EQ(layers[name]->kind, LayerKind::kConvolution);
    EXPECT_EQ(layers[name]->kernel, kernel);
    EXPECT_EQ(layers[name]->pad, 0);
  }
  EXPECT_TRUE(layers["fc6"]->relu);
  EXPECT_FALSE(layers["fc8"]->relu);
  ASSERT_EQ(dense.layers.size(), network.layers.size() + 1);
  EXPECT_EQ(dense.layers.back().kind, LayerKind::kAveragePool);
  EXPECT_TRUE(dense.layers.back().global);
}

TEST(MakeDense, ANetworkWithAGlobalPoolStaysAsItIs) {
  const Network network{
      .name = "pooled",
      .classes = 3,
      .layers = {{.kind = LayerKind::kConvolution, .name = "conv", .inputs = {-1}, .out_channels = 16, .kernel = 3},
                 {.kind = LayerKind::kAveragePool, .name = "pool", .inputs = {0}, .global = true},
                 {.kind = LayerKind::kFullyConnected, .name = "fc", .inputs = {1}, .out_channels = 3}}};
  const Network dense = *MakeDense(network, 32);
  ASSERT_EQ(dense.layers.size(), 3u);
  EXPECT_EQ(dense.layers[2].kind, LayerKind::kFullyConnected);
}

TEST(WithoutAuxiliary, InputsMoveWithTheirLayers) {
  const Network network{
      .name = "forked",
      .classes = 3,
      .layers = {{.kind = LayerKind::kConvolution, .name = "a", .inputs = {-1}, .out_channels = 16, .kernel = 1},
                 {.kind = LayerKind::kFullyConnected, .name = "side", .inputs = {0}, .out_channels = 3, .auxiliary = 1},
                 {.kind = LayerKind::kConvolution, .name = "b", .inputs = {0}, .out_channels = 16, .kernel = 1},
                 {.kind = LayerKind::kFullyConnected, .name = "main", .inputs = {2}, .out_channels = 3}},
      .auxiliary = {{.layer = 1}}};
  const Network main = WithoutAuxiliary(network);
  ASSERT_EQ(main.layers.size(), 3u);
  EXPECT_EQ(main.layers[1].inputs, (std::vector<int>{0}));
  EXPECT_EQ(main.layers[2].name, "main");
  EXPECT_EQ(main.layers[2].inputs, (std::vector<int>{1}));
}

}  // namespace
}  // namespace plateau
