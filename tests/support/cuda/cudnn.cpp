// The C functions of the emulated cuDNN.
#include <cudnn.h>

#include <cstdio>
#include <cstring>

#include <fmt/format.h>

#include "tests/support/cuda/cudnn_descriptor.h"
#include "tests/support/cuda/cudnn_graph.h"
#include "tests/support/cuda/stream.h"

struct cudnnContext {
  int device = 0;
  cudaStream_t stream = nullptr;
};

namespace plateau::emulated {
namespace {

thread_local std::string last_error;

// Runs `body`, after the fault that a test may have planned; every failure leaves its text for cudnnGetLastErrorString.
template <class Body>
cudnnStatus_t CudnnCall(const char* function, Body body) {
  try {
    {
      const Lock lock(TheSystem().mutex);
      if (const int fault = TakeFault(function)) Refuse(static_cast<cudnnStatus_t>(fault), "a fault that the test asked for");
    }
    body();
    return CUDNN_STATUS_SUCCESS;
  } catch (const CudnnError& error) {
    last_error = fmt::format("{}: {}", function, error.text);
    return error.status;
  }
}

CudnnDescriptor& Body(cudnnBackendDescriptor_t descriptor) {
  if (descriptor == nullptr) Refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the descriptor is null");
  return *static_cast<CudnnHandle*>(descriptor)->body;
}

bool TypeFits(const CudnnRule& rule, cudnnBackendAttributeType_t type) {
  if (rule.type == CUDNN_TYPE_FLOAT) return type == CUDNN_TYPE_FLOAT || type == CUDNN_TYPE_DOUBLE;  // alpha and beta
  return rule.type == type;
}

const CudnnRule& RuleFor(const CudnnDescriptor& descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) {
  const CudnnRule* const rule = FindRule(descriptor.type, name);
  if (rule == nullptr)
    Refuse(CUDNN_STATUS_BAD_PARAM, fmt::format("descriptors of type {} have no attribute {}", static_cast<int>(descriptor.type),
                                               static_cast<int>(name)));
  if (!TypeFits(*rule, type))
    Refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, fmt::format("attribute {} has type {}, not {}", static_cast<int>(name),
                                                              static_cast<int>(rule->type), static_cast<int>(type)));
  return *rule;
}

void SetAttribute(CudnnDescriptor& descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                  const void* elements) {
  if (descriptor.finalized) Refuse(CUDNN_STATUS_BAD_PARAM, "the descriptor is finalized");
  const CudnnRule& rule = RuleFor(descriptor, name, type);
  if (!rule.settable) Refuse(CUDNN_STATUS_BAD_PARAM, fmt::format("attribute {} cannot be set", static_cast<int>(name)));
  if (count < 1 || count > rule.most)
    Refuse(CUDNN_STATUS_BAD_PARAM, fmt::format("attribute {} takes 1 to {} elements, not {}", static_cast<int>(name), rule.most, count));
  if (elements == nullptr) Refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, fmt::format("attribute {}: no elements", static_cast<int>(name)));
  CudnnValue value{type, count, {}, {}};
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    for (int64_t i = 0; i < count; ++i) {
      const auto child = static_cast<const cudnnBackendDescriptor_t*>(elements)[i];
      Body(child);
      value.children.push_back(static_cast<CudnnHandle*>(child)->body);
    }
  } else {
    value.bytes.resize(static_cast<size_t>(count) * ElementBytes(type));
    std::memcpy(value.bytes.data(), elements, value.bytes.size());
    if (type == CUDNN_TYPE_HANDLE && *static_cast<void* const*>(elements) == nullptr)
      Refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the handle is null");
  }
  descriptor.values[name] = std::move(value);
}

