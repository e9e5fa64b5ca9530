// Convolutions by cuDNN's graph API against plain loops: the same calls on the emulation and on a device.
#include <cudnn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/support/cuda_device.h"
#include "tests/support/cudnn_calls.h"
#include "worker/backend/cuda/runtime.h"
#include "worker/nn/reference.h"

namespace plateau::cuda {
namespace {

constexpr int64_t kX = 1, kW = 2, kY = 3, kBias = 4, kRaw = 5, kSum = 6;
constexpr double kTolerance = 1e-5;

// Canonical values between -1 and 1, and the same in NHWC.
reference::Map Random(int n, int c, int h, int w, unsigned seed) {
  reference::Map map(n, c, h, w);
  std::mt19937 random(seed);
  for (double& value : map.values) value = static_cast<float>(std::uniform_real_distribution<float>(-1, 1)(random));
  return map;
}

std::vector<float> Nhwc(const reference::Map& map) {
  std::vector<float> values;
  for (int n = 0; n < map.n; ++n)
    for (int h = 0; h < map.h; ++h)
      for (int w = 0; w < map.w; ++w)
        for (int c = 0; c < map.c; ++c) values.push_back(static_cast<float>(map.at(n, c, h, w)));
  return values;
}

std::vector<int64_t> Dims(const reference::Map& map) { return {map.n, map.c, map.h, map.w}; }

double RelativeError(const std::vector<float>& got, const reference::Map& wanted) {
  const std::vector<float> expected = Nhwc(wanted);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class CudnnTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    stream_ = std::make_unique<Stream>();
    ASSERT_EQ(cudnnCreate(&handle_), CUDNN_STATUS_SUCCESS);
    ASSERT_EQ(cudnnSetStream(handle_, stream_->get()), CUDNN_STATUS_SUCCESS);
  }
  void TearDown() override {
    if (handle_ != nullptr) cudnnDestroy(handle_);
  }

  DeviceBuffer Upload(const reference::Map& map) {
    const std::vector<float> values = Nhwc(map);
    DeviceBuffer buffer(values.size() * sizeof(float));
    CopyToDevice(buffer.data(), values.data(), buffer.bytes(), stream_->get());
    stream_->Wait();
    return buffer;
  }
  std::vector<float> Download(const DeviceBuffer& buffer) {
    std::vector<float> values(buffer.bytes() / sizeof(float));
    CopyToHost(values.data(), buffer.data(), buffer.bytes(), stream_->get());
    stream_->Wait();
    return values;
  }

