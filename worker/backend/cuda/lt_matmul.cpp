// Calls of cuBLASLt.
#include "worker/backend/cuda/lt_matmul.h"

#include <algorithm>
#include <charconv>

#include "common/text.h"

namespace plateau::cuda {
namespace {

constexpr uint32_t kAlignmentBytes = 16;  // of every operand: what kernels.h promises
constexpr std::string_view kDataWord = " data=";

cudaDataType_t LtType(DataType type) { return type == DataType::kFloat ? CUDA_R_32F : CUDA_R_16BF; }

template <class T>
void Set(cublasLtMatmulDescOpaque_t* operation, cublasLtMatmulDescAttributes_t name, const T& value) {
  Check(cublasLtMatmulDescSetAttribute(operation, name, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute");
}

template <class T>
void Set(cublasLtMatmulPreferenceOpaque_t* preference, cublasLtMatmulPreferenceAttributes_t name, const T& value) {
  Check(cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof(value)), "cublasLtMatmulPreferenceSetAttribute");
}

// T as cublasLt.h gives it for the attribute. What an algorithm does not know counts as 0.
template <class T>
T Configured(const LtAlgorithm& algorithm, cublasLtMatmulAlgoConfigAttributes_t name) {
  T value{};
  size_t written = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(&algorithm.algorithm, name, &value, sizeof(value), &written);
  return status == CUBLAS_STATUS_SUCCESS ? value : T{};
}

// "2a.1f.0.7", trailing zeroes left out.
std::string Pack(const cublasLtMatmulAlgo_t& algorithm) {
  size_t count = std::size(algorithm.data);
  while (count > 1 && algorithm.data[count - 1] == 0) --count;
  std::string text;
  for (size_t i = 0; i < count; ++i) text += fmt::format("{}{:x}", i == 0 ? "" : ".", algorithm.data[i]);
  return text;
}

bool Unpack(std::string_view text, cublasLtMatmulAlgo_t& algorithm) {
  algorithm = {};
  size_t word = 0;
  for (const std::string& part : SplitText(text, '.')) {
    if (word == std::size(algorithm.data)) return false;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), algorithm.data[word++], 16);
    if (error != std::errc() || end != part.data() + part.size()) return false;
  }
  return true;
}

}  // namespace

