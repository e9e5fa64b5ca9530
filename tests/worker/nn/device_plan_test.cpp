// Layouts and lives of buffers on a device, and the bytes that follow from them.
#include "worker/nn/device_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/worker/backend/dag_fixture.h"
#include "worker/model/accounting.h"

namespace plateau {
namespace {

DevicePlan Lay(const Network& network, int side, bool training, Precision precision = Precision::kFp32, int batch = 4) {
  return LayOutPlan(network, *InferShapes(network, side, side),
                    {.batch = batch, .height = side, .width = side, .training = training}, precision);
}

Network Known(const std::string& name, double width = 1) { return *MakeNetwork(name, {.width = width}); }

int Find(const Network& network, const std::string& name) {
  const auto found = std::ranges::find(network.layers, name, &LayerDef::name);
  EXPECT_NE(found, network.layers.end()) << name;
  return static_cast<int>(found - network.layers.begin());
}

TEST(DevicePlan, BuffersThatLiveAtOnceNeverOverlap) {
  const std::vector<std::pair<Network, int>> cases = {{InceptionNetwork(7), 32}, {ResidualNetwork(7), 32}, {TangledNetwork(7), 16},
                                                      {DirectNetwork(7), 12},    {Known("vgg-d"), 224},    {Known("googlenet"), 224},
                                                      {Known("resnet-50"), 224}};
  for (const auto& [network, side] : cases) {
    for (const bool training : {true, false}) {
      const DevicePlan plan = Lay(network, side, training);
      ASSERT_EQ(plan.memory.offsets.size(), plan.uses.size());
      for (size_t a = 0; a < plan.uses.size(); ++a) {
        const BufferUse& one = plan.uses[a];
        EXPECT_LE(one.first, one.last);
        EXPECT_LE(plan.memory.offsets[a] + one.bytes, plan.memory.total_bytes);
        for (size_t b = 0; b < a; ++b) {
          const BufferUse& other = plan.uses[b];
          if (one.last < other.first || other.last < one.first) continue;
          const size_t begin = std::max(plan.memory.offsets[a], plan.memory.offsets[b]);
          const size_t end = std::min(plan.memory.offsets[a] + one.bytes, plan.memory.offsets[b] + other.bytes);
          EXPECT_GE(begin, end) << network.name << " buffers " << a << " and " << b;
        }
      }
    }
  }
}

TEST(DevicePlan, AReluInFrontOfAPoolIsMetByThePoolAndItsMapIsNotKept) {
  const Network network = Known("vgg-a");
  const DevicePlan plan = Lay(network, 224, true);
  const auto at = [&](const char* name) -> const DeviceLayer& { return plan.layers[static_cast<size_t>(Find(network, name))]; };
  EXPECT_EQ(at("conv1_1").mask, GradientMask::kNone);
  EXPECT_TRUE(at("pool1").shuts);
  EXPECT_TRUE(at("conv1_1").pooled_bias);
  EXPECT_EQ(plan.uses[static_cast<size_t>(at("conv1_1").value)].last, Find(network, "pool1") + 1);
  EXPECT_EQ(at("conv3_1").mask, GradientMask::kReader);
  EXPECT_FALSE(at("conv3_1").pooled_bias);
  EXPECT_EQ(at("fc6").mask, GradientMask::kReader);
  EXPECT_EQ(at("fc8").mask, GradientMask::kNone);
  EXPECT_FALSE(at("conv1_1").data_gradient);
  EXPECT_TRUE(at("conv2_1").data_gradient);
  for (const DeviceLayer& layer : plan.layers) EXPECT_FALSE(layer.combines);
}

TEST(DevicePlan, ReluOfJoinsAreMetOnceBehindThem) {
  const Network network = InceptionNetwork(7);
  const DevicePlan plan = Lay(network, 32, true);
  int joins = 0;
  for (size_t layer = 0; layer < plan.layers.size(); ++layer) {
    const DeviceLayer& at = plan.layers[layer];
    if (network.layers[layer].kind == LayerKind::kConcat) {
      ++joins;
      EXPECT_TRUE(at.mask == GradientMask::kOwn);
      continue;
    }
    const bool joined = std::ranges::any_of(at.readers, [&](const DeviceReader& reader) {
      return network.layers[static_cast<size_t>(reader.layer)].kind == LayerKind::kConcat;
    });
    if (joined) {
      EXPECT_EQ(at.mask, GradientMask::kNone);
    }
  }
  EXPECT_EQ(joins, 3);
}

TEST(DevicePlan, AJoinOfWhatIsNotAllReluMeetsNone) {
  const Network network = TangledNetwork(7);  // joins two convolutions, one without ReLU, and a sum
  const DevicePlan plan = Lay(network, 16, true);
  const auto join = static_cast<size_t>(
      std::ranges::find(network.layers, LayerKind::kConcat, &LayerDef::kind) - network.layers.begin());
  EXPECT_EQ(plan.layers[join].mask, GradientMask::kNone);
  const int odd = network.layers[join].inputs[0];
  EXPECT_TRUE(network.layers[static_cast<size_t>(odd)].relu);
  EXPECT_EQ(plan.layers[static_cast<size_t>(odd)].mask, GradientMask::kOwn);
}

TEST(DevicePlan, AnEvaluationPlanKeepsNothingAndLeavesAuxiliaryLayersOut) {
  const Network network = Known("googlenet");
  const DevicePlan test = Lay(network, 224, false), training = Lay(network, 224, true);
  EXPECT_LT(test.memory.total_bytes, training.memory.total_bytes / 3);
  EXPECT_EQ(test.heads.size(), 1u);
  EXPECT_EQ(training.heads.size(), 3u);
  for (size_t layer = 0; layer < test.layers.size(); ++layer) {
    EXPECT_EQ(test.layers[layer].present, network.layers[layer].auxiliary == 0);
    EXPECT_LT(test.layers[layer].gradient, 0);
  }
}

TEST(DeviceMemory, OfVggDAtItsPapersBatch) {
  const Network network = Known("vgg-d");
  const PlanOptions options{.batch = 256, .height = 224, .width = 224, .training = true};
  const auto bf16 = PredictMemory(network, 224, options, Precision::kBf16, 256);
  const auto fp32 = PredictMemory(network, 224, options, Precision::kFp32, 256);
  ASSERT_TRUE(bf16.has_value() && fp32.has_value());
  const auto params = static_cast<uint64_t>(SumCosts(network, *CountCosts(network, 224, 224)).params);
  EXPECT_GE(fp32->weights, 4 * params);
  EXPECT_LT(fp32->weights, 4 * params + 65536);  // five channels more in conv1_1, and gaps
  EXPECT_EQ(fp32->gradients, fp32->weights);
  EXPECT_EQ(fp32->copy, 0u);
  EXPECT_EQ(bf16->copy, bf16->weights / 2);
  // All outputs of bf16 take 7.7 GB; those in front of pools are not kept, and gradients take their places.
  EXPECT_GT(bf16->arena, uint64_t{5} << 30);
  EXPECT_LT(bf16->arena, uint64_t{9} << 30);
  EXPECT_GT(fp32->arena, bf16->arena * 19 / 10);
  EXPECT_EQ(bf16->batches, 4 * uint64_t{256} * (3 * 224 * 224 + sizeof(PixelScale) + 16)) << "two to train on, two to validate on";
  EXPECT_EQ(bf16->total(), bf16->weights * 3 + bf16->copy + bf16->arena + bf16->workspace + bf16->rows + bf16->batches);
  const auto test = PredictMemory(network, 224, {.batch = 256, .height = 224, .width = 224, .training = false}, Precision::kBf16, 0);
  ASSERT_TRUE(test.has_value());
  EXPECT_EQ(test->momenta + test->gradients + test->batches, 0u);
}

TEST(DeviceMemory, TheLargestBatchFitsAndTheNextDoesNot) {
  for (const char* name : {"vgg-a", "resnet-50", "googlenet"}) {
    const Network network = Known(name);
    PlanOptions options{.batch = 1, .height = 224, .width = 224, .training = true};
    for (const uint64_t bytes : {uint64_t{4} << 30, uint64_t{24} << 30, uint64_t{80} << 30}) {
      options.batch = 1;
      options.batch = LargestBatch(network, 224, options, Precision::kBf16, bytes);
      ASSERT_GT(options.batch, 0) << name;
      EXPECT_LE(PredictMemory(network, 224, options, Precision::kBf16, options.batch)->total(), bytes);
      ++options.batch;
      EXPECT_GT(PredictMemory(network, 224, options, Precision::kBf16, options.batch)->total(), bytes);
    }
    EXPECT_EQ(LargestBatch(network, 224, options, Precision::kBf16, 1000), 0);
  }
}

TEST(DeviceMemory, ARankThatDoesNotFitAtOnceIsCutIntoAsFewLanesAsDo) {
  const Network network = Known("vgg-d");
  const PlanOptions rank{.batch = 256, .height = 224, .width = 224, .training = true};
  for (const uint64_t bytes : {uint64_t{5} << 30, uint64_t{6} << 30, uint64_t{7} << 30}) {
    const int lane_rows = LargestBatch(network, 224, rank, Precision::kBf16, bytes);
    ASSERT_GT(lane_rows, 0);
    ASSERT_LT(lane_rows, 256);
    const int lanes = (256 + lane_rows - 1) / lane_rows;
    PlanOptions lane = rank;
    for (int fewer = 1; fewer <= lanes; ++fewer) {
      lane.batch = (256 + fewer - 1) / fewer;
      const auto memory = PredictMemory(network, 224, lane, Precision::kBf16, 256);
      EXPECT_EQ(memory->total() <= bytes, fewer == lanes) << fewer << " lanes of " << lane.batch;
      EXPECT_EQ(memory->branches, (fewer == 1 ? 0 : fewer == 2 ? 1 : fewer <= 4 ? 2 : fewer <= 8 ? 3 : fewer <= 16 ? 4 : 5) * memory->gradients);
    }
  }
}

TEST(DeviceMemory, TheLargestRankFitsInSomeCutAndTheNextInNone) {
  const Network network = Known("vgg-d");
  const PlanOptions rank{.batch = 100'000, .height = 224, .width = 224, .training = true};
  for (const uint64_t bytes : {uint64_t{5} << 30, uint64_t{7} << 30}) {
    const int most = MostRows(network, 224, rank, Precision::kBf16, bytes);
    ASSERT_GT(most, 256);
    ASSERT_LT(most, rank.batch);
    PlanOptions largest = rank, larger = rank;
    largest.batch = most;
    larger.batch = most + 1;
    EXPECT_GT(LargestBatch(network, 224, largest, Precision::kBf16, bytes), 0);
    EXPECT_EQ(LargestBatch(network, 224, larger, Precision::kBf16, bytes), 0);
    EXPECT_LE(LeastMemory(network, 224, largest, Precision::kBf16)->memory.total(), bytes);
    EXPECT_GT(LeastMemory(network, 224, larger, Precision::kBf16)->memory.total(), bytes);
  }
  EXPECT_EQ(MostRows(network, 224, rank, Precision::kBf16, 1000), 0);
}

TEST(DeviceMemory, ALeastCutTakesNoMoreThanAnyOther) {
  const Network network = Known("vgg-a");
  PlanOptions rank{.batch = 48, .height = 224, .width = 224, .training = true};
  const auto least = LeastMemory(network, 224, rank, Precision::kBf16);
  ASSERT_TRUE(least.has_value());
  EXPECT_GE(least->lanes * least->lane_rows, 48);
  for (int rows = 1; rows <= 48; ++rows) {
    PlanOptions lane = rank;
    lane.batch = rows;
    EXPECT_GE(PredictMemory(network, 224, lane, Precision::kBf16, 48)->total(), least->memory.total()) << rows;
  }
}

TEST(DeviceMemory, LibrariesAreLeftMoreWhereNcclMayBeOneOfThem) {
  EXPECT_EQ(PlanningBytes(uint64_t{80} << 30, false), uint64_t{79} << 30);
  EXPECT_EQ(PlanningBytes(uint64_t{80} << 30, true), uint64_t{78} << 30);
  EXPECT_EQ(PlanningBytes(uint64_t{8} << 30, false), (uint64_t{15} << 30) / 2);
  EXPECT_EQ(PlanningBytes(uint64_t{8} << 30, true), uint64_t{7} << 30);
}

TEST(DeviceMemory, RefusesWhatAnEngineWould) {
  const Network network = Known("vgg-a");
  EXPECT_FALSE(PredictMemory(network, 31, {.height = 31, .width = 31}, Precision::kFp32, 1).has_value());
  EXPECT_FALSE(PredictMemory(network, 224, {.height = 256, .width = 256}, Precision::kFp32, 1).has_value());
}

}  // namespace
}  // namespace plateau