  // Runs every proposed plan that promises full float precision; `checked` counts them.
  template <class Verify>
  int RunExactPlans(const CudnnCall& graph, const std::vector<int64_t>& uids, const std::vector<void*>& pointers, Verify verify) {
    EXPECT_EQ(graph.status(), CUDNN_STATUS_SUCCESS);
    int checked = 0;
    for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      for (const CudnnCallPtr& config : CudnnConfigs(graph, mode)) {
        const auto engines = config->Children(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        const auto notes = engines.at(0)->Notes();
        const bool exact = std::none_of(notes.begin(), notes.end(), [](cudnnBackendNumericalNote_t note) {
          return note == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
                 note == CUDNN_NUMERICAL_NOTE_FFT || note == CUDNN_NUMERICAL_NOTE_WINOGRAD;
        });
        const CudnnCallPtr plan = CudnnPlanCall(handle_, *config);
        if (!exact || plan->status() != CUDNN_STATUS_SUCCESS) continue;
        const auto bytes = static_cast<size_t>(plan->Int(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
        if (bytes > size_t{64} << 20) continue;
        const DeviceBuffer workspace(bytes);
        EXPECT_EQ(CudnnRun(handle_, *plan, uids, pointers, workspace.data()), CUDNN_STATUS_SUCCESS);
        verify();
        ++checked;
      }
    }
    return checked;
  }

  std::unique_ptr<Stream> stream_;
  cudnnHandle_t handle_ = nullptr;
};

struct Case {
  const char* name;
  int n, c, k, size, kernel, pad, stride;
};

class CudnnPassTest : public CudnnTest, public testing::WithParamInterface<Case> {
 protected:
  void SetUp() override {
    CudnnTest::SetUp();
    const Case& shape = GetParam();
    window_ = {shape.kernel, shape.stride, shape.pad};
    x_ = Random(shape.n, shape.c, shape.size, shape.size, 1);
    w_ = Random(shape.k, shape.c, shape.kernel, shape.kernel, 2);
    y_ = reference::ConvForward(x_, w_, std::vector<double>(static_cast<size_t>(shape.k)), window_);
    convolution_ = CudnnConvolutionCall(shape.pad, shape.stride);
    x_call_ = CudnnTensorCall(kX, Dims(x_), CUDNN_DATA_FLOAT);
    w_call_ = CudnnTensorCall(kW, Dims(w_), CUDNN_DATA_FLOAT);
    y_call_ = CudnnTensorCall(kY, Dims(y_), CUDNN_DATA_FLOAT);
  }
  reference::Window window_;
  reference::Map x_, w_, y_;
  CudnnCallPtr convolution_, x_call_, w_call_, y_call_;
};

TEST_P(CudnnPassTest, ForwardIsTheReference) {
  const CudnnCallPtr pass = CudnnForwardCall(*convolution_, *x_call_, *w_call_, *y_call_);
  const DeviceBuffer x = Upload(x_), w = Upload(w_), y = DeviceBuffer(y_.values.size() * sizeof(float));
  const int checked = RunExactPlans(*CudnnGraphCall(handle_, {pass.get()}), {kX, kW, kY}, {x.data(), w.data(), y.data()},
                                    [&] { EXPECT_LT(RelativeError(Download(y), y_), kTolerance); });
  EXPECT_GT(checked, 0);
}

TEST_P(CudnnPassTest, DataGradientIsTheReference) {
  const reference::Map dy = Random(y_.n, y_.c, y_.h, y_.w, 3);
  const CudnnCallPtr pass = CudnnBackwardDataCall(*convolution_, *y_call_, *w_call_, *x_call_);
  const DeviceBuffer gradient = Upload(dy), w = Upload(w_), dx = DeviceBuffer(x_.values.size() * sizeof(float));
  const reference::Map expected = reference::ConvBackwardData(dy, w_, x_, window_);
  const int checked = RunExactPlans(*CudnnGraphCall(handle_, {pass.get()}), {kY, kW, kX}, {gradient.data(), w.data(), dx.data()},
                                    [&] { EXPECT_LT(RelativeError(Download(dx), expected), kTolerance); });
  EXPECT_GT(checked, 0);
}

TEST_P(CudnnPassTest, FilterGradientIsTheReference) {
  const reference::Map dy = Random(y_.n, y_.c, y_.h, y_.w, 3);
  const CudnnCallPtr pass = CudnnBackwardFilterCall(*convolution_, *x_call_, *y_call_, *w_call_);
  const DeviceBuffer gradient = Upload(dy), x = Upload(x_), dw = DeviceBuffer(w_.values.size() * sizeof(float));
  const reference::Map expected = reference::ConvBackwardWeights(dy, x_, w_, window_).w;
  const int checked = RunExactPlans(*CudnnGraphCall(handle_, {pass.get()}), {kX, kY, kW}, {x.data(), gradient.data(), dw.data()},
                                    [&] { EXPECT_LT(RelativeError(Download(dw), expected), kTolerance); });
  EXPECT_GT(checked, 0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudnnPassTest,
                         testing::Values(Case{"three", 2, 8, 16, 9, 3, 1, 1}, Case{"strided", 3, 4, 8, 11, 5, 2, 2},
                                         Case{"one", 1, 16, 8, 4, 1, 0, 1}, Case{"odd", 2, 3, 5, 7, 3, 0, 1}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(CudnnTest, BiasAndReluFollowTheConvolutionInOnePlan) {
  const reference::Map x = Random(2, 8, 6, 6, 1), w = Random(16, 8, 3, 3, 2), bias = Random(1, 16, 1, 1, 3);
  reference::Map y = reference::ConvForward(x, w, bias.values, {3, 1, 1});
  for (double& value : y.values) value = std::max(value, 0.0);
  const CudnnCallPtr tensors[] = {CudnnTensorCall(kX, Dims(x), CUDNN_DATA_FLOAT),         CudnnTensorCall(kW, Dims(w), CUDNN_DATA_FLOAT),
                                  CudnnTensorCall(kRaw, Dims(y), CUDNN_DATA_FLOAT, true), CudnnTensorCall(kBias, Dims(bias), CUDNN_DATA_FLOAT),
                                  CudnnTensorCall(kSum, Dims(y), CUDNN_DATA_FLOAT, true), CudnnTensorCall(kY, Dims(y), CUDNN_DATA_FLOAT)};
  const CudnnCallPtr pass = CudnnForwardCall(*CudnnConvolutionCall(1, 1), *tensors[0], *tensors[1], *tensors[2]);
  const CudnnCallPtr add = CudnnPointwiseCall(CUDNN_POINTWISE_ADD, *tensors[2], tensors[3].get(), *tensors[4]);
  const CudnnCallPtr relu = CudnnPointwiseCall(CUDNN_POINTWISE_RELU_FWD, *tensors[4], nullptr, *tensors[5]);
  const DeviceBuffer x_data = Upload(x), w_data = Upload(w), bias_data = Upload(bias), y_data(y.values.size() * sizeof(float));
  RunExactPlans(*CudnnGraphCall(handle_, {pass.get(), add.get(), relu.get()}), {kX, kW, kBias, kY},
                {x_data.data(), w_data.data(), bias_data.data(), y_data.data()},
                [&] { EXPECT_LT(RelativeError(Download(y_data), y), kTolerance); });  // a device may offer no such plan in full float
}

// Descriptors are checked without a device, by the real library too.
TEST(CudnnDescriptorTest, ShapesThatDoNotFitAreRefused) {
  const CudnnCallPtr x = CudnnTensorCall(kX, {1, 8, 6, 6}, CUDNN_DATA_FLOAT), w = CudnnTensorCall(kW, {8, 8, 3, 3}, CUDNN_DATA_FLOAT);
  const CudnnCallPtr y = CudnnTensorCall(kY, {1, 8, 5, 5}, CUDNN_DATA_FLOAT), wide = CudnnTensorCall(kX, {1, 12, 6, 6}, CUDNN_DATA_FLOAT);
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(CudnnForwardCall(*CudnnConvolutionCall(0, 1), *x, *w, *y)->status()), CUDNN_STATUS_BAD_PARAM);  // 4x4
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(CudnnForwardCall(*CudnnConvolutionCall(1, 1), *wide, *w, *x)->status()), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(CudnnForwardCall(*CudnnConvolutionCall(1, 1), *x, *w, *x)->status(), CUDNN_STATUS_SUCCESS);
}

TEST(CudnnDescriptorTest, AttributeOfTheWrongTypeOrCountIsRefused) {
  CudnnCall type(CUDNN_BACKEND_TENSOR_DESCRIPTOR), count(CUDNN_BACKEND_TENSOR_DESCRIPTOR), other(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  EXPECT_EQ(type.Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_FLOAT, 1.0F).status(), CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
  const std::vector<int64_t> two{1, 2};
  EXPECT_EQ(count.Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, two).status(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(other.Set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).status(), CUDNN_STATUS_BAD_PARAM);
}

TEST(CudnnDescriptorTest, DescriptorThatLacksAttributesIsNotFinalized) {
  CudnnCall tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, int64_t{1}).Finalize();
  EXPECT_EQ(tensor.status(), CUDNN_STATUS_BAD_PARAM);
  int64_t value = 0, count = 0;
  EXPECT_EQ(cudnnBackendGetAttribute(tensor.raw(), CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &count, &value),
            CUDNN_STATUS_NOT_INITIALIZED);
}

TEST(CudnnDescriptorTest, FinalizedDescriptorIsNeitherSetNorFinalizedAgain) {
  const CudnnCallPtr tensor = CudnnTensorCall(kX, {1, 8, 6, 6}, CUDNN_DATA_FLOAT), other = CudnnTensorCall(kX, {1, 8, 6, 6}, CUDNN_DATA_FLOAT);
  EXPECT_EQ(tensor->Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, kY).status(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(other->Finalize().status(), CUDNN_STATUS_BAD_PARAM);
}

TEST(CudnnDescriptorTest, OperationOnATensorThatIsNotFinalizedIsRefused) {
  const CudnnCall x(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const CudnnCallPtr w = CudnnTensorCall(kW, {8, 8, 3, 3}, CUDNN_DATA_FLOAT), y = CudnnTensorCall(kY, {1, 8, 6, 6}, CUDNN_DATA_FLOAT);
  EXPECT_EQ(CUDNN_STATUS_CATEGORY(CudnnForwardCall(*CudnnConvolutionCall(1, 1), x, *w, *y)->status()), CUDNN_STATUS_BAD_PARAM);
}

TEST(CudnnDescriptorTest, GraphTakesItsOperationsInAnyOrderAndEachOnce) {
  const CudnnCallPtr x = CudnnTensorCall(kX, {1, 8, 6, 6}, CUDNN_DATA_FLOAT), w = CudnnTensorCall(kW, {8, 8, 3, 3}, CUDNN_DATA_FLOAT),
                     raw = CudnnTensorCall(kRaw, {1, 8, 6, 6}, CUDNN_DATA_FLOAT, true), y = CudnnTensorCall(kY, {1, 8, 6, 6}, CUDNN_DATA_FLOAT);
  const CudnnCallPtr pass = CudnnForwardCall(*CudnnConvolutionCall(1, 1), *x, *w, *raw);
  const CudnnCallPtr relu = CudnnPointwiseCall(CUDNN_POINTWISE_RELU_FWD, *raw, nullptr, *y);
  EXPECT_EQ(CudnnGraphCall(nullptr, {relu.get(), pass.get()})->status(), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(CudnnGraphCall(nullptr, {pass.get(), pass.get(), relu.get()})->status(), CUDNN_STATUS_BAD_PARAM);
}

}  // namespace
}  // namespace plateau::cuda
