// The C functions of the emulated cuBLASLt: descriptors with their attributes, and the product itself.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>

#include "tests/support/cuda/cublaslt.h"
#include "tests/support/cuda/stream.h"

namespace plateau::emulated {
namespace {

struct LtHandle {
  int device;
};

int Fault(const char* function) {
  const Lock lock(TheSystem().mutex);
  return TakeFault(function);
}

// A member of one of our structs by the library's name of it.
struct Field {
  int name;
  size_t offset, bytes;
  bool settable = true;
};

constexpr Field kOperationFields[] = {
    {CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, offsetof(LtOperation, compute), 4},
    {CUBLASLT_MATMUL_DESC_SCALE_TYPE, offsetof(LtOperation, scale), 4},
    {CUBLASLT_MATMUL_DESC_POINTER_MODE, offsetof(LtOperation, pointer_mode), 4},
    {CUBLASLT_MATMUL_DESC_TRANSA, offsetof(LtOperation, transpose_a), 4},
    {CUBLASLT_MATMUL_DESC_TRANSB, offsetof(LtOperation, transpose_b), 4},
    {CUBLASLT_MATMUL_DESC_EPILOGUE, offsetof(LtOperation, epilogue), 4},
    {CUBLASLT_MATMUL_DESC_BIAS_POINTER, offsetof(LtOperation, bias), 8},
    {CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, offsetof(LtOperation, bias_batch_stride), 8},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, offsetof(LtOperation, aux), 8},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, offsetof(LtOperation, aux_ld), 8},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, offsetof(LtOperation, aux_batch_stride), 8},
    {CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, offsetof(LtOperation, sm_count), 4},
    {CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, offsetof(LtOperation, aux_type), 4},
    {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, offsetof(LtOperation, bias_type), 4},
};

constexpr Field kLayoutFields[] = {
    {CUBLASLT_MATRIX_LAYOUT_TYPE, offsetof(LtLayout, type), 4},
    {CUBLASLT_MATRIX_LAYOUT_ORDER, offsetof(LtLayout, order), 4},
    {CUBLASLT_MATRIX_LAYOUT_ROWS, offsetof(LtLayout, rows), 8},
    {CUBLASLT_MATRIX_LAYOUT_COLS, offsetof(LtLayout, columns), 8},
    {CUBLASLT_MATRIX_LAYOUT_LD, offsetof(LtLayout, ld), 8},
    {CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, offsetof(LtLayout, batch_count), 4},
    {CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, offsetof(LtLayout, batch_stride), 8},
};

constexpr Field kPreferenceFields[] = {
    {CUBLASLT_MATMUL_PREF_SEARCH_MODE, offsetof(LtPreference, search_mode), 4},
    {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, offsetof(LtPreference, workspace_bytes), 8},
    {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, offsetof(LtPreference, reductions), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, offsetof(LtPreference, alignment), 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, offsetof(LtPreference, alignment) + 4, 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, offsetof(LtPreference, alignment) + 8, 4},
    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, offsetof(LtPreference, alignment) + 12, 4},
    {CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, offsetof(LtPreference, waves), 4},
    {CUBLASLT_MATMUL_PREF_IMPL_MASK, offsetof(LtPreference, implementations), 8},
};

constexpr Field kAlgoFields[] = {
    {CUBLASLT_ALGO_CONFIG_ID, offsetof(LtAlgo, id), 4, false},
    {CUBLASLT_ALGO_CONFIG_TILE_ID, offsetof(LtAlgo, tile), 4},
    {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, offsetof(LtAlgo, splits), 4},
    {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, offsetof(LtAlgo, reduction), 4},
    {CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, offsetof(LtAlgo, swizzle), 4},
    {CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, offsetof(LtAlgo, custom), 4},
    {CUBLASLT_ALGO_CONFIG_STAGES_ID, offsetof(LtAlgo, stages), 4},
    {CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, offsetof(LtAlgo, inner_shape), 2},
    {CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, offsetof(LtAlgo, cluster_shape), 2},
};

template <size_t count>
const Field* FindField(const Field (&fields)[count], int name) {
  const auto found = std::find_if(std::begin(fields), std::end(fields), [&](const Field& field) { return field.name == name; });
  return found == std::end(fields) ? nullptr : found;
}

