// What the emulated engines do on purpose, so that filters, fallbacks and limits of the code above them have something to meet.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/support/cuda/emulation.h"
#include "tests/support/cudnn_calls.h"
#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {
namespace {

constexpr int64_t kX = 1, kW = 2, kY = 3, kBias = 4, kRaw = 5, kSum = 6;
constexpr int64_t kDirect = 0, kTensorCore = 1, kRuntimeFusion = 2, kAtomics = 4, kOtherChip = 5, kDownConvert = 6;  // engines
using testing::Contains;
using testing::IsEmpty;
using testing::Not;

class EngineTest : public testing::Test {
 protected:
  void SetUp() override {
    emulated::Reset();
    ASSERT_EQ(cudnnCreate(&handle_), CUDNN_STATUS_SUCCESS);
    ASSERT_EQ(cudnnSetStream(handle_, stream_.get()), CUDNN_STATUS_SUCCESS);
  }
  void TearDown() override { cudnnDestroy(handle_); }

  DeviceBuffer Random(size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<float> values(count);
    for (float& value : values) value = std::uniform_real_distribution<float>(-1, 1)(random);
    DeviceBuffer buffer(count * sizeof(float));
    CopyToDevice(buffer.data(), values.data(), buffer.bytes(), stream_.get());
    stream_.Wait();
    return buffer;
  }
  std::vector<float> Download(const DeviceBuffer& buffer) {
    std::vector<float> values(buffer.bytes() / sizeof(float));
    CopyToHost(values.data(), buffer.data(), buffer.bytes(), stream_.get());
    stream_.Wait();
    return values;
  }

  CudnnCallPtr Engine(const CudnnCall& graph, int64_t index) {
    auto engine = std::make_unique<CudnnCall>(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    engine->Set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph).Set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, index).Finalize();
    return engine;
  }
  CudnnCallPtr Plan(const CudnnCall& graph, int64_t index, int64_t split = 1) {
    CudnnCall config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR), knob(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    config.Set(CUDNN_ATTR_ENGINECFG_ENGINE, *Engine(graph, index));
    knob.Set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, CUDNN_KNOB_TYPE_SPLIT_K_SLC)
        .Set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, split)
        .Finalize();
    if (split > 1) config.Set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, knob);
    config.Finalize();
    return CudnnPlanCall(handle_, config);
  }

  Stream stream_;
  cudnnHandle_t handle_ = nullptr;
};

double RelativeError(const std::vector<float>& got, const std::vector<float>& wanted) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - wanted[i], 2);
    norm += std::pow(static_cast<double>(wanted[i]), 2);
  }
  return std::sqrt(difference / norm);
}

// A convolution of 8 to 16 channels at 6x6, two images, in its three passes, in float.
class PassTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    forward_ = CudnnGraphCall(handle_, {CudnnForwardCall(*convolution_, *x_call_, *w_call_, *y_call_).get()});
    filter_ = CudnnGraphCall(handle_, {CudnnBackwardFilterCall(*convolution_, *x_call_, *y_call_, *w_call_).get()});
    x_ = Random(2 * 8 * 36, 1), w_ = Random(16 * 8 * 9, 2), y_ = Random(2 * 16 * 36, 3);
  }
  std::vector<float> Forward(const CudnnCall& plan) {
    const DeviceBuffer out(y_.bytes()), workspace(static_cast<size_t>(plan.Int(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)));
    EXPECT_EQ(CudnnRun(handle_, plan, {kX, kW, kY}, {x_.data(), w_.data(), out.data()}, workspace.data()), CUDNN_STATUS_SUCCESS);
    return Download(out);
  }
  std::vector<float> Filter(const CudnnCall& plan) {
    const DeviceBuffer out(w_.bytes()), workspace(static_cast<size_t>(plan.Int(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)));
    EXPECT_EQ(CudnnRun(handle_, plan, {kX, kY, kW}, {x_.data(), y_.data(), out.data()}, workspace.data()), CUDNN_STATUS_SUCCESS);
    return Download(out);
  }
  const CudnnCallPtr convolution_ = CudnnConvolutionCall(1, 1), x_call_ = CudnnTensorCall(kX, {2, 8, 6, 6}, CUDNN_DATA_FLOAT),
                     w_call_ = CudnnTensorCall(kW, {16, 8, 3, 3}, CUDNN_DATA_FLOAT),
                     y_call_ = CudnnTensorCall(kY, {2, 16, 6, 6}, CUDNN_DATA_FLOAT);
  CudnnCallPtr forward_, filter_;
  DeviceBuffer x_, w_, y_;
};

