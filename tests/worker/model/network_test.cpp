// The table of networks against the published counts.
#include "worker/model/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "common/job_spec.h"
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

TEST_P(EveryNetwork, ItsFiguresEqualTheReference) {
  std::string paper = GetParam();
  const bool batch_norm = paper.ends_with("-bn");  // counted from the paper's column below
  if (batch_norm) paper.resize(paper.size() - 3);
  const auto reference = ReadReference("networks.json").at(paper);
  const auto network = MakeNetwork(GetParam(), PaperOptions(GetParam()));
  ASSERT_TRUE(network.has_value()) << network.error().message;
  EXPECT_EQ(network->channels, reference["input"][0]);
  EXPECT_EQ(network->input_side, reference["input"][1]);
  const auto costs = CountCosts(*network, network->input_side, network->input_side);
  ASSERT_TRUE(costs.has_value()) << costs.error().message;
  const NetworkTotals total = SumCosts(*network, *costs);
  int64_t scales_and_shifts = 0;
  for (const LayerDef& layer : network->layers)
    if (batch_norm && layer.kind == LayerKind::kConvolution) scales_and_shifts += 2 * layer.out_channels;
  EXPECT_EQ(total.params - scales_and_shifts, reference["params"]);
  EXPECT_EQ(scales_and_shifts > 0, batch_norm);
  EXPECT_EQ(total.macs, reference["macs"]);
  EXPECT_EQ(total.aux_params, reference.value("aux_params", std::vector<int64_t>{}));
  EXPECT_EQ(total.params_with_aux() - scales_and_shifts, reference.value("params_with_aux", reference["params"].get<int64_t>()));
  if (reference.contains("weight_layers")) {
    EXPECT_EQ(total.weight_layers, reference["weight_layers"]);
  }
  if (reference.contains("train_flop_per_image")) {
    EXPECT_DOUBLE_EQ(TrainFlops(*network, *costs), reference["train_flop_per_image"].get<double>());
  }
}

TEST_P(EveryNetwork, ItsLayersHaveNamesOfTheirOwnAndItsHeadsEveryClass) {
  const auto network = *MakeNetwork(GetParam(), PaperOptions(GetParam()));
  std::set<std::string> names;
  for (const LayerDef& layer : network.layers) EXPECT_TRUE(names.insert(layer.name).second) << layer.name << " stands twice";
  EXPECT_EQ(network.layers.back().out_channels, network.classes);
  EXPECT_EQ(network.layers.back().auxiliary, 0);
  for (const AuxiliaryHead& head : network.auxiliary) EXPECT_EQ(network.layers[head.layer].out_channels, network.classes);
}