template <size_t count>
cublasStatus_t SetField(const Field (&fields)[count], void* opaque, int name, const void* value, size_t bytes) {
  const Field* const field = FindField(fields, name);
  if (field == nullptr || !field->settable || value == nullptr || bytes != field->bytes) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(static_cast<char*>(opaque) + field->offset, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <size_t count>
cublasStatus_t GetField(const Field (&fields)[count], const void* opaque, int name, void* value, size_t bytes, size_t* written) {
  const Field* const field = FindField(fields, name);
  if (field == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (written != nullptr) *written = field->bytes;
  if (bytes == 0) return written == nullptr ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
  if (value == nullptr || bytes != field->bytes) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(value, static_cast<const char*>(opaque) + field->offset, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Opaque>
cublasStatus_t Create(Opaque** made, const T& value) {
  static_assert(sizeof(T) <= sizeof(Opaque));
  *made = new Opaque{};
  std::memcpy((*made)->data, static_cast<const void*>(&value), sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, class Opaque>
T Read(const Opaque* opaque) {
  T value;
  std::memcpy(static_cast<void*>(&value), opaque->data, sizeof(T));
  return value;
}

// Whether `bytes` from `data` on lie in device memory, aligned.
bool InDevice(const void* data, int64_t bytes, uint32_t alignment) {
  const Allocation* const found = FindAllocation(data, static_cast<size_t>(bytes));
  return found != nullptr && found->device >= 0 && reinterpret_cast<uintptr_t>(data) % alignment == 0;
}

int64_t Bytes(const LtLayout& layout) {
  const auto lines = static_cast<int64_t>(layout.order == CUBLASLT_ORDER_COL ? layout.columns : layout.rows);
  const auto line = static_cast<int64_t>(layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.columns);
  return ((lines - 1) * layout.ld + line) * ValueBytes(layout.type);
}

cublasStatus_t CheckPointers(const LtProblem& problem, const LtPointers& pointers, uint32_t alignment, uint64_t workspace_bytes) {
  const Lock lock(TheSystem().mutex);
  const LtOperation& operation = problem.operation;
  const bool operands = InDevice(pointers.a, Bytes(problem.a), alignment) && InDevice(pointers.b, Bytes(problem.b), alignment) &&
                        InDevice(pointers.d, Bytes(problem.d), alignment);
  if (!operands || (pointers.beta != 0 && !InDevice(pointers.c, Bytes(problem.c), alignment))) return CUBLAS_STATUS_INVALID_VALUE;
  const int64_t vector_bytes = problem.bias_values() * ValueBytes(problem.d.type);
  if ((problem.has_bias() || problem.has_bias_gradient()) && !InDevice(operation.bias, vector_bytes, 1)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool mask = operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT && (operation.epilogue & 128) != 0;
  if (mask && !InDevice(operation.aux, operation.aux_ld / 8 * problem.n(), 16)) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace_bytes > 0 && !InDevice(pointers.workspace, static_cast<int64_t>(workspace_bytes), 256)) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

size_t cublasLtGetVersion() { return CUBLAS_VER_MAJOR * 10000 + CUBLAS_VER_MINOR * 100 + CUBLAS_VER_PATCH; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "a failure of the emulated cuBLASLt";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (const int fault = Fault("cublasLtCreate")) return static_cast<cublasStatus_t>(fault);
  const Lock lock(TheSystem().mutex);
  if (TheSystem().device_count == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = reinterpret_cast<cublasLtHandle_t>(new LtHandle{CurrentDevice()});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<LtHandle*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute, cudaDataType_t scale) {
  return Create(made, LtOperation{.compute = compute, .scale = scale});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name, const void* value,
                                              size_t bytes) {
  return SetField(kOperationFields, operation->data, name, value, bytes);
}
cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name, void* value,
                                              size_t bytes, size_t* written) {
  return GetField(kOperationFields, operation->data, name, value, bytes, written);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld) {
  return Create(made, LtLayout{.type = type, .rows = rows, .columns = columns, .ld = ld});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t name, const void* value,
                                                size_t bytes) {
  return SetField(kLayoutFields, layout->data, name, value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t name, void* value,
                                                size_t bytes, size_t* written) {
  return GetField(kLayoutFields, layout->data, name, value, bytes, written);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) { return Create(made, LtPreference{}); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name,
                                                    const void* value, size_t bytes) {
  return SetField(kPreferenceFields, preference->data, name, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name,
                                                    void* value, size_t bytes, size_t* written) {
  return GetField(kPreferenceFields, preference->data, name, value, bytes, written);
}

cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t* algo, cublasLtMatmulAlgoConfigAttributes_t name,
                                                    const void* value, size_t bytes) {
  return SetField(kAlgoFields, algo->data, name, value, bytes);
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo, cublasLtMatmulAlgoConfigAttributes_t name,
                                                    void* value, size_t bytes, size_t* written) {
  return GetField(kAlgoFields, algo->data, name, value, bytes, written);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* raw_algo, void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (const int fault = Fault("cublasLtMatmul")) return static_cast<cublasStatus_t>(fault);
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (alpha == nullptr || beta == nullptr || raw_algo == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const LtProblem problem{Read<LtOperation>(operation), Read<LtLayout>(a_layout), Read<LtLayout>(b_layout), Read<LtLayout>(c_layout),
                          Read<LtLayout>(d_layout)};
  const auto algo = Read<LtAlgo>(raw_algo);
  uint64_t wanted = 0;
  if (const cublasStatus_t wrong = CheckAlgo(problem, algo, wanted)) return wrong;
  if (wanted > workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
  LtPointers pointers{.a = a, .b = b, .c = c, .d = d, .workspace = workspace};
  std::memcpy(&pointers.alpha, alpha, sizeof(float));
  std::memcpy(&pointers.beta, beta, sizeof(float));
  if (const cublasStatus_t wrong = CheckPointers(problem, pointers, AlgoAlignment(algo), wanted)) return wrong;
  const cudaError_t queued = Queue(stream, [problem, algo, pointers, wanted] { RunMatmul(problem, algo, pointers, wanted); });
  return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