void GetAttribute(const CudnnDescriptor& descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                  int64_t requested, int64_t* count, void* elements) {
  if (!descriptor.finalized) Refuse(CUDNN_STATUS_NOT_INITIALIZED, "the descriptor is not finalized");
  RuleFor(descriptor, name, type);
  const auto found = descriptor.values.find(name);
  const int64_t there = found == descriptor.values.end() ? 0 : found->second.count;
  if (count != nullptr) *count = there;
  if (elements == nullptr || requested == 0 || there == 0) return;
  const int64_t taken = std::min(requested, there);
  if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    std::memcpy(elements, found->second.bytes.data(), static_cast<size_t>(taken) * ElementBytes(found->second.type));
    return;
  }
  for (int64_t i = 0; i < taken; ++i) {  // into descriptors that the caller has made
    const auto target = static_cast<CudnnHandle*>(static_cast<cudnnBackendDescriptor_t*>(elements)[i]);
    const DescriptorPtr& child = found->second.children[static_cast<size_t>(i)];
    if (target == nullptr || target->body->type != child->type)
      Refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
             fmt::format("attribute {}: element {} is no descriptor of type {}", static_cast<int>(name), i, static_cast<int>(child->type)));
    target->body = child;
  }
  if (count != nullptr) *count = taken;
}

}  // namespace
}  // namespace plateau::emulated

using namespace plateau::emulated;  // NOLINT: this file is the library's side of its C functions

size_t cudnnGetVersion() { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion() { return CUDART_VERSION; }

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (CUDNN_STATUS_CATEGORY(status)) {
    case 0: return "CUDNN_STATUS_SUCCESS";
    case 1000: return "CUDNN_STATUS_NOT_INITIALIZED";
    case 2000: return "CUDNN_STATUS_BAD_PARAM";
    case 3000: return "CUDNN_STATUS_NOT_SUPPORTED";
    case 4000: return "CUDNN_STATUS_INTERNAL_ERROR";
    default: return "CUDNN_STATUS_EXECUTION_FAILED";
  }
}

void cudnnGetLastErrorString(char* message, size_t bytes) {
  std::snprintf(message, bytes, "%s", last_error.c_str());
  last_error.clear();
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  return CudnnCall("cudnnCreate", [&] {
    const Lock lock(TheSystem().mutex);
    if (TheSystem().device_count == 0) Refuse(CUDNN_STATUS_NOT_INITIALIZED, "no device");
    *handle = new cudnnContext{CurrentDevice(), nullptr};
  });
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  return CudnnCall("cudnnSetStream", [&] {
    const Lock lock(TheSystem().mutex);
    const CUstream_st* const found = Find(stream);
    if (handle == nullptr || found == nullptr || found->device != handle->device)
      Refuse(CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH, "the stream is none, or of another device than the handle");
    handle->stream = stream;
  });
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  *stream = handle->stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
  return CudnnCall("cudnnBackendCreateDescriptor", [&] {
    if (!KnownKind(type)) Refuse(CUDNN_STATUS_NOT_SUPPORTED, fmt::format("descriptors of type {} are not emulated", static_cast<int>(type)));
    auto body = std::make_shared<CudnnDescriptor>();
    body->type = type;
    *descriptor = new CudnnHandle{std::move(body)};
  });
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete static_cast<CudnnHandle*>(descriptor);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* elements) {
  return CudnnCall("cudnnBackendSetAttribute", [&] { SetAttribute(Body(descriptor), name, type, count, elements); });
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested, int64_t* count, void* elements) {
  return CudnnCall("cudnnBackendGetAttribute", [&] { GetAttribute(Body(descriptor), name, type, requested, count, elements); });
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return CudnnCall("cudnnBackendFinalize", [&] {
    CudnnDescriptor& body = Body(descriptor);
    if (body.finalized) Refuse(CUDNN_STATUS_BAD_PARAM, "the descriptor is finalized already");
    CheckAttributes(body);
    FinalizeDescriptor(body);
    body.finalized = true;
  });
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  return CudnnCall("cudnnBackendExecute", [&] {
    if (handle == nullptr) Refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the handle is null");
    const CudnnDescriptor& plan_body = Body(plan);
    const CudnnDescriptor& pack_body = Body(pack);
    if (plan_body.plan == nullptr) Refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "this is no finalized execution plan");
    if (pack_body.type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR || !pack_body.finalized)
      Refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "this is no finalized variant pack");
    const cudaError_t queued = Queue(handle->stream, BindPlan(plan_body.plan, pack_body));
    if (queued != cudaSuccess)
      Refuse(CUDNN_STATUS_EXECUTION_FAILED_CUDART, fmt::format("the stream answers cudaError {}", static_cast<int>(queued)));
  });
}
