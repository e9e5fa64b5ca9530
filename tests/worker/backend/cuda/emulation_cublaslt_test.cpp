// Products by cuBLASLt with their epilogues against plain loops: the same calls on the emulation and on a device.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "tests/support/cuda_device.h"
#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {
namespace {

constexpr int64_t kM = 48, kN = 20, kK = 136;  // columns: D [m, n], A stored [k, m], B stored [k, n]
constexpr double kTolerance = 1e-5;
constexpr uint64_t kWorkspaceBytes = 4 << 20;

std::vector<float> Random(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = std::uniform_real_distribution<float>(-1, 1)(random);
  return values;
}

class CublasLtTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    stream_ = std::make_unique<Stream>();
    ASSERT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatrixLayoutCreate(&a_layout_, CUDA_R_32F, kK, kM, kK), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatrixLayoutCreate(&b_layout_, CUDA_R_32F, kK, kN, kK), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatrixLayoutCreate(&d_layout_, CUDA_R_32F, kM, kN, kM), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasLtMatmulPreferenceCreate(&preference_), CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes, sizeof(kWorkspaceBytes));
    a_ = Upload(a_values_), b_ = Upload(b_values_);
    d_ = DeviceBuffer(kM * kN * sizeof(float));
    workspace_ = DeviceBuffer(kWorkspaceBytes);
  }
  void TearDown() override {
    for (const auto layout : {a_layout_, b_layout_, d_layout_})
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    if (operation_ != nullptr) cublasLtMatmulDescDestroy(operation_);
    if (preference_ != nullptr) cublasLtMatmulPreferenceDestroy(preference_);
    if (handle_ != nullptr) cublasLtDestroy(handle_);
  }

  template <class T>
  DeviceBuffer Upload(const std::vector<T>& values) {
    DeviceBuffer buffer(values.size() * sizeof(T));
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

  template <class T>
  void Set(cublasLtMatmulDescAttributes_t name, T value) {
    ASSERT_EQ(cublasLtMatmulDescSetAttribute(operation_, name, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  }
  void Prepare(cublasLtEpilogue_t epilogue, void* vector, void* mask = nullptr, int64_t mask_ld = 0) {
    ASSERT_EQ(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    Set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<int32_t>(CUBLAS_OP_T));
    Set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(epilogue));
    if (vector != nullptr) Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    if (mask != nullptr) Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, mask);
    if (mask != nullptr) Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, mask_ld);
  }

  // Runs every algorithm that the library proposes and calls `verify` behind each.
  void RunAll(const std::function<void()>& verify) {
    cublasLtMatmulHeuristicResult_t results[8] = {};
    int count = 0, ran = 0;
    ASSERT_EQ(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a_layout_, b_layout_, d_layout_, d_layout_, preference_, 8, results, &count),
              CUBLAS_STATUS_SUCCESS);
    const float alpha = 1, beta = 0;
    for (int i = 0; i < count; ++i) {
      if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
      ASSERT_LE(results[i].workspaceSize, kWorkspaceBytes);
      ASSERT_EQ(cublasLtMatmul(handle_, operation_, &alpha, a_.data(), a_layout_, b_.data(), b_layout_, &beta, d_.data(), d_layout_,
                               d_.data(), d_layout_, &results[i].algo, workspace_.data(), kWorkspaceBytes, stream_->get()),
                CUBLAS_STATUS_SUCCESS);
      verify();
      ++ran;
    }
    EXPECT_GT(ran, 0);
  }

  double Product(int64_t row, int64_t column) const {
    double sum = 0;
    for (int64_t k = 0; k < kK; ++k)
      sum += static_cast<double>(a_values_[static_cast<size_t>(row * kK + k)]) * b_values_[static_cast<size_t>(column * kK + k)];
    return sum;
  }
  // Relative L2 of D against `wanted`(row, column).
  void ExpectD(const std::function<double(int64_t, int64_t)>& wanted) {
    const std::vector<float> got = Download(d_);
    double difference = 0, norm = 0;
    for (int64_t column = 0; column < kN; ++column)
      for (int64_t row = 0; row < kM; ++row) {
        difference += std::pow(got[static_cast<size_t>(column * kM + row)] - wanted(row, column), 2);
        norm += std::pow(wanted(row, column), 2);
      }
    EXPECT_LT(std::sqrt(difference / norm), kTolerance);
  }

  std::unique_ptr<Stream> stream_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatrixLayout_t a_layout_ = nullptr, b_layout_ = nullptr, d_layout_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  const std::vector<float> a_values_ = Random(kM * kK, 1), b_values_ = Random(kN * kK, 2), bias_values_ = Random(kM, 3);
  DeviceBuffer a_, b_, d_, workspace_;
};

TEST_F(CublasLtTest, ProductOfATransposedMatrix) {
  Prepare(CUBLASLT_EPILOGUE_DEFAULT, nullptr);
  RunAll([&] { ExpectD([&](int64_t row, int64_t column) { return Product(row, column); }); });
}

TEST_F(CublasLtTest, BiasGoesToEveryColumnAndReluFollows) {
  const DeviceBuffer bias = Upload(bias_values_);
  Prepare(CUBLASLT_EPILOGUE_RELU_BIAS, bias.data());
  RunAll([&] {
    ExpectD([&](int64_t row, int64_t column) { return std::max(0.0, Product(row, column) + bias_values_[static_cast<size_t>(row)]); });
  });
}

TEST_F(CublasLtTest, GradientPassesWhereTheMaskHasABit) {
  constexpr int64_t kLd = 128;
  std::vector<uint8_t> mask(static_cast<size_t>(kLd / 8 * kN));
  std::mt19937 random(4);
  for (uint8_t& byte : mask) byte = static_cast<uint8_t>(random());
  const DeviceBuffer on_device = Upload(mask);
  Prepare(CUBLASLT_EPILOGUE_DRELU, nullptr, on_device.data(), kLd);
  RunAll([&] {
    ExpectD([&](int64_t row, int64_t column) {
      const int64_t bit = column * kLd + row;
      return ((mask[static_cast<size_t>(bit / 8)] >> (bit % 8)) & 1) != 0 ? Product(row, column) : 0.0;
    });
  });
}

TEST_F(CublasLtTest, BiasGradientIsTheSumOfBOverK) {
  const DeviceBuffer sums(kN * sizeof(float));
  Prepare(CUBLASLT_EPILOGUE_BGRADB, sums.data());
  RunAll([&] {
    const std::vector<float> got = Download(sums);
    for (int64_t column = 0; column < kN; ++column) {
      double sum = 0;
      for (int64_t k = 0; k < kK; ++k) sum += b_values_[static_cast<size_t>(column * kK + k)];
      EXPECT_NEAR(got[static_cast<size_t>(column)], sum, 1e-4);
    }
  });
}

TEST_F(CublasLtTest, MatricesThatDoNotFitAreRefused) {
  Prepare(CUBLASLT_EPILOGUE_DEFAULT, nullptr);
  cublasLtMatmulHeuristicResult_t result{};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a_layout_, d_layout_, d_layout_, d_layout_, preference_, 1, &result, &count);
  EXPECT_TRUE(status != CUBLAS_STATUS_SUCCESS || count == 0 || result.state != CUBLAS_STATUS_SUCCESS);
}

}  // namespace
}  // namespace plateau::cuda
