// How the emulated cuBLASLt multiplies: sums in double, or in float by parts where an algorithm splits them, then the epilogue.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <vector>

#include "tests/support/cuda/cublaslt.h"
#include "tests/support/cuda/numbers.h"

namespace plateau::emulated {
namespace {

constexpr int64_t kRows = 64, kColumns = 8;  // of a block of results

float Load(const LtLayout& layout, const void* data, int64_t row, int64_t column) {
  const int64_t at = layout.order == CUBLASLT_ORDER_COL ? row + column * layout.ld : row * layout.ld + column;
  return layout.type == CUDA_R_32F ? LoadFloat(data, at) : LoadBf16(data, at);
}

void Store(int32_t type, void* data, int64_t at, float value) {
  if (type == CUDA_R_32F)
    StoreFloat(data, at, value);
  else
    StoreBf16(data, at, value);
}

// op(matrix) as [k][other], `other` being the rows of A or the columns of B.
std::vector<float> Arrange(const LtProblem& problem, const LtLayout& layout, const void* data, bool k_is_column, int64_t other) {
  const bool tf32 = problem.operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && layout.type == CUDA_R_32F;
  std::vector<float> arranged(static_cast<size_t>(problem.k() * other));
#pragma omp parallel for schedule(static)
  for (int64_t k = 0; k < problem.k(); ++k)
    for (int64_t i = 0; i < other; ++i) {
      const float value = k_is_column ? Load(layout, data, i, k) : Load(layout, data, k, i);
      arranged[static_cast<size_t>(k * other + i)] = tf32 ? RoundToTf32(value) : value;
    }
  return arranged;
}

// Adds the products of terms [begin, end) of k to a block of results, backwards when asked.
template <class Sum>
void AddTerms(const float* a, const float* b, int64_t m, int64_t n, int64_t rows, int64_t columns, int64_t begin, int64_t end, bool backwards,
              Sum (*sums)[kRows]) {
  for (int64_t step = begin; step < end; ++step) {
    const int64_t k = backwards ? begin + end - 1 - step : step;
    const float* const row = a + k * m;
    for (int64_t j = 0; j < columns; ++j) {
      const Sum factor = b[k * n + j];
      for (int64_t i = 0; i < rows; ++i) sums[j][i] += factor * static_cast<Sum>(row[i]);
    }
  }
}

struct Terms {
  int64_t count = 0;
  int32_t splits = 1;
  bool backwards = false;
  bool rounds_parts = false;  // partial sums are kept as bf16
};

template <class Sum>
void SumBlock(const float* a, const float* b, int64_t m, int64_t n, int64_t rows, int64_t columns, const Terms& terms,
              float (*results)[kRows]) {
  for (int32_t split = 0; split < terms.splits; ++split) {
    Sum sums[kColumns][kRows] = {};
    AddTerms(a, b, m, n, rows, columns, terms.count * split / terms.splits, terms.count * (split + 1) / terms.splits, terms.backwards, sums);
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = 0; i < rows; ++i) {
        const auto part = static_cast<float>(sums[j][i]);
        results[j][i] += terms.rounds_parts ? RoundToBf16(part) : part;
      }
  }
}

// [n][m]
std::vector<float> Multiply(const LtProblem& problem, const LtAlgo& algo, const std::vector<float>& a, const std::vector<float>& b) {
  static std::atomic<int64_t> calls{0};
  const int64_t m = problem.m(), n = problem.n();
  const bool in_place = algo.splits > 1 && algo.reduction == CUBLASLT_REDUCTION_SCHEME_INPLACE;
  const bool of_output = algo.splits > 1 && algo.reduction != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  const Terms terms{problem.k(), algo.splits, in_place && calls++ % 2 == 1, of_output && problem.d.type == CUDA_R_16BF};
  std::vector<float> product(static_cast<size_t>(m * n));
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (int64_t i = 0; i < m; i += kRows)
    for (int64_t j = 0; j < n; j += kColumns) {
      const int64_t rows = std::min(kRows, m - i), columns = std::min(kColumns, n - j);
      float results[kColumns][kRows] = {};
      if (algo.splits > 1)
        SumBlock<float>(a.data() + i, b.data() + j, m, n, rows, columns, terms, results);
      else
        SumBlock<double>(a.data() + i, b.data() + j, m, n, rows, columns, terms, results);
      for (int64_t column = 0; column < columns; ++column)
        std::copy(results[column], results[column] + rows, product.begin() + (j + column) * m + i);
    }
  return product;
}

bool MaskBit(const LtOperation& operation, int64_t row, int64_t column) {
  const int64_t bit = row + column * operation.aux_ld;
  return ((static_cast<const uint8_t*>(operation.aux)[bit / 8] >> (bit % 8)) & 1) != 0;
}

void PutMaskBit(const LtOperation& operation, int64_t row, int64_t column, bool on) {
  const int64_t bit = row + column * operation.aux_ld;
  uint8_t& byte = static_cast<uint8_t*>(operation.aux)[bit / 8];
  byte = static_cast<uint8_t>((byte & ~(1 << (bit % 8))) | (on ? 1 << (bit % 8) : 0));
}

// Bias, ReLU with its mask, or the ReLU's gradient.
float Finish(const LtProblem& problem, float value, int64_t row, int64_t column) {
  const LtOperation& operation = problem.operation;
  if (problem.has_bias())
    value += problem.d.type == CUDA_R_32F ? LoadFloat(operation.bias, row) : LoadBf16(operation.bias, row);
  switch (operation.epilogue) {
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_RELU_BIAS: return value > 0 || value != value ? value : 0;
    case CUBLASLT_EPILOGUE_RELU_AUX:
    case CUBLASLT_EPILOGUE_RELU_AUX_BIAS: PutMaskBit(operation, row, column, value > 0); return value > 0 || value != value ? value : 0;
    case CUBLASLT_EPILOGUE_DRELU:
    case CUBLASLT_EPILOGUE_DRELU_BGRAD: return MaskBit(operation, row, column) ? value : 0;
    default: return value;
  }
}

// The sums of an operand over k, or of D over its columns: the bias gradients.
std::vector<float> BiasGradient(const LtProblem& problem, const std::vector<float>& a, const std::vector<float>& b,
                                const std::vector<float>& d) {
  const int64_t values = problem.bias_values();
  const std::vector<float>& from = problem.operation.epilogue == CUBLASLT_EPILOGUE_BGRADA   ? a
                                   : problem.operation.epilogue == CUBLASLT_EPILOGUE_BGRADB ? b
                                                                                            : d;
  std::vector<double> sums(static_cast<size_t>(values));
  for (size_t i = 0; i < from.size(); ++i) sums[i % static_cast<size_t>(values)] += from[i];
  return {sums.begin(), sums.end()};
}

}  // namespace

