// Warm starts on networks of sixteen channels: which tensors are taken, folded, skipped or refused.
#include "worker/train/warm_start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "common/checksum.h"
#include "worker/nn/canonical_parameters.h"
#include "worker/nn/init.h"
#include "worker/nn/plan.h"

namespace plateau {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kCrop = 32, kClasses = 4;

Network Tiny(const std::string& name, int classes = kClasses, double width = 0.02) {
  return *MakeNetwork(name, {.width = width, .classes = classes});
}

CanonicalParameters Fresh(const Network& network, uint64_t seed) {
  CanonicalParameters parameters(ListParameters(network, *InferShapes(network, kCrop, kCrop)));
  InitParameters(parameters, InitScheme{}, seed);
  for (int p = 0; p < parameters.count(); ++p)
    for (float& v : parameters.momentum(p)) v = 0.25F;
  return parameters;
}

// A model as OpenTrainedModel gives it.
TrainedModel Model(const Network& network, uint64_t seed, const Preprocessing& preprocessing = {}) {
  CanonicalParameters parameters = Fresh(network, seed);
  std::vector<TensorLayout> layouts;
  std::string body;
  for (int p = 0; p < parameters.count(); ++p) {
    layouts.push_back({parameters.info(p).name, TensorType::kF32, parameters.info(p).shape});
    body.append(reinterpret_cast<const char*>(parameters.weight(p).data()), parameters.weight(p).size_bytes());
  }
  TrainedModel model{.folder = "runs/a", .network = network};
  model.identity.preprocessing = preprocessing;
  model.weights = *SafetensorsFile::Parse(SafetensorsHeader(layouts, {}) + body, "runs/a/model.safetensors");
  return model;
}

JobSpec::InitFrom From(std::vector<std::string> layers, const std::string& on_mismatch = "refuse") {
  return {.checkpoint = "runs/a", .layers = std::move(layers), .on_mismatch = on_mismatch};
}

// Name -> checksum of each tensor of the store.
std::map<std::string, std::string> Checksums(ParameterStore& store) {
  std::map<std::string, std::string> all;
  for (int p = 0; p < store.count(); ++p) {
    const auto values = store.weight(p);
    all[store.info(p).name] = ChecksumText(Checksum({reinterpret_cast<const char*>(values.data()), values.size_bytes()}));
  }
  return all;
}

TEST(WarmStart, TheDeepNetTakesTheFirstFourConvolutionsAndTheFullyConnectedLayersOfA) {
  const Network a = Tiny("vgg-a"), b = Tiny("vgg-b");
  const TrainedModel source = Model(a, 1);
  CanonicalParameters trained = Fresh(a, 1), store = Fresh(b, 2);
  const auto of_a = Checksums(trained), fresh = Checksums(store);
  const auto start = TakeWeights(source, From({"vgg-first4-fc3"}), b, {}, store);
  ASSERT_TRUE(start.has_value()) << start.error().message;
  const std::set<std::string> taken_layers{"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"};
  const auto after = Checksums(store);
  size_t taken = 0;
  for (const auto& [name, checksum] : after) {
    const bool from_a = taken_layers.contains(name.substr(0, name.find('.')));
    EXPECT_EQ(checksum, from_a ? of_a.at(name) : fresh.at(name)) << name;
    taken += from_a;
  }
  EXPECT_EQ(taken, 14u);
  ASSERT_EQ(start->taken.size(), 14u);
  for (const auto& [name, checksum] : start->taken) EXPECT_EQ(checksum, of_a.at(name));
  EXPECT_FALSE(start->folded);
  for (int p = 0; p < store.count(); ++p) EXPECT_EQ(store.momentum(p)[0], 0.25F);
  const auto json = nlohmann::json::parse(WarmStartJson(*start));
  EXPECT_EQ(json["tensors"]["fc7.weight"], of_a.at("fc7.weight"));
  EXPECT_EQ(json["tensors"].size(), 14u);
}

TEST(WarmStart, AllTakesEveryTensorBatchNormsAveragesIncluded) {
  const Network network = Tiny("resnet-18");
  const TrainedModel source = Model(network, 1);
  CanonicalParameters trained = Fresh(network, 1), store = Fresh(network, 2);
  ASSERT_TRUE(TakeWeights(source, From({"all"}), network, {}, store).has_value());
  EXPECT_EQ(Checksums(store), Checksums(trained));
  EXPECT_TRUE(Checksums(store).contains("layer1.0.bn1.running_var"));
}

TEST(WarmStart, AnotherClassCountIsRefusedByNameOrSkipped) {
  const TrainedModel source = Model(Tiny("vgg-a", 10), 1);
  const Network here = Tiny("vgg-a", 4);
  CanonicalParameters store = Fresh(here, 2);
  const auto before = Checksums(store);
  const auto refused = TakeWeights(source, From({"all"}), here, {}, store);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidInput);
  for (const char* part : {"layer fc8", "fc8.weight is [10,80] there and [4,80] here", "on_mismatch: skip", "runs/a"})
    EXPECT_THAT(refused.error().message, HasSubstr(part));
  const auto skipped = TakeWeights(source, From({"all"}, "skip"), here, {}, store);
  ASSERT_TRUE(skipped.has_value()) << skipped.error().message;
  EXPECT_THAT(skipped->skipped, ElementsAre(HasSubstr("fc8")));
  EXPECT_EQ(Checksums(store).at("fc8.weight"), before.at("fc8.weight"));
  EXPECT_NE(Checksums(store).at("fc7.weight"), before.at("fc7.weight"));
}

