// Graphs for cuDNN: the text of a choice, and what the library offers for a device that is only described to it, which needs none.
#include "worker/backend/cuda/cudnn_graph.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "worker/backend/cuda/libraries.h"

namespace plateau::cuda {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(EngineChoiceTest, TextIsReadBackUpToTheFirstOtherWord) {
  const std::string whole = "engine 34 k2=1 k15=-1 fused";
  std::string_view text = whole;
  const Result<EngineChoice> choice = EngineChoice::Parse(text);
  ASSERT_TRUE(choice) << choice.error().message;
  EXPECT_EQ(choice->engine, 34);
  EXPECT_THAT(choice->knobs, ElementsAre(Pair(2, 1), Pair(15, -1)));
  EXPECT_EQ(text, " fused");
  EXPECT_EQ(choice->Text(), "engine 34 k2=1 k15=-1");
}

TEST(EngineChoiceTest, OtherTextIsRefused) {
  for (const std::string whole :
       {"", "engine", "engine x", "engine -1", "engine 3.5", "motor 3", "engine 3 k=1", "engine 3 k2=x"}) {
    std::string_view text = whole;
    EXPECT_FALSE(EngineChoice::Parse(text)) << whole;
  }
}

// An H200 as cuDNN's CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION gives it.
constexpr const char* kH200 = R"({"deviceVer":900,"multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,
"maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,
"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"regsPerBlock":65536,"totalGlobalMem":150754820096,"smClockRateKHz":1980000,
"l2CacheSize":62914560,"maxBlockSize":[1024,1024,64],"memClockRateKHz":3201000,"maxGridSize":[2147483647,65535,65535],
"supportCoopLaunch":1,"pciDeviceId":0,"isTccDriver":0,"cudaDeviceId":0,"driverVer":13000,"deviceName":"NVIDIA H200"})";

class DescribedDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    try {
      target_ = DescribedDevice(kH200);
    } catch (const Failure& failure) {
      GTEST_SKIP() << "this cuDNN does not work for described devices: " << failure.what();
    }
  }

  // How many of the engines on offer can be built under `rules` without being compiled at run time, which needs a driver.
  static int Ready(OperationGraph& graph, const EngineRules& rules) {
    if (!graph.Finalize()) return 0;
    int ready = 0;
    for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
      for (const EngineChoice& choice : graph.Candidates(mode, 100))
        if (!graph.CompilesAtRunTime(choice) && graph.Build(choice, rules).has_value()) ++ready;
    return ready;
  }

  OperationGraph Forward(DataType type, std::optional<DataType> bias_type) const {
    OperationGraph graph(target_);
    const int in = graph.Real(type, x_), weights = graph.Real(type, w_);
    if (!bias_type) {
      graph.ConvolutionForward(in, weights, graph.Real(type, y_), window_);
      return graph;
    }
    const int bias = graph.Real(*bias_type, {1, w_[0], 1, 1}), out = graph.Real(type, y_);
    const int product = graph.Virtual(y_), biased = graph.Virtual(y_);
    graph.ConvolutionForward(in, weights, product, window_);
    graph.Add(product, bias, biased);
    graph.Relu(biased, out);
    return graph;
  }
  OperationGraph BackwardData(DataType type) const {
    OperationGraph graph(target_);
    const int dy = graph.Real(type, y_), weights = graph.Real(type, w_);
    graph.ConvolutionBackwardData(dy, weights, graph.Real(type, x_), window_);
    return graph;
  }
  OperationGraph BackwardWeights(DataType type) const {
    OperationGraph graph(target_);
    const int in = graph.Real(type, x_), dy = graph.Real(type, y_);
    graph.ConvolutionBackwardWeights(in, dy, graph.Real(type, w_), window_);
    return graph;
  }

  // `in` maps of `side` x `side` to `out` of them.
  void Look(int64_t in, int64_t out, int64_t side, int64_t kernel, const ConvWindow& window) {
    const int64_t results = (side + 2 * window.pad - kernel) / window.stride + 1;
    x_ = {kBatch, in, side, side};
    w_ = {out, in, kernel, kernel};
    y_ = {kBatch, out, results, results};
    window_ = window;
  }

  static constexpr int64_t kBatch = 256;
  // conv3_2 of VGG, until Look.
  TensorDims x_{kBatch, 256, 56, 56}, w_{256, 256, 3, 3}, y_{kBatch, 256, 56, 56};
  ConvWindow window_{1, 1};
  const EngineRules any_{{CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION},
                         size_t{1} << 30};
  CudnnTarget target_;
};

