// How descriptors of tensors, convolutions and operations of the emulated cuDNN are read and checked.
#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/support/cuda/cudnn_graph.h"

namespace plateau::emulated {
namespace {

CudnnWindow ReadWindow(const CudnnDescriptor& convolution) {
  CudnnWindow window;
  const auto read = [&](cudnnBackendAttributeName_t name, int64_t* to) {
    const std::vector<int64_t> values = convolution.Ints(name);
    std::copy(values.begin(), values.end(), to);
  };
  read(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, window.pre);
  read(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, window.post);
  read(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, window.stride);
  read(CUDNN_ATTR_CONVOLUTION_DILATIONS, window.dilation);
  window.flipped = convolution.Int(CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CONVOLUTION;
  return window;
}

void CheckShapes(const CudnnTensor& x, const CudnnTensor& w, const CudnnTensor& y, const CudnnWindow& window) {
  const std::string shapes = fmt::format("x [{}] w [{}] y [{}]", fmt::join(x.dims, " "), fmt::join(w.dims, " "), fmt::join(y.dims, " "));
  for (const CudnnTensor* tensor : {&x, &w, &y})
    Require(tensor->dims.size() == 4, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "convolution: tensors of 4 dimensions, not " + shapes);
  bool fits = x.dims[0] == y.dims[0] && w.dims[0] == y.dims[1];
  for (size_t i = 0; i < 2; ++i) {
    const int64_t reach = window.dilation[i] * (w.dims[i + 2] - 1) + 1;
    const int64_t room = x.dims[i + 2] + window.pre[i] + window.post[i] - reach;
    fits = fits && room >= 0 && y.dims[i + 2] == room / window.stride[i] + 1;
  }
  Require(fits, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "convolution: " + shapes);
  Require(x.dims[1] % w.dims[1] == 0, CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "convolution: " + shapes);
  Require(x.dims[1] == w.dims[1], CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "convolution in groups is not emulated: " + shapes);
}

struct ConvolutionNames {
  cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
};

ConvolutionNames NamesOf(cudnnBackendDescriptorType_t type) {
  switch (type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    default:
      return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
  }
}

CudnnTensor TensorIn(const CudnnDescriptor& operation, cudnnBackendAttributeName_t name) {
  const DescriptorPtr child = operation.Child(name);
  Require(child != nullptr && child->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM,
          fmt::format("operation: attribute {} holds no tensor", static_cast<int>(name)));
  return ReadTensor(*child);
}

CudnnOperation ReadConvolution(const CudnnDescriptor& descriptor) {
  const ConvolutionNames names = NamesOf(descriptor.type);
  const DescriptorPtr convolution = descriptor.Child(names.convolution);
  Require(convolution->type == CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM, "operation: CONV_DESC is no convolution");
  const CudnnTensor x = TensorIn(descriptor, names.x), w = TensorIn(descriptor, names.w), y = TensorIn(descriptor, names.y);
  CudnnOperation operation;
  operation.window = ReadWindow(*convolution);
  operation.alpha = descriptor.Real(names.alpha, 1);
  operation.beta = descriptor.Real(names.beta, 0);
  CheckShapes(x, w, y, operation.window);
  if (descriptor.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) {
    operation.kind = CudnnKind::kForward;
    operation.a = x, operation.b = w, operation.out = y;
  } else if (descriptor.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) {
    operation.kind = CudnnKind::kBackwardData;
    operation.a = y, operation.b = w, operation.out = x;
  } else {
    operation.kind = CudnnKind::kBackwardFilter;
    operation.a = x, operation.b = y, operation.out = w;
  }
  Require(operation.a.type == operation.b.type, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "convolution: operands of two data types");
  return operation;
}

bool Spreads(const CudnnTensor& from, const CudnnTensor& to) {
  if (from.dims.size() != to.dims.size()) return false;
  for (size_t i = 0; i < to.dims.size(); ++i)
    if (from.dims[i] != to.dims[i] && from.dims[i] != 1) return false;
  return true;
}

CudnnOperation ReadPointwise(const CudnnDescriptor& descriptor) {
  const DescriptorPtr pointwise = descriptor.Child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  Require(pointwise->type == CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM, "operation: PW_DESCRIPTOR is none");
  CudnnOperation operation;
  operation.kind = CudnnKind::kPointwise;
  operation.mode = static_cast<cudnnPointwiseMode_t>(pointwise->Int(CUDNN_ATTR_POINTWISE_MODE));
  operation.lower_clip = pointwise->Real(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, 0);
  operation.upper_clip = pointwise->Real(CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, std::numeric_limits<double>::infinity());
  operation.lower_slope = pointwise->Real(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, 0);
  operation.alpha = descriptor.Real(CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, 1);
  operation.beta = descriptor.Real(CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, 1);
  const bool backward = operation.mode == CUDNN_POINTWISE_RELU_BWD;
  const bool binary = operation.mode == CUDNN_POINTWISE_ADD || operation.mode == CUDNN_POINTWISE_MUL;
  const bool known = backward || binary || operation.mode == CUDNN_POINTWISE_RELU_FWD || operation.mode == CUDNN_POINTWISE_IDENTITY;
  Require(known, CUDNN_STATUS_NOT_SUPPORTED, fmt::format("pointwise mode {} is not emulated", static_cast<int>(operation.mode)));
  operation.has_b = backward || binary;
  if (backward) {
    operation.a = TensorIn(descriptor, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC);
    operation.b = TensorIn(descriptor, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    operation.out = TensorIn(descriptor, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC);
  } else {
    operation.a = TensorIn(descriptor, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    if (binary) operation.b = TensorIn(descriptor, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    operation.out = TensorIn(descriptor, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
  }
  Require(operation.a.dims == operation.out.dims && (!operation.has_b || Spreads(operation.b, operation.out)),
          CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "pointwise: shapes do not fit together");
  return operation;
}

}  // namespace

int64_t CudnnTensor::values() const {
  int64_t product = 1;
  for (const int64_t dim : dims) product *= dim;
  return product;
}

int64_t CudnnTensor::bytes() const {
  int64_t last = 0;
  for (size_t i = 0; i < dims.size(); ++i) last += (dims[i] - 1) * strides[i];
  return (last + 1) * (type == CUDNN_DATA_FLOAT ? 4 : 2);
}

bool CudnnTensor::nhwc() const {
  return dims.size() == 4 && strides[1] == 1 && strides[3] == dims[1] && strides[2] == dims[3] * dims[1] &&
         strides[0] == dims[2] * dims[3] * dims[1];
}

CudnnTensor ReadTensor(const CudnnDescriptor& descriptor) {
  CudnnTensor tensor;
  tensor.uid = descriptor.Int(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  tensor.type = static_cast<cudnnDataType_t>(descriptor.Int(CUDNN_ATTR_TENSOR_DATA_TYPE));
  tensor.dims = descriptor.Ints(CUDNN_ATTR_TENSOR_DIMENSIONS);
  tensor.strides = descriptor.Ints(CUDNN_ATTR_TENSOR_STRIDES);
  tensor.alignment = descriptor.Int(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1);
  tensor.is_virtual = descriptor.Int(CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0;
  Require(tensor.dims.size() == tensor.strides.size(), CUDNN_STATUS_BAD_PARAM,
          fmt::format("tensor {}: {} dimensions, {} strides", tensor.uid, tensor.dims.size(), tensor.strides.size()));
  Require(std::all_of(tensor.dims.begin(), tensor.dims.end(), [](int64_t dim) { return dim > 0; }), CUDNN_STATUS_BAD_PARAM,
          fmt::format("tensor {}: dimensions {}", tensor.uid, fmt::join(tensor.dims, " ")));
  Require(std::all_of(tensor.strides.begin(), tensor.strides.end(), [](int64_t stride) { return stride > 0; }),
          CUDNN_STATUS_BAD_PARAM, fmt::format("tensor {}: strides {}", tensor.uid, fmt::join(tensor.strides, " ")));
  Require(tensor.type == CUDNN_DATA_FLOAT || tensor.type == CUDNN_DATA_BFLOAT16, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
          fmt::format("tensor {}: data type {} is not emulated", tensor.uid, static_cast<int>(tensor.type)));
  const int64_t element = tensor.type == CUDNN_DATA_FLOAT ? 4 : 2;
  Require(tensor.alignment >= element && tensor.alignment % element == 0, CUDNN_STATUS_BAD_PARAM,
          fmt::format("tensor {}: alignment of {} bytes", tensor.uid, tensor.alignment));
  Require(descriptor.Int(CUDNN_ATTR_TENSOR_IS_BY_VALUE) == 0 && descriptor.Int(CUDNN_ATTR_TENSOR_VECTOR_COUNT, 1) == 1,
          CUDNN_STATUS_NOT_SUPPORTED, fmt::format("tensor {}: by value or in vectors, which is not emulated", tensor.uid));
  return tensor;
}

void CheckConvolution(const CudnnDescriptor& descriptor) {
  const auto spatial = static_cast<size_t>(descriptor.Int(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS));
  for (const auto name : {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS,
                          CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_ATTR_CONVOLUTION_DILATIONS}) {
    const std::vector<int64_t> values = descriptor.Ints(name);
    const bool from_one = name == CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES || name == CUDNN_ATTR_CONVOLUTION_DILATIONS;
    const int64_t least = from_one ? 1 : 0;
    Require(values.size() == spatial && std::all_of(values.begin(), values.end(), [&](int64_t value) { return value >= least; }),
            CUDNN_STATUS_BAD_PARAM, fmt::format("convolution: attribute {} is {}", static_cast<int>(name), fmt::join(values, " ")));
  }
  Require(spatial == 2, CUDNN_STATUS_NOT_SUPPORTED, fmt::format("convolution of {} spatial dimensions is not emulated", spatial));
  Require(descriptor.Int(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) == CUDNN_DATA_FLOAT, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
          "convolution: computes in float only");
}

CudnnOperation ReadOperation(const CudnnDescriptor& descriptor) {
  switch (descriptor.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: return ReadConvolution(descriptor);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: return ReadPointwise(descriptor);
    default: Refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "an operation graph holds operations only");
  }
}

}  // namespace plateau::emulated
