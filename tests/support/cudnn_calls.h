// cuDNN's backend API in the fewest words, for tests: descriptors that free themselves, and one convolution with what follows it.
#pragma once

#include <cudnn.h>

#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

namespace plateau {

class CudnnCall {
 public:
  explicit CudnnCall(cudnnBackendDescriptorType_t type) { status_ = cudnnBackendCreateDescriptor(type, &raw_); }
  ~CudnnCall() { cudnnBackendDestroyDescriptor(raw_); }
  CudnnCall(const CudnnCall&) = delete;
  CudnnCall& operator=(const CudnnCall&) = delete;

  template <class T>
  CudnnCall& Set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<T>& values) {
    return Note(cudnnBackendSetAttribute(raw_, name, type, static_cast<int64_t>(values.size()), values.data()));
  }
  template <class T>
  CudnnCall& Set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, T value) {
    return Note(cudnnBackendSetAttribute(raw_, name, type, 1, &value));
  }
  CudnnCall& Set(cudnnBackendAttributeName_t name, const CudnnCall& child) { return Set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, child.raw_); }
  CudnnCall& Finalize() { return Note(cudnnBackendFinalize(raw_)); }
  // The first that was not success.
  cudnnStatus_t status() const { return status_; }
  cudnnBackendDescriptor_t raw() const { return raw_; }

  int64_t Int(cudnnBackendAttributeName_t name) const {
    int64_t value = 0, count = 0;
    cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_INT64, 1, &count, &value);
    return value;
  }
  // Fresh descriptors holding the elements of an attribute.
  std::vector<std::unique_ptr<CudnnCall>> Children(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type) const {
    int64_t count = 0;
    cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr);
    std::vector<std::unique_ptr<CudnnCall>> children;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (int64_t i = 0; i < count; ++i) raw.push_back(children.emplace_back(std::make_unique<CudnnCall>(type))->raw_);
    cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, raw.data());
    children.resize(static_cast<size_t>(count));
    return children;
  }
  std::vector<cudnnBackendNumericalNote_t> Notes() const {
    std::vector<cudnnBackendNumericalNote_t> notes(CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
    int64_t count = 0;
    cudnnBackendGetAttribute(raw_, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count,
                             notes.data());
    notes.resize(static_cast<size_t>(count));
    return notes;
  }

 private:
  CudnnCall& Note(cudnnStatus_t status) {
    if (status_ == CUDNN_STATUS_SUCCESS) status_ = status;
    return *this;
  }
  cudnnBackendDescriptor_t raw_ = nullptr;
  cudnnStatus_t status_ = CUDNN_STATUS_SUCCESS;
};

using CudnnCallPtr = std::unique_ptr<CudnnCall>;

// dims [n, c, h, w], channels next to each other in memory.
inline CudnnCallPtr CudnnTensorCall(int64_t uid, const std::vector<int64_t>& dims, cudnnDataType_t type, bool is_virtual = false) {
  auto tensor = std::make_unique<CudnnCall>(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const std::vector<int64_t> strides{dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
  tensor->Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, uid)
      .Set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type)
      .Set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, int64_t{16})
      .Set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims)
      .Set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides)
      .Set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, is_virtual)
      .Finalize();
  return tensor;
}

inline CudnnCallPtr CudnnConvolutionCall(int64_t pad, int64_t stride) {
  auto convolution = std::make_unique<CudnnCall>(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const std::vector<int64_t> pads{pad, pad}, strides{stride, stride}, dilations{1, 1};
  convolution->Set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .Set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION)
      .Set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, int64_t{2})
      .Set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, pads)
      .Set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, pads)
      .Set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, strides)
      .Set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, dilations)
      .Finalize();
  return convolution;
}

inline CudnnCallPtr CudnnForwardCall(const CudnnCall& convolution, const CudnnCall& x, const CudnnCall& w, const CudnnCall& y) {
  auto operation = std::make_unique<CudnnCall>(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  operation->Set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1.0F)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 0.0F)
      .Finalize();
  return operation;
}

inline CudnnCallPtr CudnnBackwardDataCall(const CudnnCall& convolution, const CudnnCall& dy, const CudnnCall& w, const CudnnCall& dx) {
  auto operation = std::make_unique<CudnnCall>(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
  operation->Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, convolution)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, dy)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, w)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, dx)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1.0F)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 0.0F)
      .Finalize();
  return operation;
}

inline CudnnCallPtr CudnnBackwardFilterCall(const CudnnCall& convolution, const CudnnCall& x, const CudnnCall& dy, const CudnnCall& dw) {
  auto operation = std::make_unique<CudnnCall>(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
  operation->Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, convolution)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, x)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, dy)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, dw)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_TYPE_FLOAT, 1.0F)
      .Set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, CUDNN_TYPE_FLOAT, 0.0F)
      .Finalize();
  return operation;
}

// y = mode(x, b); b null where the mode has one operand.
inline CudnnCallPtr CudnnPointwiseCall(cudnnPointwiseMode_t mode, const CudnnCall& x, const CudnnCall* b, const CudnnCall& y) {
  CudnnCall pointwise(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  pointwise.Set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
      .Set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
      .Finalize();
  auto operation = std::make_unique<CudnnCall>(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation->Set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise).Set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  if (b != nullptr) operation->Set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
  operation->Set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y).Finalize();
  return operation;
}

// handle null: a graph that only describes.
inline CudnnCallPtr CudnnGraphCall(cudnnHandle_t handle, std::initializer_list<const CudnnCall*> operations) {
  auto graph = std::make_unique<CudnnCall>(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const CudnnCall* operation : operations) raw.push_back(operation->raw());
  if (handle != nullptr) graph->Set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
  graph->Set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw).Finalize();
  return graph;
}

inline std::vector<CudnnCallPtr> CudnnConfigs(const CudnnCall& graph, cudnnBackendHeurMode_t mode) {
  CudnnCall heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.Set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph).Set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode).Finalize();
  if (heuristics.status() != CUDNN_STATUS_SUCCESS) return {};
  return heuristics.Children(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
}

inline CudnnCallPtr CudnnPlanCall(cudnnHandle_t handle, const CudnnCall& config) {
  auto plan = std::make_unique<CudnnCall>(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  plan->Set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle)
      .Set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)
      .Finalize();
  return plan;
}

inline cudnnStatus_t CudnnRun(cudnnHandle_t handle, const CudnnCall& plan, const std::vector<int64_t>& uids,
                              const std::vector<void*>& pointers, void* workspace) {
  CudnnCall pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.Set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, uids)
      .Set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers)
      .Set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace)
      .Finalize();
  return pack.status() != CUDNN_STATUS_SUCCESS ? pack.status() : cudnnBackendExecute(handle, plan.raw(), pack.raw());
}

}  // namespace plateau
