// The algorithms of the emulated cuBLASLt: each stands for a kind that the real one has, so that limits and filters can be tested.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>

#include "tests/support/cuda/cublaslt.h"
#include "tests/support/cuda/system.h"

namespace plateau::emulated {
namespace {

constexpr uint32_t kMark = 0x504C5431;
constexpr uint64_t kGreedyBytes = uint64_t{1} << 30;

enum Id : int32_t {
  kPlain,      // one sequence of sums
  kSplit,      // partial sums, added by the reduction scheme
  kGreedy,     // wants a huge workspace
  kAligned,    // wants operands aligned to 256 bytes
  kOtherChip,  // proposed with a state that is no success
  kIds
};

LtAlgo Make(int32_t id, int32_t splits = 1, uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE) {
  return {.mark = kMark, .id = id, .splits = splits, .reduction = reduction, .tile = 20, .stages = 8};
}

bool KnownType(int32_t type) { return type == CUDA_R_32F || type == CUDA_R_16BF; }

bool Fits(const LtLayout& layout) {
  const uint64_t lines = layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.columns;
  return layout.rows > 0 && layout.columns > 0 && layout.ld >= static_cast<int64_t>(lines);
}

bool KnownEpilogue(uint32_t epilogue) {
  constexpr uint32_t kKnown[] = {CUBLASLT_EPILOGUE_DEFAULT,       CUBLASLT_EPILOGUE_RELU,  CUBLASLT_EPILOGUE_RELU_AUX,
                                 CUBLASLT_EPILOGUE_BIAS,          CUBLASLT_EPILOGUE_DRELU, CUBLASLT_EPILOGUE_RELU_BIAS,
                                 CUBLASLT_EPILOGUE_RELU_AUX_BIAS, CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB,
                                 CUBLASLT_EPILOGUE_DRELU_BGRAD};
  return std::find(std::begin(kKnown), std::end(kKnown), epilogue) != std::end(kKnown);
}

template <class T, class Opaque>
T Read(const Opaque* opaque) {
  T value;
  static_assert(sizeof(T) <= sizeof(Opaque));
  std::memcpy(static_cast<void*>(&value), opaque->data, sizeof(T));
  return value;
}

template <class T, class Opaque>
void Write(const T& value, Opaque* opaque) {
  std::memset(opaque->data, 0, sizeof(opaque->data));
  std::memcpy(opaque->data, static_cast<const void*>(&value), sizeof(T));
}

LtProblem ReadProblem(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                      cublasLtMatrixLayout_t d) {
  return {Read<LtOperation>(operation), Read<LtLayout>(a), Read<LtLayout>(b), Read<LtLayout>(c), Read<LtLayout>(d)};
}

// What the preference lets through; one algorithm for another chip is always among the results, with its state saying so.
bool Accepts(const LtPreference& preference, const LtProblem& problem, const LtAlgo& algo, uint64_t& workspace_bytes) {
  if (algo.id == kOtherChip) return true;
  if (CheckAlgo(problem, algo, workspace_bytes) != CUBLAS_STATUS_SUCCESS) return false;
  if (workspace_bytes > preference.workspace_bytes) return false;
  if (algo.splits > 1 && (algo.reduction & preference.reductions) == 0) return false;
  return std::all_of(std::begin(preference.alignment), std::end(preference.alignment),
                     [&](uint32_t alignment) { return alignment >= AlgoAlignment(algo); });
}

}  // namespace

bool LtProblem::has_bias() const {
  return operation.epilogue == CUBLASLT_EPILOGUE_BIAS || operation.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS ||
         operation.epilogue == CUBLASLT_EPILOGUE_RELU_AUX_BIAS;
}
bool LtProblem::has_bias_gradient() const {
  return operation.epilogue == CUBLASLT_EPILOGUE_BGRADA || operation.epilogue == CUBLASLT_EPILOGUE_BGRADB ||
         operation.epilogue == CUBLASLT_EPILOGUE_DRELU_BGRAD;
}
int64_t LtProblem::bias_values() const { return operation.epilogue == CUBLASLT_EPILOGUE_BGRADB ? n() : m(); }
int64_t ValueBytes(int32_t type) { return type == CUDA_R_32F ? 4 : 2; }
uint32_t AlgoAlignment(const LtAlgo& algo) { return algo.id == kAligned ? 256 : 16; }

cublasStatus_t CheckProblem(const LtProblem& problem) {
  const LtOperation& operation = problem.operation;
  for (const LtLayout* layout : {&problem.a, &problem.b, &problem.c, &problem.d})
    if (!Fits(*layout) || !KnownType(layout->type)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool plain_a = operation.transpose_a == CUBLAS_OP_N, plain_b = operation.transpose_b == CUBLAS_OP_N;
  const uint64_t m = plain_a ? problem.a.rows : problem.a.columns, k = plain_a ? problem.a.columns : problem.a.rows;
  const uint64_t k_of_b = plain_b ? problem.b.rows : problem.b.columns, n = plain_b ? problem.b.columns : problem.b.rows;
  if (k != k_of_b || problem.d.rows != m || problem.d.columns != n || problem.c.rows != m || problem.c.columns != n)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const LtLayout* layout : {&problem.a, &problem.b, &problem.c, &problem.d})
    if (layout->batch_count != 1) return CUBLAS_STATUS_NOT_SUPPORTED;  // not emulated
  const bool compute = operation.compute == CUBLAS_COMPUTE_32F || operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (!compute || operation.scale != CUDA_R_32F || operation.pointer_mode != CUBLASLT_POINTER_MODE_HOST) return CUBLAS_STATUS_NOT_SUPPORTED;
  // Float operands give float results; bf16 ones give either.
  if (problem.a.type != problem.b.type || problem.c.type != problem.d.type) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (problem.a.type == CUDA_R_32F && problem.d.type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!KnownEpilogue(operation.epilogue)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (operation.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_SUCCESS;
  for (const LtLayout* layout : {&problem.a, &problem.b, &problem.c, &problem.d})
    if (layout->order != CUBLASLT_ORDER_COL) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool vector = problem.has_bias() || problem.has_bias_gradient();
  if (vector && operation.bias_type != -1 && operation.bias_type != problem.d.type) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool mask = (operation.epilogue & 128) != 0;  // of the ReLU, one bit a value
  if (mask && (operation.aux_ld % 128 != 0 || operation.aux_ld < problem.m())) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CheckAlgo(const LtProblem& problem, const LtAlgo& algo, uint64_t& workspace_bytes) {
  workspace_bytes = 0;
  if (algo.mark != kMark || algo.id < 0 || algo.id >= kIds) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t wrong = CheckProblem(problem)) return wrong;
  if (algo.id == kOtherChip) return CUBLAS_STATUS_ARCH_MISMATCH;
  if (algo.splits < 1 || (algo.splits > 1) != (algo.id == kSplit)) return CUBLAS_STATUS_INVALID_VALUE;
  if (algo.id == kSplit && problem.operation.epilogue == CUBLASLT_EPILOGUE_DRELU_BGRAD) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto results = static_cast<uint64_t>(problem.m() * problem.n());
  if (algo.reduction == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) workspace_bytes = results * 4 * static_cast<uint64_t>(algo.splits);
  if (algo.reduction == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)
    workspace_bytes = results * static_cast<uint64_t>(ValueBytes(problem.d.type) * algo.splits);
  if (algo.reduction == CUBLASLT_REDUCTION_SCHEME_INPLACE) workspace_bytes = 1024;  // counters
  if (algo.id == kGreedy) workspace_bytes = kGreedyBytes;
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t raw_preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  *count = 0;
  {
    const Lock lock(TheSystem().mutex);
    if (const int fault = TakeFault("cublasLtMatmulAlgoGetHeuristic")) return static_cast<cublasStatus_t>(fault);
  }
  if (requested <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  const LtProblem problem = ReadProblem(operation, a, b, c, d);
  if (const cublasStatus_t wrong = CheckProblem(problem)) return wrong;
  const LtAlgo proposals[] = {Make(kOtherChip), Make(kGreedy), Make(kAligned), Make(kSplit, 4, CUBLASLT_REDUCTION_SCHEME_INPLACE),
                              Make(kSplit, 2, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), Make(kPlain),
                              Make(kSplit, 3, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)};
  for (const LtAlgo& algo : proposals) {
    uint64_t workspace_bytes = 0;
    if (*count == requested || !Accepts(Read<LtPreference>(raw_preference), problem, algo, workspace_bytes)) continue;
    cublasLtMatmulHeuristicResult_t& result = results[(*count)++];
    result = {};
    Write(algo, &result.algo);
    result.state = algo.id == kOtherChip ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    result.workspaceSize = workspace_bytes;
    result.wavesCount = 1;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetIds(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t,
                                        cudaDataType_t, cudaDataType_t, int requested, int ids[], int* count) {
  if (requested <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  *count = std::min<int>(requested, kIds);
  for (int i = 0; i < *count; ++i) ids[i] = i;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoInit(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t, cudaDataType_t, cudaDataType_t,
                                      cudaDataType_t, cudaDataType_t, int id, cublasLtMatmulAlgo_t* algo) {
  if (algo == nullptr || id < 0 || id >= kIds) return CUBLAS_STATUS_INVALID_VALUE;
  Write(Make(id), algo);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  uint64_t workspace_bytes = 0;
  result->state = CheckAlgo(ReadProblem(operation, a, b, c, d), Read<LtAlgo>(algo), workspace_bytes);
  result->workspaceSize = workspace_bytes;
  result->wavesCount = 1;
  return result->state;
}
