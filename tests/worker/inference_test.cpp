// Networks that are cut in the middle of a branch: only what a layer needs is kept, and it computes what the whole network does.
#include "worker/inference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/nn/canonical_parameters.h"
#include "worker/nn/init.h"

namespace plateau {
namespace {

constexpr int kCrop = 96, kImages = 2;

// Fresh weights, as OpenTrainedModel gives them.
TrainedModel Model(const std::string& name) {
  const Network network = *MakeNetwork(name, {.width = 0.02, .classes = 4});
  CanonicalParameters parameters(ListParameters(network, *InferShapes(network, kCrop, kCrop)));
  InitParameters(parameters, InitScheme{}, 3);
  std::vector<TensorLayout> layouts;
  std::string body;
  for (int p = 0; p < parameters.count(); ++p) {
    layouts.push_back({parameters.info(p).name, TensorType::kF32, parameters.info(p).shape});
    body.append(reinterpret_cast<const char*>(parameters.weight(p).data()), parameters.weight(p).size_bytes());
  }
  TrainedModel model{.folder = "runs/a", .network = network};
  model.identity.preprocessing.crop = kCrop;
  model.weights = *SafetensorsFile::Parse(SafetensorsHeader(layouts, {}) + body, "runs/a/model.safetensors");
  return model;
}

const LayerDef& LayerNamed(const Network& network, const std::string& name) {
  return *std::find_if(network.layers.begin(), network.layers.end(), [&](const LayerDef& layer) { return layer.name == name; });
}

struct Features {
  int values = 0;  // of each image
  std::vector<float> all;
};

Features FeaturesOf(const TrainedModel& model, const std::string& layer) {
  PosixFileSystem files;
  auto inference = Inference::Make(files, model, layer, kImages, 1);
  EXPECT_TRUE(inference.has_value()) << layer << ": " << inference.error().message;
  if (!inference) return {};
  std::vector<float> images(size_t{kImages} * 3 * kCrop * kCrop);
  for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<float>(i * 37 % 251) - 120;
  const auto values = inference->Run(images, kImages);
  return {inference->values(), {values.begin(), values.end()}};
}

TEST(Inference, EveryLayerOfABranchedNetworkGivesFeatures) {
  for (const std::string name : {"googlenet", "resnet-18", "resnet-50"}) {
    const Network network = *MakeNetwork(name, {.width = 0.02, .classes = 4});
    for (const LayerDef& layer : network.layers) {
      if (layer.auxiliary != 0) continue;
      const auto cut = CutNetwork(network, layer.name, kCrop);
      ASSERT_TRUE(cut.has_value()) << cut.error().message;
      const auto engine = CreateCpuEngine(*cut, {.threads = 1, .crop = kCrop});
      EXPECT_TRUE(engine.has_value()) << name << " " << layer.name << ": " << engine.error().message;
    }
  }
}

TEST(Inference, BranchesOfAnInceptionAreThePartsOfItsOutput) {
  const TrainedModel model = Model("googlenet");
  const auto joined = std::find_if(model.network.layers.begin(), model.network.layers.end(),
                                   [](const LayerDef& layer) { return layer.kind == LayerKind::kConcat; });
  ASSERT_NE(joined, model.network.layers.end());
  const Features whole = FeaturesOf(model, joined->name);
  int at = 0;
  float largest = 0;
  for (const int input : joined->inputs) {
    const std::string& name = model.network.layers[static_cast<size_t>(input)].name;
    const Features part = FeaturesOf(model, name);
    for (int image = 0; image < kImages; ++image)
      for (int i = 0; i < part.values; ++i) {
        const float value = part.all[static_cast<size_t>(image * part.values + i)];
        largest = std::max(largest, value);
        EXPECT_NEAR(value, whole.all[static_cast<size_t>(image * whole.values + at + i)], 1e-4F * (1 + value)) << name;
      }
    at += part.values;
  }
  EXPECT_EQ(at, whole.values);
  EXPECT_GT(largest, 1e-3F);
}

TEST(Inference, AShortcutNeedsNothingOfTheBlockBesideIt) {
  const TrainedModel model = Model("resnet-18");
  const std::string name = "layer2.0.downsample.0";
  const Network cut = *CutNetwork(model.network, name, kCrop);
  for (const LayerDef& layer : cut.layers) EXPECT_THAT(layer.name, ::testing::Not(::testing::StartsWith("layer2.0.conv")));
  ASSERT_GE(cut.layers.size(), 2u);
  EXPECT_EQ(cut.layers[cut.layers.size() - 2].name, name);
  const Features features = FeaturesOf(model, name);
  EXPECT_EQ(features.values, LayerNamed(model.network, name).out_channels);
  EXPECT_THAT(features.all, ::testing::Contains(::testing::Not(0.0F)));
}

}  // namespace
}  // namespace plateau