TEST(WarmStart, WhatCannotBeTakenIsNamed) {
  const Network a = Tiny("vgg-a"), d = Tiny("vgg-d");
  const TrainedModel source = Model(a, 1);
  CanonicalParameters store = Fresh(d, 2);
  const auto error = [&](const JobSpec::InitFrom& from) {
    const auto start = TakeWeights(source, from, d, {}, store);
    return start ? std::string("accepted") : start.error().message;
  };
  EXPECT_THAT(error(From({"conv1_9"})), HasSubstr("vgg-d has no layer conv1_9"));
  EXPECT_THAT(error(From({"conv1_9"})), HasSubstr("did you mean conv1_"));
  EXPECT_THAT(error(From({"pool1"})), HasSubstr("no layer pool1 with weights"));
  EXPECT_THAT(error(From({"conv1_2"})), HasSubstr("conv1_2.weight is not in vgg-a"));
  EXPECT_THAT(error(From({"conv1_2"}, "skip")), HasSubstr("no layer of runs/a fits vgg-d"));
  EXPECT_EQ(error(From({"fc6", "conv2_1"})), "accepted");
}

// Logits of a network whose weights are `store`'s.
std::vector<float> Logits(const Network& network, ParameterStore& store, const std::vector<float>& images) {
  auto engine = *CreateCpuEngine(network, {.threads = 1, .crop = kCrop});
  for (int p = 0; p < store.count(); ++p) engine->parameters().FromCanonical(p, store.weight(p), engine->parameters().weight(p));
  engine->parameters().WeightsChanged();
  Plan* plan = *engine->Compile({.batch = 2, .height = kCrop, .width = kCrop, .training = false});
  const std::vector<int32_t> labels(2);
  const std::vector<float> ones(2, 1);
  const std::vector<uint64_t> index(2);
  plan->Forward({images, labels, ones, index}, 0);
  return {plan->logits().begin(), plan->logits().end()};
}

TEST(WarmStart, AnotherStandardDeviationIsFoldedIntoTheFirstLayer) {
  const Network a = Tiny("vgg-a");
  const Preprocessing centred{.mean = {120, 110, 100}}, divided{.mean = {120, 110, 100}, .standard_deviation = {64, 50, 75.5F}};
  CanonicalParameters store = Fresh(a, 2);
  const TrainedModel source = Model(a, 1, centred);
  const auto start = TakeWeights(source, From({"all"}), a, divided, store);
  ASSERT_TRUE(start.has_value()) << start.error().message;
  EXPECT_TRUE(start->folded);
  // The same pixels as either run sees them.
  std::vector<float> as_centred(2 * 3 * kCrop * kCrop), as_divided = as_centred;
  for (size_t i = 0; i < as_centred.size(); ++i) {
    const size_t channel = i / (kCrop * kCrop) % 3;
    as_centred[i] = static_cast<float>(i * 37 % 256) - centred.mean[channel];
    as_divided[i] = as_centred[i] / divided.standard_deviation[channel];
  }
  CanonicalParameters unchanged = Fresh(a, 1);
  const auto right = Logits(a, unchanged, as_centred), folded = Logits(a, store, as_divided);
  ASSERT_EQ(right.size(), folded.size());
  for (size_t i = 0; i < right.size(); ++i) EXPECT_NEAR(folded[i], right[i], 1e-4 * (1 + std::abs(right[i])));
}

TEST(WarmStart, AnotherMeanIsRefusedUnlessTheFirstLayerStaysFresh) {
  const Network a = Tiny("vgg-a");
  const TrainedModel source = Model(a, 1, {.mean = {120, 110, 100}});
  CanonicalParameters store = Fresh(a, 2);
  const Preprocessing here{.mean = {120, 111, 100}};
  const auto refused = TakeWeights(source, From({"all"}), a, here, store);
  ASSERT_FALSE(refused.has_value());
  for (const char* part : {"mean 110.000 from channel 1", "subtracts 111.000", "padding is zero", "behind conv1_1",
                           "on_mismatch: skip to leave conv1_1 at fresh weights"})
    EXPECT_THAT(refused.error().message, HasSubstr(part));
  EXPECT_TRUE(TakeWeights(source, From({"conv2_1", "fc6"}), a, here, store).has_value());
}

TEST(WarmStart, SkipLeavesTheLayerThatReadsAnotherMeanFresh) {
  for (const std::string name : {"vgg-a", "resnet-18"}) {
    const Network network = Tiny(name);
    const std::string first = name == "vgg-a" ? "conv1_1." : "conv1.";
    const TrainedModel source = Model(network, 1, {.mean = {120, 110, 100}});
    CanonicalParameters trained = Fresh(network, 1), store = Fresh(network, 2);
    const auto there = Checksums(trained), fresh = Checksums(store);
    const Preprocessing here{.mean = {120, 111, 100}, .standard_deviation = {64, 50, 75.5F}};
    const auto start = TakeWeights(source, From({"all"}, "skip"), network, here, store);
    ASSERT_TRUE(start.has_value()) << start.error().message;
    EXPECT_THAT(start->skipped, ElementsAre(HasSubstr("runs/a subtracted the mean 110.000 from channel 1, this run subtracts 111.000")));
    EXPECT_FALSE(start->folded);
    for (const auto& [tensor, checksum] : Checksums(store))
      EXPECT_EQ(checksum, tensor.starts_with(first) ? fresh.at(tensor) : there.at(tensor)) << tensor;
  }
}

}  // namespace
}  // namespace plateau
