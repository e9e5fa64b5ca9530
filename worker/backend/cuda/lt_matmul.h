// One matrix product of cuBLASLt with its epilogue: descriptors with owners, the algorithms on offer, and the call.
#pragma once

#include <cublasLt.h>

#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/backend/cuda/libraries.h"

namespace plateau::cuda {

// D = op(A) op(B), matrices column-major as cuBLASLt sees them: `rows` and `columns` as stored, before op.
struct LtMatrix {
  DataType type = DataType::kFloat;
  int64_t rows = 0, columns = 0;
  bool transpose = false;
};

struct LtProblem {
  LtMatrix a, b, d;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
};

// An algorithm with its configuration; 64 bytes that the same version of the library takes back, as its header says.
struct LtAlgorithm {
  cublasLtMatmulAlgo_t algorithm{};
  size_t workspace_bytes = 0;
};

// Prepared for one problem. Run neither allocates nor waits. One thread at a time.
class LtMatmul {
 public:
  LtMatmul(Libraries& libraries, const LtProblem& problem);

  // What the heuristics offer, best first; none where the library has no such product or epilogue.
  std::vector<LtAlgorithm> Candidates(size_t workspace_limit, size_t limit);
  // Words for people, and the bytes for Parse: "algo 66 tile=20 stages=35 splitk=1 reduction=0 swizzle=0 custom=0 inner=0 cluster=2
  // data=2a.1f".
  static std::string Text(const LtAlgorithm& algorithm);
  // kUnsupported with the reason when the device or the rules do not take it; kInvalidInput when the text is damaged.
  Result<LtAlgorithm> Parse(const std::string& text, size_t workspace_limit);
  // `vector` is the epilogue's bias, or the bias gradient that it writes; ignored without one.
  void Run(const LtAlgorithm& algorithm, const void* a, const void* b, void* d, void* vector, void* workspace, const char* what);

 private:
  struct Deleter {
    void operator()(cublasLtMatmulDescOpaque_t* descriptor) const { cublasLtMatmulDescDestroy(descriptor); }
    void operator()(cublasLtMatrixLayoutOpaque_t* layout) const { cublasLtMatrixLayoutDestroy(layout); }
    void operator()(cublasLtMatmulPreferenceOpaque_t* preference) const { cublasLtMatmulPreferenceDestroy(preference); }
  };
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Deleter>;

  static Layout MakeLayout(const LtMatrix& matrix);
  uint32_t Reductions() const;  // schemes that are allowed where K is split
  bool HasVector() const { return (problem_.epilogue & (CUBLASLT_EPILOGUE_BIAS | CUBLASLT_EPILOGUE_BGRADB)) != 0; }
  void SetVector(void* vector);

  Libraries& libraries_;
  LtProblem problem_;
  std::unique_ptr<cublasLtMatmulDescOpaque_t, Deleter> operation_;
  Layout a_, b_, d_;
  void* vector_ = nullptr;
};

}  // namespace plateau::cuda
