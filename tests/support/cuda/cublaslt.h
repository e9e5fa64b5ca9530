// What the emulated cuBLASLt keeps in the library's opaque structs, and the product it runs.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <functional>

namespace plateau::emulated {

struct LtLayout {
  int32_t type = CUDA_R_32F;
  int32_t order = CUBLASLT_ORDER_COL;
  uint64_t rows = 0, columns = 0;
  int64_t ld = 0;
  int64_t batch_stride = 0;
  int32_t batch_count = 1;
};

struct LtOperation {
  int32_t compute = CUBLAS_COMPUTE_32F, scale = CUDA_R_32F;
  int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  int32_t bias_type = -1;  // -1: as D
  int32_t aux_type = -1;
  void* bias = nullptr;
  void* aux = nullptr;
  int64_t aux_ld = 0;  // bits of a ReLU mask
  int64_t bias_batch_stride = 0, aux_batch_stride = 0;
  int32_t sm_count = 0;
};

struct LtPreference {
  uint32_t search_mode = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint64_t workspace_bytes = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // a b c d
  float waves = 0;
  uint64_t implementations = ~uint64_t{0};
};

// In cublasLtMatmulAlgo_t: `mark` tells an algorithm of ours from bytes of something else.
struct LtAlgo {
  uint32_t mark = 0;
  int32_t id = 0;
  int32_t splits = 1;
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  uint32_t tile = 0, stages = 0, swizzle = 0, custom = 0;
  uint16_t inner_shape = 0, cluster_shape = 0;
};

struct LtProblem {
  LtOperation operation;
  LtLayout a, b, c, d;
  int64_t m() const { return static_cast<int64_t>(d.rows); }
  int64_t n() const { return static_cast<int64_t>(d.columns); }
  int64_t k() const { return static_cast<int64_t>(operation.transpose_a == CUBLAS_OP_N ? a.columns : a.rows); }
  bool has_bias() const;          // reads one
  bool has_bias_gradient() const;  // writes one
  int64_t bias_values() const;
};

struct LtPointers {
  const void *a = nullptr, *b = nullptr, *c = nullptr;
  void *d = nullptr, *workspace = nullptr;
  float alpha = 1, beta = 0;
};

int64_t ValueBytes(int32_t type);
// The product, its epilogue and the workspace left as garbage: the work to queue.
void RunMatmul(const LtProblem& problem, const LtAlgo& algo, const LtPointers& pointers, uint64_t workspace_bytes);  // cublaslt_execute.cpp

// ---- cublaslt_algo.cpp
// CUBLAS_STATUS_SUCCESS when the algorithm can run the problem; `workspace_bytes` is what it then wants.
cublasStatus_t CheckAlgo(const LtProblem& problem, const LtAlgo& algo, uint64_t& workspace_bytes);
uint32_t AlgoAlignment(const LtAlgo& algo);
// What the matrices, the epilogue and the types must agree on.
cublasStatus_t CheckProblem(const LtProblem& problem);

}  // namespace plateau::emulated
