// Describes graphs to cuDNN: which attribute is of which type is fixed by cudnn_graph.h of the library and its backend manual.
#include "worker/backend/cuda/cudnn_graph.h"

#include <limits>

#include "worker/backend/cuda/libraries.h"

namespace plateau::cuda {
namespace {

constexpr int64_t kAlignmentBytes = 16;  // of every map and weight: what kernels.h promises
constexpr int64_t kFirstId = 1;
constexpr int64_t kSpatialDims = 2;

cudnnDataType_t CudnnType(DataType type) { return type == DataType::kFloat ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16; }

}  // namespace

BackendDescriptor::BackendDescriptor(cudnnBackendDescriptorType_t type) {
  Check(cudnnBackendCreateDescriptor(type, &descriptor_), "cudnnBackendCreateDescriptor");
}
BackendDescriptor::~BackendDescriptor() {
  if (descriptor_ != nullptr) cudnnBackendDestroyDescriptor(descriptor_);
}
BackendDescriptor::BackendDescriptor(BackendDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, nullptr)) {}
BackendDescriptor& BackendDescriptor::operator=(BackendDescriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void BackendDescriptor::Set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  const cudnnStatus_t status = cudnnBackendSetAttribute(descriptor_, name, type, count, values);
  if (status != CUDNN_STATUS_SUCCESS) Check(status, fmt::format("cudnnBackendSetAttribute {}", static_cast<int>(name)).c_str());
}

void BackendDescriptor::SetChild(cudnnBackendAttributeName_t name, const BackendDescriptor& child) {
  Set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, child.descriptor_);
}

void BackendDescriptor::SetChildren(cudnnBackendAttributeName_t name, std::span<const BackendDescriptor> children) {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const BackendDescriptor& child : children) raw.push_back(child.descriptor_);
  Set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(raw.size()), raw.data());
}

cudnnStatus_t BackendDescriptor::Finalize() { return cudnnBackendFinalize(descriptor_); }

CudnnTarget DescribedDevice(std::string_view json) {
  BackendDescriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.Set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, static_cast<int64_t>(json.size()), json.data());
  Check(device.Finalize(), "description of a device");
  return {nullptr, std::make_shared<const BackendDescriptor>(std::move(device))};
}

int OperationGraph::Tensor(cudnnDataType_t type, const TensorDims& dims, bool is_virtual) {
  const auto& [n, c, h, w] = dims;
  const TensorDims strides{h * w * c, 1, w * c, c};
  const int number = static_cast<int>(parts_->tensors.size());
  const int64_t id = kFirstId + number;
  BackendDescriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.Set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  tensor.Set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims.data());
  tensor.Set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides.data());
  tensor.Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
  tensor.Set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignmentBytes);
  if (is_virtual) tensor.Set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, is_virtual);
  Check(tensor.Finalize(), "tensor descriptor");
  if (!is_virtual) real_ids_.push_back(id);
  parts_->tensors.push_back(std::move(tensor));
  return number;
}

int OperationGraph::Real(DataType type, const TensorDims& dims) { return Tensor(CudnnType(type), dims, false); }
int OperationGraph::Virtual(const TensorDims& dims) { return Tensor(CUDNN_DATA_FLOAT, dims, true); }

const BackendDescriptor& OperationGraph::ConvolutionSettings(const ConvWindow& window) {
  const std::array<int64_t, kSpatialDims> strides{window.stride, window.stride}, pads{window.pad, window.pad}, dilations{1, 1};
  BackendDescriptor settings(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  settings.Set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  settings.Set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
  settings.Set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, kSpatialDims);
  settings.Set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, kSpatialDims, pads.data());
  settings.Set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, kSpatialDims, pads.data());
  settings.Set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, kSpatialDims, dilations.data());
  settings.Set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, kSpatialDims, strides.data());
  Check(settings.Finalize(), "convolution descriptor");
  return parts_->settings.emplace_back(std::move(settings));
}