TEST_F(PassTest, EngineThatIsNotDeterministicSaysSoAndGivesOtherBits) {
  EXPECT_THAT(Engine(*filter_, kAtomics)->Notes(), Contains(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC));
  const CudnnCallPtr plan = Plan(*filter_, kAtomics);
  const std::vector<float> first = Filter(*plan), second = Filter(*plan);
  EXPECT_NE(first, second);
  EXPECT_LT(RelativeError(first, second), 1e-5);
}

TEST_F(PassTest, OtherEnginesRepeatTheirBits) {
  for (const int64_t index : {kDirect, kTensorCore, kDownConvert}) {
    EXPECT_THAT(Engine(*filter_, index)->Notes(), Not(Contains(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)));
    const CudnnCallPtr plan = Plan(*filter_, index);
    EXPECT_EQ(Filter(*plan), Filter(*plan)) << index;
  }
}

TEST_F(PassTest, TensorCoresRoundFloatsToTf32) {
  EXPECT_THAT(Engine(*forward_, kTensorCore)->Notes(), Contains(CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
  const double error = RelativeError(Forward(*Plan(*forward_, kTensorCore)), Forward(*Plan(*forward_, kDirect)));
  EXPECT_GT(error, 1e-5);
  EXPECT_LT(error, 1e-3);
}

TEST_F(PassTest, EngineThatRoundsMoreSaysSo) {
  EXPECT_THAT(Engine(*forward_, kDownConvert)->Notes(), Contains(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS));
  EXPECT_GT(RelativeError(Forward(*Plan(*forward_, kDownConvert)), Forward(*Plan(*forward_, kDirect))), 1e-3);
}

TEST_F(PassTest, KnobChangesBitsAndWantsWorkspace) {
  const CudnnCallPtr split = Plan(*forward_, kTensorCore, 3);
  EXPECT_GT(split->Int(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE), 0);
  EXPECT_NE(Forward(*split), Forward(*Plan(*forward_, kTensorCore)));
  EXPECT_EQ(CudnnRun(handle_, *split, {kX, kW, kY}, {x_.data(), w_.data(), y_.data()}, nullptr), CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
}

TEST_F(PassTest, KnobOutOfRangeAndEngineOutOfRangeAreRefused) {
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(Plan(*forward_, kTensorCore, 5)->status()), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(Plan(*forward_, kDirect, 2)->status()), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(Engine(*forward_, 99)->status()), CUDNN_STATUS_NOT_SUPPORTED);
}

TEST_F(PassTest, FirstProposalIsRefusedByItsPlan) {
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B}) {
    const auto configs = CudnnConfigs(*forward_, mode);
    ASSERT_GT(configs.size(), 2U);
    EXPECT_EQ(CUDNN_STATUS_CATEGORY(CudnnPlanCall(handle_, *configs.front())->status()), CUDNN_STATUS_NOT_SUPPORTED);
  }
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(Plan(*forward_, kOtherChip)->status()), CUDNN_STATUS_NOT_SUPPORTED);
}

