// The table of networks against the published counts.
#include "worker/model/network.h"

#include <gtest/gtest.h>

#include <fstream>

#include <nlohmann/json.hpp>

#include "worker/model/accounting.h"
#include "worker/model/torchvision_names.h"

namespace plateau {
namespace {

nlohmann::json ReadReference(const std::string& name) {
  std::ifstream file(std::string(PLATEAU_SOURCE_DIR) + "/tests/reference/" + name);
  return nlohmann::json::parse(file);
}

std::vector<std::string> LayerNames(const Network& network) {
  std::vector<std::string> names;
  for (const LayerDef& layer : network.layers) names.push_back(layer.name);
  return names;
}

class EveryNetwork : public testing::TestWithParam<std::string> {};

TEST_P(EveryNetwork, ParametersMultiplyAddsAndTrainingFlopsEqualTheReference) {
  const auto reference = ReadReference("networks.json").at(GetParam());
  const auto network = MakeNetwork(GetParam(), {});
  ASSERT_TRUE(network.has_value()) << network.error().message;
  const auto costs = CountCosts(*network, reference["input"][1], reference["input"][2]);
  ASSERT_TRUE(costs.has_value()) << costs.error().message;
  int64_t params = 0, macs = 0, weight_layers = 0;
  for (const LayerCost& cost : *costs) {
    params += cost.params;
    macs += cost.macs;
    weight_layers += cost.params > 0;
  }
  EXPECT_EQ(params, reference["params"]);
  EXPECT_EQ(macs, reference["macs"]);
  EXPECT_EQ(weight_layers, reference["weight_layers"]);
  EXPECT_DOUBLE_EQ(TrainFlops(*costs), reference["train_flop_per_image"].get<double>());
}

INSTANTIATE_TEST_SUITE_P(Table, EveryNetwork, testing::ValuesIn(NetworkNames()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Network, TheVggFactsGiveTheSameCounts) {
  const auto facts = ReadReference("vgg_facts.json");
  for (const auto& [name, key] : {std::pair("vgg-a", "A"), std::pair("vgg-d", "D")}) {
    const auto costs = CountCosts(*MakeNetwork(name, {}), 224, 224);
    int64_t params = 0, macs = 0;
    for (const LayerCost& cost : *costs) params += cost.params, macs += cost.macs;
    EXPECT_EQ(params, facts["params_exact"][key]);
    EXPECT_EQ(macs, facts["macs_224"][key]);
  }
}

TEST(Network, ConfigurationAHasThePapersLayersInOrder) {
  EXPECT_EQ(LayerNames(*MakeNetwork("vgg-a", {})),
            (std::vector<std::string>{"conv1_1", "pool1", "conv2_1", "pool2", "conv3_1", "conv3_2", "pool3", "conv4_1", "conv4_2",
                                      "pool4", "conv5_1", "conv5_2", "pool5", "fc6", "fc7", "fc8"}));
}

TEST(Network, ConfigurationDHasThreeConvolutionsInTheDeepBlocks) {
  const auto names = LayerNames(*MakeNetwork("vgg-d", {}));
  ASSERT_EQ(names.size(), 21u);
  EXPECT_EQ(names[1], "conv1_2");
  EXPECT_EQ(names[16], "conv5_3");
}

TEST(Network, WidthRoundsToTheNearestMultipleOfSixteenAndNeverBelow) {
  const auto channels = [](double width) {
    const auto network = *MakeNetwork("vgg-a", {.width = width});
    return std::vector<int>{network.layers[0].out_channels, network.layers[2].out_channels, network.layers[13].out_channels};
  };
  EXPECT_EQ(channels(1), (std::vector<int>{64, 128, 4096}));
  EXPECT_EQ(channels(0.5), (std::vector<int>{32, 64, 2048}));
  EXPECT_EQ(channels(0.4), (std::vector<int>{32, 48, 1632}));  // 25.6, 51.2, 1638.4
  EXPECT_EQ(channels(0.01), (std::vector<int>{16, 16, 48}));
}

TEST(Network, ClassesDropoutAndChannelsReachTheLayers) {
  const auto network = *MakeNetwork("vgg-d", {.classes = 20, .channels = 1, .dropout = 0.25});
  EXPECT_EQ(network.layers.back().out_channels, 20);
  EXPECT_FALSE(network.layers.back().relu);
  EXPECT_EQ(network.layers.back().dropout, 0);
  EXPECT_EQ(network.layers[18].dropout, 0.25);
  EXPECT_EQ(network.channels, 1);
}

TEST(Network, AnUnknownNameSuggestsTheNearest) {
  const auto network = MakeNetwork("vgg-aa", {});
  ASSERT_FALSE(network.has_value());
  EXPECT_EQ(network.error().code, ErrorCode::kInvalidInput);
  EXPECT_NE(network.error().message.find("did you mean vgg-a?"), std::string::npos) << network.error().message;
}

TEST(Network, BadOptionsAreRefused) {
  EXPECT_FALSE(MakeNetwork("vgg-a", {.width = 0}).has_value());
  EXPECT_FALSE(MakeNetwork("vgg-a", {.classes = 0}).has_value());
  EXPECT_FALSE(MakeNetwork("vgg-a", {.dropout = 1}).has_value());
  EXPECT_FALSE(MakeNetwork("vgg-a", {.channels = 0}).has_value());
}

TEST(InferShapes, PoolsRoundDown) {
  const auto shapes = *InferShapes(*MakeNetwork("vgg-a", {}), 56, 56);
  EXPECT_EQ(shapes[12].height, 1);  // 56 28 14 7 3 1
  EXPECT_EQ(shapes[9].height, 3);
  EXPECT_EQ(shapes[12].channels, 512);
}

TEST(InferShapes, ThirtyTwoIsTheSmallestCropAndTheErrorNamesTheLayer) {
  const auto network = *MakeNetwork("vgg-a", {});
  EXPECT_TRUE(InferShapes(network, 32, 32).has_value());
  const auto shapes = InferShapes(network, 31, 31);
  ASSERT_FALSE(shapes.has_value());
  EXPECT_NE(shapes.error().message.find("pool5"), std::string::npos) << shapes.error().message;
}

TEST(TorchvisionName, CountsPlacesAsItsSequentialDoes) {
  const auto a = *MakeNetwork("vgg-a", {}), d = *MakeNetwork("vgg-d", {});
  EXPECT_EQ(*TorchvisionName(a, "conv1_1.weight"), "features.0.weight");
  EXPECT_EQ(*TorchvisionName(a, "conv2_1.bias"), "features.3.bias");
  EXPECT_EQ(*TorchvisionName(a, "conv5_2.weight"), "features.18.weight");
  EXPECT_EQ(*TorchvisionName(d, "conv5_3.weight"), "features.28.weight");
  EXPECT_EQ(*TorchvisionName(d, "fc6.weight"), "classifier.0.weight");
  EXPECT_EQ(*TorchvisionName(d, "fc7.bias"), "classifier.3.bias");
  EXPECT_EQ(*TorchvisionName(d, "fc8.weight"), "classifier.6.weight");
  EXPECT_FALSE(TorchvisionName(a, "conv1_2.weight").has_value());
}

}  // namespace
}  // namespace plateau