TEST_F(DescribedDeviceTest, Bf16PassesHaveEnginesThatNeedNoCompiler) {
  OperationGraph fused = Forward(DataType::kBf16, DataType::kBf16), plain = Forward(DataType::kBf16, std::nullopt);
  OperationGraph data = BackwardData(DataType::kBf16), weights = BackwardWeights(DataType::kBf16);
  for (OperationGraph* graph : {&fused, &plain, &data, &weights}) EXPECT_GT(Ready(*graph, any_), 0);
}

TEST_F(DescribedDeviceTest, FloatPassesHaveEnginesWithoutTensorCores) {
  EngineRules exact = any_;
  exact.forbidden.push_back(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  OperationGraph fused = Forward(DataType::kFloat, DataType::kFloat), plain = Forward(DataType::kFloat, std::nullopt);
  OperationGraph data = BackwardData(DataType::kFloat), weights = BackwardWeights(DataType::kFloat);
  for (OperationGraph* graph : {&fused, &plain, &data, &weights}) EXPECT_GT(Ready(*graph, exact), 0);
  for (OperationGraph* graph : {&plain, &data, &weights}) EXPECT_GT(Ready(*graph, any_), Ready(*graph, exact)) << "TF32";
}

TEST_F(DescribedDeviceTest, EveryKindOfWindowHasDeterministicEngines) {
  struct Window {
    const char* of;
    int64_t in, out, side, kernel;
    ConvWindow window;
  };
  const Window windows[] = {
      {"vgg conv1_1", 8, 64, 224, 3, {1, 1}},      {"vgg-c conv3_3", 256, 256, 56, 1, {1, 0}},
      {"lenet conv2", 24, 56, 12, 5, {1, 0}},      {"alexnet conv1", 8, 64, 224, 11, {4, 2}},
      {"zfnet conv1", 8, 96, 224, 7, {2, 1}},      {"zfnet conv2", 96, 256, 55, 5, {2, 0}},
      {"googlenet 4b/5x5", 24, 64, 14, 5, {1, 2}}, {"googlenet 5b/reduce", 832, 48, 7, 1, {1, 0}},
      {"resnet conv1", 8, 64, 224, 7, {2, 3}},     {"resnet downsample", 256, 512, 56, 1, {2, 0}},
      {"resnet conv3_1", 128, 128, 56, 3, {2, 1}},
  };
  EngineRules exact = any_;
  exact.forbidden.push_back(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  for (const Window& at : windows) {
    Look(at.in, at.out, at.side, at.kernel, at.window);
    for (const DataType type : {DataType::kBf16, DataType::kFloat}) {
      SCOPED_TRACE(fmt::format("{}, {}", at.of, type == DataType::kBf16 ? "bf16" : "fp32"));
      const EngineRules& rules = type == DataType::kBf16 ? any_ : exact;
      OperationGraph forward = Forward(type, std::nullopt), data = BackwardData(type), weights = BackwardWeights(type);
      EXPECT_GT(Ready(forward, rules), 0) << "forward";
      EXPECT_GT(Ready(data, rules), 0) << "data";
      EXPECT_GT(Ready(weights, rules), 0) << "weights";
    }
  }
}

TEST_F(DescribedDeviceTest, WorkspaceLimitAndUnknownEnginesAreRefused) {
  OperationGraph graph = Forward(DataType::kBf16, std::nullopt);
  ASSERT_TRUE(graph.Finalize());
  EXPECT_FALSE(graph.Build({999999, {}}, any_));
  const std::vector<EngineChoice> offers = graph.Candidates(CUDNN_HEUR_MODE_A, 100);
  ASSERT_FALSE(offers.empty());
  bool refused = false;
  for (const EngineChoice& choice : offers) {
    const auto built = graph.Build(choice, any_);
    if (!built || (*built)->workspace_bytes() == 0) continue;
    EngineRules tight = any_;
    tight.workspace_limit = (*built)->workspace_bytes() - 1;
    EXPECT_FALSE(graph.Build(choice, tight)) << choice.Text();
    refused = true;
  }
  EXPECT_TRUE(refused) << "no engine on offer wants workspace";
}

}  // namespace
}  // namespace plateau::cuda
