// What the emulated cuBLASLt's algorithms do on purpose: limits that filter them, sums whose order changes, and refusals.
#include <cublasLt.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/cuda/emulation.h"
#include "worker/backend/cuda/runtime.h"

namespace plateau::cuda {
namespace {

constexpr int64_t kM = 24, kN = 10, kK = 200;

class AlgorithmTest : public testing::Test {
 protected:
  void SetUp() override {
    emulated::Reset();
    ASSERT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    Prepare(CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F);
    std::mt19937 random(1);
    std::vector<float> values(kK * (kM + kN));
    for (float& value : values) value = std::uniform_real_distribution<float>(-1, 1)(random);
    operands_ = DeviceBuffer(values.size() * sizeof(float));
    CopyToDevice(operands_.data(), values.data(), operands_.bytes(), stream_.get());
    d_ = DeviceBuffer(kM * kN * sizeof(float));
    workspace_ = DeviceBuffer(1 << 20);
  }
  void TearDown() override {
    Release();
    cublasLtDestroy(handle_);
  }
  void Release() {
    for (auto& layout : {a_, b_, c_}) cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(operation_);
    cublasLtMatmulPreferenceDestroy(preference_);
  }
  void Prepare(cudaDataType_t operand, cudaDataType_t result, cublasComputeType_t compute) {
    cublasLtMatrixLayoutCreate(&a_, operand, kM, kK, kM);
    cublasLtMatrixLayoutCreate(&b_, operand, kK, kN, kK);
    cublasLtMatrixLayoutCreate(&c_, result, kM, kN, kM);
    cublasLtMatmulDescCreate(&operation_, compute, CUDA_R_32F);
    cublasLtMatmulPreferenceCreate(&preference_);
    Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{1} << 20);
  }
  template <class T>
  void Prefer(cublasLtMatmulPreferenceAttributes_t name, T value) {
    ASSERT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, name, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void Set(cublasLtMatmulDescAttributes_t name, T value) {
    ASSERT_EQ(cublasLtMatmulDescSetAttribute(operation_, name, &value, sizeof(value)), CUBLAS_STATUS_SUCCESS);
  }

  // Those whose state is success; `status` is the search's own.
  std::vector<cublasLtMatmulHeuristicResult_t> Search(cublasStatus_t* status = nullptr) {
    std::vector<cublasLtMatmulHeuristicResult_t> results(16);
    int count = 0;
    const cublasStatus_t answer = cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a_, b_, c_, c_, preference_, 16, results.data(), &count);
    if (status != nullptr) *status = answer;
    results.resize(static_cast<size_t>(count));
    refused_ = std::erase_if(results, [](const auto& result) { return result.state != CUBLAS_STATUS_SUCCESS; });
    return results;
  }
  static uint32_t Reduction(const cublasLtMatmulHeuristicResult_t& result) {
    uint32_t value = 0;
    size_t written = 0;
    cublasLtMatmulAlgoConfigGetAttribute(&result.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &value, sizeof(value), &written);
    return value;
  }
  std::vector<float> Run(const cublasLtMatmulHeuristicResult_t& result) {
    const float one = 1, zero = 0;
    EXPECT_EQ(cublasLtMatmul(handle_, operation_, &one, operands_.data(), a_, operands_.at(kM * kK * 4), b_, &zero, d_.data(), c_, d_.data(),
                             c_, &result.algo, workspace_.data(), workspace_.bytes(), stream_.get()),
              CUBLAS_STATUS_SUCCESS);
    std::vector<float> values(kM * kN);
    CopyToHost(values.data(), d_.data(), d_.bytes(), stream_.get());
    stream_.Wait();
    return values;
  }

  Stream stream_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, c_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  size_t refused_ = 0;
  DeviceBuffer operands_, d_, workspace_;
};

TEST_F(AlgorithmTest, OnlySumsInPlaceChangeTheirOrder) {
  int in_place = 0;
  for (const auto& result : Search()) {
    const bool repeats = Run(result) == Run(result);
    EXPECT_EQ(repeats, Reduction(result) != CUBLASLT_REDUCTION_SCHEME_INPLACE);
    in_place += repeats ? 0 : 1;
  }
  EXPECT_EQ(in_place, 1);
}

TEST_F(AlgorithmTest, PreferenceFiltersReductionsWorkspaceAndAlignment) {
  const size_t all = Search().size();
  EXPECT_EQ(refused_, 1U);  // whose state says no
  Prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  EXPECT_EQ(Search().size(), all - 2);
  Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
  EXPECT_EQ(Search().size(), all - 3);
  Prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t{16});
  EXPECT_EQ(Search().size(), all - 4);
  Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{2} << 30);
  EXPECT_EQ(Search().size(), all - 2);  // the one that wants a gigabyte is there
}

TEST_F(AlgorithmTest, Tf32RoundsAndFloatDoesNot) {
  const std::vector<float> exact = Run(Search().back());
  Release();
  Prepare(CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32);
  const std::vector<float> rounded = Run(Search().back());
  double worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(exact[i]) - rounded[i]));
  EXPECT_GT(worst, 1e-4);
  EXPECT_LT(worst, 1e-1);
}

TEST_F(AlgorithmTest, BiasHasTheTypeOfTheResult) {
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  Release();
  Prepare(CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F);
  Set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_BIAS));
  EXPECT_FALSE(Search(&status).empty());
  Set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<int32_t>(CUDA_R_32F));
  EXPECT_TRUE(Search(&status).empty());
  EXPECT_EQ(status, CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(AlgorithmTest, FloatOperandsDoNotGiveBf16) {
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  Release();
  Prepare(CUDA_R_32F, CUDA_R_16BF, CUBLAS_COMPUTE_32F);
  EXPECT_TRUE(Search(&status).empty());
  EXPECT_EQ(status, CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(AlgorithmTest, RunWithoutWorkspaceOrBeyondMemoryIsRefused) {
  const auto results = Search();
  const auto wanting = std::find_if(results.begin(), results.end(), [](const auto& result) { return result.workspaceSize > 1024; });
  ASSERT_NE(wanting, results.end());
  const float one = 1, zero = 0;
  const auto run = [&](const void* a, size_t workspace_bytes) {
    return cublasLtMatmul(handle_, operation_, &one, a, a_, operands_.at(kM * kK * 4), b_, &zero, d_.data(), c_, d_.data(), c_,
                          &wanting->algo, workspace_.data(), workspace_bytes, stream_.get());
  };
  EXPECT_EQ(run(operands_.data(), 1024), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(operands_.at(kK * kN * 4 + 16), workspace_.bytes()), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(operands_.data(), workspace_.bytes()), CUBLAS_STATUS_SUCCESS);
}

}  // namespace
}  // namespace plateau::cuda