LtMatmul::LtMatmul(Libraries& libraries, const LtProblem& problem)
    : libraries_(libraries), problem_(problem), a_(MakeLayout(problem.a)), b_(MakeLayout(problem.b)), d_(MakeLayout(problem.d)) {
  // Products of floats are rounded to TF32 only on request.
  const cublasComputeType_t compute = libraries.precision() == Precision::kTf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  cublasLtMatmulDesc_t operation = nullptr;
  Check(cublasLtMatmulDescCreate(&operation, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
  operation_.reset(operation);
  const auto op = [](const LtMatrix& matrix) { return static_cast<int32_t>(matrix.transpose ? CUBLAS_OP_T : CUBLAS_OP_N); };
  Set(operation, CUBLASLT_MATMUL_DESC_TRANSA, op(problem.a));
  Set(operation, CUBLASLT_MATMUL_DESC_TRANSB, op(problem.b));
  Set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(problem.epilogue));
  // The search looks only at the alignment of the address.
  if (HasVector()) SetVector(reinterpret_cast<void*>(uintptr_t{kAlignmentBytes}));
}

LtMatmul::Layout LtMatmul::MakeLayout(const LtMatrix& matrix) {
  cublasLtMatrixLayout_t layout = nullptr;
  Check(cublasLtMatrixLayoutCreate(&layout, LtType(matrix.type), static_cast<uint64_t>(matrix.rows),
                                   static_cast<uint64_t>(matrix.columns), matrix.rows),
        "cublasLtMatrixLayoutCreate");
  return Layout(layout);
}

void LtMatmul::SetVector(void* vector) {
  if (vector == vector_) return;
  Set(operation_.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
  vector_ = vector;
}

// Partial sums are added as floats whatever the output is. Added in place, their order is that in which they arrive.
uint32_t LtMatmul::Reductions() const {
  uint32_t allowed = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  if (problem_.d.type == DataType::kFloat) allowed |= CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
  if (problem_.d.type == DataType::kFloat && !libraries_.deterministic()) allowed |= CUBLASLT_REDUCTION_SCHEME_INPLACE;
  return allowed;
}

std::vector<LtAlgorithm> LtMatmul::Candidates(size_t workspace_limit, size_t limit) {
  cublasLtMatmulPreference_t raw = nullptr;
  Check(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate");
  const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Deleter> preference(raw);
  Set(raw, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_limit});
  Set(raw, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, Reductions());
  for (const auto name : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    Set(raw, name, kAlignmentBytes);
  std::vector<cublasLtMatmulHeuristicResult_t> results(limit);
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(libraries_.cublas(), operation_.get(), a_.get(), b_.get(), d_.get(),
                                                               d_.get(), raw, static_cast<int>(limit), results.data(), &count);
  // Types or an epilogue that the library does not combine are refused by either.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
  Check(status, "cublasLtMatmulAlgoGetHeuristic");
  std::vector<LtAlgorithm> found;
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& result = results[static_cast<size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace_limit)
      found.push_back({result.algo, result.workspaceSize});
  }
  return found;
}

std::string LtMatmul::Text(const LtAlgorithm& algorithm) {
  return fmt::format("algo {} tile={} stages={} splitk={} reduction={} swizzle={} custom={} inner={} cluster={}{}{}",
                     Configured<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_ID),
                     Configured<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID),
                     Configured<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_STAGES_ID),
                     Configured<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
                     Configured<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
                     Configured<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING),
                     Configured<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION),
                     Configured<uint16_t>(algorithm, CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID),
                     Configured<uint16_t>(algorithm, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID), kDataWord, Pack(algorithm.algorithm));
}

Result<LtAlgorithm> LtMatmul::Parse(const std::string& text, size_t workspace_limit) {
  LtAlgorithm found;
  const size_t data = text.find(kDataWord);
  if (data == std::string::npos || !Unpack(std::string_view(text).substr(data + kDataWord.size()), found.algorithm))
    return Fail(ErrorCode::kInvalidInput, "\"{}\" is no choice of a cuBLASLt algorithm", text);
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status = cublasLtMatmulAlgoCheck(libraries_.cublas(), operation_.get(), a_.get(), b_.get(), d_.get(),
                                                        d_.get(), &found.algorithm, &result);
  if (status != CUBLAS_STATUS_SUCCESS) return Fail(ErrorCode::kUnsupported, "{}: {}", text.substr(0, data), Describe(status));
  found.workspace_bytes = result.workspaceSize;
  if (Text(found) != text) return Fail(ErrorCode::kInvalidInput, "\"{}\" does not agree with its data: {}", text, Text(found));
  if (found.workspace_bytes > workspace_limit)
    return Fail(ErrorCode::kUnavailable, "{}: it wants {} of workspace, and {} are allowed", text.substr(0, data),
                HumanBytes(found.workspace_bytes), HumanBytes(workspace_limit));
  if (Configured<int32_t>(found, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) != 1 &&
      (Configured<uint32_t>(found, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) & ~Reductions()) != 0)
    return Fail(ErrorCode::kUnsupported, "{}: its way of adding partial sums is not accepted here", text.substr(0, data));
  return found;
}

void LtMatmul::Run(const LtAlgorithm& algorithm, const void* a, const void* b, void* d, void* vector, void* workspace,
                   const char* what) {
  const float alpha = 1, beta = 0;
  if (HasVector()) SetVector(vector);
  Check(cublasLtMatmul(libraries_.cublas(), operation_.get(), &alpha, a, a_.get(), b, b_.get(), &beta, d, d_.get(), d, d_.get(),
                       &algorithm.algorithm, workspace, algorithm.workspace_bytes, libraries_.stream().get()),
        what);
}

}  // namespace plateau::cuda