TEST_F(PassTest, PackMustNameEveryTensorOnceAndNoOther) {
  const CudnnCallPtr plan = Plan(*forward_, kDirect);
  const auto run = [&](const std::vector<int64_t>& uids, const std::vector<void*>& pointers) {
    return CudnnRun(handle_, *plan, uids, pointers, nullptr);
  };
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(run({kX, kW}, {x_.data(), w_.data()})), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(run({kX, kW, 77}, {x_.data(), w_.data(), y_.data()})), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(run({kX, kW, kY, kY}, {x_.data(), w_.data(), y_.data(), y_.data()}), CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES);
  EXPECT_EQ(run({kX, kW, kY}, {x_.data(), w_.data(), nullptr}), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
  EXPECT_EQ(run({kX, kW, kY}, {x_.at(4), w_.data(), y_.data()}), CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
  EXPECT_EQ(run({kX, kW, kY}, {x_.at(16), w_.data(), y_.data()}), CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND);
  EXPECT_EQ(run({kX, kW, kY}, {y_.data(), w_.data(), y_.data()}), CUDNN_STATUS_BAD_PARAM);  // written over what is read
}

TEST_F(PassTest, ChildrenMayGoBeforeTheirPlanRuns) {
  CudnnCallPtr plan = Plan(*forward_, kDirect);
  const std::vector<float> expected = Forward(*plan);
  forward_.reset();
  EXPECT_EQ(Forward(*plan), expected);
}

TEST_F(PassTest, GraphThatNoEngineTakesIsRefusedByItsPlan) {
  const CudnnCallPtr other = CudnnTensorCall(kY, {2, 16, 6, 6}, CUDNN_DATA_FLOAT, true);  // written and never read
  const CudnnCallPtr graph = CudnnGraphCall(handle_, {CudnnForwardCall(*convolution_, *x_call_, *w_call_, *other).get()});
  EXPECT_EQ(graph->status(), CUDNN_STATUS_SUCCESS);
  EXPECT_THAT(CudnnConfigs(*graph, CUDNN_HEUR_MODE_A), IsEmpty());
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(Plan(*graph, kDirect)->status()), CUDNN_STATUS_NOT_SUPPORTED);
}

// conv -> + bias -> ReLU of `channels` to 16 channels.
class FusionTest : public EngineTest {
 protected:
  CudnnCallPtr Graph(int64_t channels, cudnnDataType_t type) {
    const CudnnCallPtr x = CudnnTensorCall(kX, {2, channels, 6, 6}, type), w = CudnnTensorCall(kW, {16, channels, 3, 3}, type),
                       bias = CudnnTensorCall(kBias, {1, 16, 1, 1}, CUDNN_DATA_FLOAT), y = CudnnTensorCall(kY, {2, 16, 6, 6}, type),
                       raw = CudnnTensorCall(kRaw, {2, 16, 6, 6}, CUDNN_DATA_FLOAT, true),
                       sum = CudnnTensorCall(kSum, {2, 16, 6, 6}, CUDNN_DATA_FLOAT, true);
    const CudnnCallPtr pass = CudnnForwardCall(*CudnnConvolutionCall(1, 1), *x, *w, *raw);
    const CudnnCallPtr add = CudnnPointwiseCall(CUDNN_POINTWISE_ADD, *raw, bias.get(), *sum);
    const CudnnCallPtr relu = CudnnPointwiseCall(CUDNN_POINTWISE_RELU_FWD, *sum, nullptr, *y);
    return CudnnGraphCall(handle_, {relu.get(), pass.get(), add.get()});  // sorted by what they read, not by this order
  }
};

TEST_F(FusionTest, ChannelsOutOfLineAreRefused) {
  EXPECT_EQ(Plan(*Graph(16, CUDNN_DATA_BFLOAT16), kRuntimeFusion)->status(), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(Plan(*Graph(12, CUDNN_DATA_BFLOAT16), kRuntimeFusion)->status(), CUDNN_STATUS_NOT_SUPPORTED_PADDING);
  EXPECT_EQ(Plan(*Graph(12, CUDNN_DATA_FLOAT), kRuntimeFusion)->status(), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(Plan(*Graph(16, CUDNN_DATA_BFLOAT16), kDirect)->status(), CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN);
}

TEST_F(FusionTest, FloatHasAPlanWithoutTensorCoresAndBf16HasNone) {
  EXPECT_THAT(CudnnConfigs(*Graph(16, CUDNN_DATA_FLOAT), CUDNN_HEUR_MODE_FALLBACK), testing::SizeIs(1));
  EXPECT_THAT(CudnnConfigs(*Graph(16, CUDNN_DATA_BFLOAT16), CUDNN_HEUR_MODE_FALLBACK), IsEmpty());
}

TEST_F(FusionTest, FusedPlansOfBothKindsAgree) {
  const CudnnCallPtr graph = Graph(8, CUDNN_DATA_FLOAT);
  const DeviceBuffer x = Random(2 * 8 * 36, 1), w = Random(16 * 8 * 9, 2), bias = Random(16, 3), y(2 * 16 * 36 * sizeof(float));
  std::vector<std::vector<float>> results;
  for (const int64_t index : {int64_t{3}, kRuntimeFusion}) {
    const CudnnCallPtr plan = Plan(*graph, index);
    ASSERT_EQ(CudnnRun(handle_, *plan, {kX, kW, kBias, kY}, {x.data(), w.data(), bias.data(), y.data()}, nullptr), CUDNN_STATUS_SUCCESS);
    results.push_back(Download(y));
    EXPECT_THAT(results.back(), testing::Each(testing::Ge(0.0F)));
  }
  EXPECT_LT(RelativeError(results[1], results[0]), 1e-3);
}

}  // namespace
}  // namespace plateau::cuda