void RunMatmul(const LtProblem& problem, const LtAlgo& algo, const LtPointers& pointers, uint64_t workspace_bytes) {
  const int64_t m = problem.m(), n = problem.n();
  const std::vector<float> a = Arrange(problem, problem.a, pointers.a, problem.operation.transpose_a == CUBLAS_OP_N, m);
  const std::vector<float> b = Arrange(problem, problem.b, pointers.b, problem.operation.transpose_b != CUBLAS_OP_N, n);
  std::vector<float> d = Multiply(problem, algo, a, b);
  for (int64_t column = 0; column < n; ++column)
    for (int64_t row = 0; row < m; ++row) {
      float& value = d[static_cast<size_t>(column * m + row)];
      value *= pointers.alpha;
      if (pointers.beta != 0) value += pointers.beta * Load(problem.c, pointers.c, row, column);
      value = Finish(problem, value, row, column);
      const int64_t at = problem.d.order == CUBLASLT_ORDER_COL ? row + column * problem.d.ld : row * problem.d.ld + column;
      Store(problem.d.type, pointers.d, at, value);
    }
  if (problem.has_bias_gradient()) {
    const std::vector<float> gradient = BiasGradient(problem, a, b, d);
    for (size_t i = 0; i < gradient.size(); ++i) Store(problem.d.type, problem.operation.bias, static_cast<int64_t>(i), gradient[i]);
  }
  if (workspace_bytes > 0) std::memset(pointers.workspace, 0xFF, workspace_bytes);  // scratch: nobody's
}

}  // namespace plateau::emulated