void OperationGraph::Convolution(cudnnBackendDescriptorType_t type, const ConvWindow& window,
                                 const std::array<cudnnBackendAttributeName_t, 6>& names, const std::array<int, 3>& tensors) {
  const float alpha = 1, beta = 0;
  BackendDescriptor operation(type);
  for (size_t i = 0; i < tensors.size(); ++i) operation.SetChild(names[i], At(tensors[i]));
  operation.SetChild(names[3], ConvolutionSettings(window));
  operation.Set(names[4], CUDNN_TYPE_FLOAT, alpha);
  operation.Set(names[5], CUDNN_TYPE_FLOAT, beta);
  Check(operation.Finalize(), "convolution operation");
  parts_->operations.push_back(std::move(operation));
}

void OperationGraph::ConvolutionForward(int x, int w, int y, const ConvWindow& window) {
  Convolution(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, window,
              {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
              {x, w, y});
}

void OperationGraph::ConvolutionBackwardData(int dy, int w, int dx, const ConvWindow& window) {
  Convolution(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, window,
              {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
              {dy, w, dx});
}

void OperationGraph::ConvolutionBackwardWeights(int x, int dy, int dw, const ConvWindow& window) {
  Convolution(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, window,
              {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
              {x, dy, dw});
}

const BackendDescriptor& OperationGraph::PointwiseSettings(cudnnPointwiseMode_t mode) {
  BackendDescriptor settings(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  settings.Set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  settings.Set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  if (mode == CUDNN_POINTWISE_RELU_FWD || mode == CUDNN_POINTWISE_RELU_BWD) {
    const double lower = 0, upper = double{std::numeric_limits<float>::max()}, slope = 0;
    settings.Set(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, CUDNN_PROPAGATE_NAN);
    settings.Set(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, CUDNN_TYPE_DOUBLE, lower);
    settings.Set(CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE, upper);
    settings.Set(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, CUDNN_TYPE_DOUBLE, slope);
  }
  Check(settings.Finalize(), "pointwise descriptor");
  return parts_->settings.emplace_back(std::move(settings));
}

void OperationGraph::Pointwise(cudnnPointwiseMode_t mode, std::span<const std::pair<cudnnBackendAttributeName_t, int>> tensors) {
  const float one = 1;
  BackendDescriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.SetChild(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, PointwiseSettings(mode));
  for (const auto& [name, tensor] : tensors) operation.SetChild(name, At(tensor));
  operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_TYPE_FLOAT, one);
  operation.Set(CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, CUDNN_TYPE_FLOAT, one);
  Check(operation.Finalize(), "pointwise operation");
  parts_->operations.push_back(std::move(operation));
}

void OperationGraph::Add(int x, int b, int y) {
  const std::pair<cudnnBackendAttributeName_t, int> tensors[] = {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x},
                                                                 {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y},
                                                                 {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b}};
  Pointwise(CUDNN_POINTWISE_ADD, tensors);
}

void OperationGraph::Relu(int x, int y) {
  const std::pair<cudnnBackendAttributeName_t, int> tensors[] = {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x},
                                                                 {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y}};
  Pointwise(CUDNN_POINTWISE_RELU_FWD, tensors);
}

void OperationGraph::ReluBackward(int dy, int x, int dx) {
  const std::pair<cudnnBackendAttributeName_t, int> tensors[] = {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x},
                                                                 {CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, dy},
                                                                 {CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, dx}};
  Pointwise(CUDNN_POINTWISE_RELU_BWD, tensors);
}

bool OperationGraph::Finalize() {
  BackendDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.SetChildren(CUDNN_ATTR_OPERATIONGRAPH_OPS, parts_->operations);
  if (target_.handle != nullptr) graph.Set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target_.handle);
  const cudnnStatus_t status = graph.Finalize();
  if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED) return false;
  Check(status, "operation graph");
  parts_->graph = std::move(graph);
  return true;
}

}  // namespace plateau::cuda