TEST_P(EveryNetwork, EveryWidthKeepsChannelsInSixteens) {
  for (const double width : {0.03, 0.25, 1.5}) {
    NetworkOptions options = PaperOptions(GetParam());
    options.width = width;
    const auto network = MakeNetwork(GetParam(), options);
    ASSERT_TRUE(network.has_value()) << network.error().message;
    const auto shapes = InferShapes(*network, network->input_side, network->input_side);
    ASSERT_TRUE(shapes.has_value()) << shapes.error().message;
    for (const LayerDef& layer : network->layers)
      if (layer.out_channels != network->classes) {
        EXPECT_EQ(layer.out_channels % 16, 0) << layer.name << " at width " << width;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, EveryNetwork, testing::ValuesIn(NetworkNames()), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Network, EveryNetworkOfTheReferenceIsThere) {
  const auto networks = ReadReference("networks.json");
  for (const auto& [name, entry] : networks.items())
    if (entry.contains("input")) {
      EXPECT_THAT(NetworkNames(), testing::Contains(name));
    }
}

TEST(Network, TheSpecificationKnowsTheSameNames) { EXPECT_EQ(NetworkNames(), KnownNetworks()); }

TEST(Network, TheVggFactsGiveTheSameCounts) {
  const auto facts = ReadReference("vgg_facts.json");
  for (const auto& [key, params] : facts["params_exact"].items()) {
    std::string name = "vgg-" + key;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    const auto network = *MakeNetwork(name, {});
    const NetworkTotals total = SumCosts(network, *CountCosts(network, 224, 224));
    EXPECT_EQ(total.params, params) << name;
    if (facts["macs_224"].contains(key)) {
      EXPECT_EQ(total.macs, facts["macs_224"][key]) << name;
    }
  }
}

TEST(Accounting, EveryRowOfTheLecturesAlexNetTable) {
  const auto reference = ReadReference("networks.json");
  const auto network = *MakeNetwork("alexnet", {});
  const auto costs = *CountCosts(network, 227, 227);
  size_t rows = 0;
  for (const auto& [name, row] : reference["alexnet_lecture_table_227"].items()) {
    if (name == "_note") continue;
    ++rows;
    const auto layer = std::find_if(network.layers.begin(), network.layers.end(), [&](const LayerDef& l) { return l.name == name; });
    ASSERT_NE(layer, network.layers.end()) << name;
    const LayerCost& cost = costs[layer - network.layers.begin()];
    const std::vector<int> out = row["out"];
    EXPECT_EQ(cost.output.channels, out[0]) << name;
    EXPECT_EQ(cost.output.height, out.size() > 1 ? out[1] : 1) << name;
    EXPECT_EQ(cost.output.width, out.size() > 1 ? out[2] : 1) << name;
    EXPECT_DOUBLE_EQ(cost.output_bytes / 1024.0, row["memory_kb"].get<double>()) << name;
    EXPECT_EQ(cost.params, row["params"]) << name;
    if (row.contains("macs")) {
      EXPECT_EQ(cost.macs, row["macs"]) << name;
    }
    if (row.contains("macs_with_bias")) {
      EXPECT_EQ(cost.macs + cost.bias_adds, row["macs_with_bias"]) << name;
    }
    if (row.contains("compares")) {
      EXPECT_EQ(cost.compares, row["compares"]) << name;
    }
  }
  EXPECT_EQ(rows, network.layers.size());
  const auto smaller = *CountCosts(network, 224, 224);
  EXPECT_EQ(SumCosts(network, smaller).macs, reference["alexnet"]["at_224"]["macs"]);
  EXPECT_EQ(smaller[0].output.height, reference["alexnet"]["at_224"]["conv1_output"]);
}

TEST(Accounting, TheSlidesTotalsOfConfigurationD) {
  const auto network = *MakeNetwork("vgg-d", {});
  const auto costs = *CountCosts(network, 224, 224);
  int64_t bytes = 0;
  for (const KindShare& share : SharesByKind(network, costs))
    if (share.kind != LayerKind::kMaxPool) bytes += share.output_bytes;
  EXPECT_NEAR(static_cast<double>(bytes) / (1 << 20), 51.71, 0.005);
}

TEST(Accounting, ReceptiveFieldsGrowWithWindowsAndStrides) {
  const auto field = [](const std::string& name, const std::string& layer_name) {
    const auto network = *MakeNetwork(name, {});
    const auto costs = *CountCosts(network, network.input_side, network.input_side);
    for (size_t i = 0; i < costs.size(); ++i)
      if (network.layers[i].name == layer_name) return costs[i].receptive_field;
    return -1;
  };
  EXPECT_EQ(field("vgg-d", "conv1_2"), 5);
  EXPECT_EQ(field("vgg-d", "conv5_3"), 196);
  EXPECT_EQ(field("vgg-d", "pool5"), 212);
  EXPECT_EQ(field("vgg-d", "fc6"), 212 + 6 * 32);
  EXPECT_EQ(field("alexnet", "conv5"), 163);
  EXPECT_EQ(field("alexnet", "pool5"), 195);
  EXPECT_EQ(field("resnet-18", "layer4.1.add"), 435);
  EXPECT_EQ(field("googlenet", "inception_3a/output"), 59);  // of its 5x5 branch: 27 + 4 * 8
}

TEST(Accounting, TrainingMemoryCountsEveryTensorOnce) {
  const auto network = *MakeNetwork("lenet", PaperOptions("lenet"));
  const auto costs = *CountCosts(network, 28, 28);
  const int64_t values = 784 + 4704 + 1176 + 1600 + 400 + 120 + 84 + 10;
  const TrainingMemory fp32 = EstimateTrainingMemory(network, costs, 28, 28, 3, SummaryPrecision::kFp32);
  EXPECT_EQ(fp32.parameters, 61706 * 12);
  EXPECT_EQ(fp32.activations, 3 * values * 4);
  EXPECT_EQ(fp32.gradients, 3 * (4704 + 1176) * 4);  // the first pool
  const TrainingMemory bf16 = EstimateTrainingMemory(network, costs, 28, 28, 3, SummaryPrecision::kBf16);
  EXPECT_EQ(bf16.parameters, 61706 * 14);
  EXPECT_EQ(bf16.total(), 61706 * 14 + 3 * 2 * (values + 4704 + 1176));
}

TEST(Network, GoogLeNetsHeadsReadTheOutputsOf4aAnd4d) {
  const auto network = *MakeNetwork("googlenet", {});
  ASSERT_EQ(network.auxiliary.size(), 2u);
  for (const auto& [head, from] : {std::pair(0, "inception_4a/output"), std::pair(1, "inception_4d/output")}) {
    int layer = network.auxiliary[head].layer;
    EXPECT_EQ(network.auxiliary[head].loss_weight, 0.3);
    for (; network.layers[layer].auxiliary == head + 1; layer = network.layers[layer].inputs[0])
      if (network.layers[layer].name.ends_with("/fc")) {
        EXPECT_EQ(network.layers[layer].dropout, 0.7);
      }
    EXPECT_EQ(network.layers[layer].name, from);
    EXPECT_EQ(network.layers[layer].auxiliary, 0);
  }
  // Nothing of the main path reads an auxiliary layer.
  for (const LayerDef& layer : network.layers)
    for (const int input : layer.inputs)
      if (input >= 0 && network.layers[input].auxiliary > 0) {
        EXPECT_GT(layer.auxiliary, 0) << layer.name;
      }
  EXPECT_EQ(network.layers[network.layers.size() - 2].dropout, 0.4);
  const auto without = *MakeNetwork("googlenet", {.dropout = 0});
  for (const LayerDef& layer : without.layers) EXPECT_EQ(layer.dropout, 0) << layer.name;
}

TEST(Network, ConfigurationALrnNormalisesBehindItsFirstConvolution) {
  const auto network = *MakeNetwork("vgg-a-lrn", {});
  EXPECT_EQ(network.layers[1].kind, LayerKind::kLrn);
  EXPECT_TRUE(network.layers[0].relu);
  EXPECT_EQ(network.layers[2].name, "pool1");
  const LrnDef lrn = network.layers[1].lrn;
  EXPECT_EQ(std::tuple(lrn.size, lrn.k, lrn.alpha, lrn.beta), std::tuple(5, 2.0, 1e-4, 0.75));
}

TEST(Network, BatchNormStandsBetweenAVggConvolutionAndItsRelu) {
  const auto network = *MakeNetwork("vgg-b-bn", {});
  for (size_t i = 0; i < network.layers.size(); ++i) {
    if (network.layers[i].kind != LayerKind::kConvolution) continue;
    EXPECT_FALSE(network.layers[i].relu);
    EXPECT_TRUE(network.layers[i].bias);
    EXPECT_EQ(network.layers[i + 1].kind, LayerKind::kBatchNorm);
    EXPECT_TRUE(network.layers[i + 1].relu);
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
  const auto name = [](const std::string& network, const std::string& parameter) {
    return *TorchvisionName(*MakeNetwork(network, {}), parameter);
  };
  EXPECT_EQ(name("vgg-a", "conv1_1.weight"), "features.0.weight");
  EXPECT_EQ(name("vgg-a", "conv2_1.bias"), "features.3.bias");
  EXPECT_EQ(name("vgg-a", "conv5_2.weight"), "features.18.weight");
  EXPECT_EQ(name("vgg-d", "conv5_3.weight"), "features.28.weight");
  EXPECT_EQ(name("vgg-d", "fc6.weight"), "classifier.0.weight");
  EXPECT_EQ(name("vgg-d", "fc7.bias"), "classifier.3.bias");
  EXPECT_EQ(name("vgg-d", "fc8.weight"), "classifier.6.weight");
  EXPECT_EQ(name("vgg-a-bn", "conv1_1.bias"), "features.0.bias");
  EXPECT_EQ(name("vgg-a-bn", "bn1_1.running_mean"), "features.1.running_mean");
  EXPECT_EQ(name("vgg-a-bn", "conv2_1.weight"), "features.4.weight");
  EXPECT_EQ(name("vgg-a-bn", "bn5_2.weight"), "features.26.weight");
  EXPECT_EQ(name("alexnet", "conv3.weight"), "features.6.weight");
  EXPECT_EQ(name("alexnet", "conv5.weight"), "features.10.weight");
  EXPECT_EQ(name("alexnet", "fc6.weight"), "classifier.1.weight");
  EXPECT_EQ(name("alexnet", "fc7.weight"), "classifier.4.weight");
  EXPECT_EQ(name("alexnet", "fc8.bias"), "classifier.6.bias");
  EXPECT_EQ(name("resnet-50", "layer2.0.downsample.1.running_var"), "layer2.0.downsample.1.running_var");
  EXPECT_EQ(TorchvisionName(*MakeNetwork("vgg-a", {}), "conv1_2.weight").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(TorchvisionName(*MakeNetwork("resnet-18", {}), "layer2.0.conv3.weight").error().code, ErrorCode::kNotFound);
}

TEST(TorchvisionName, NetworksWithoutATwinAreRefusedWithThoseThatHaveOne) {
  EXPECT_EQ(*TorchvisionModel("vgg-e-bn"), "vgg19_bn");
  EXPECT_EQ(*TorchvisionModel("resnet-152"), "resnet152");
  for (const std::string name : {"vgg-c", "vgg-a-lrn", "googlenet", "zfnet", "lenet"}) {
    const auto refused = TorchvisionName(*MakeNetwork(name, {}), "conv1_1.weight");
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(refused.error().message.find("vgg-a-bn"), std::string::npos) << refused.error().message;
  }
}

}  // namespace
}  // namespace plateau
