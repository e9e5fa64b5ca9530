// The table of attributes, and how descriptors keep them.
#include "tests/support/cuda/cudnn_descriptor.h"

#include <cstring>

#include <fmt/format.h>

namespace plateau::emulated {
namespace {

constexpr auto kTensor = CUDNN_BACKEND_TENSOR_DESCRIPTOR;
constexpr auto kConv = CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR;
constexpr auto kForward = CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
constexpr auto kData = CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
constexpr auto kFilter = CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
constexpr auto kPointwise = CUDNN_BACKEND_POINTWISE_DESCRIPTOR;
constexpr auto kPointwiseOp = CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR;
constexpr auto kGraph = CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR;
constexpr auto kHeuristics = CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR;
constexpr auto kEngine = CUDNN_BACKEND_ENGINE_DESCRIPTOR;
constexpr auto kConfig = CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
constexpr auto kKnob = CUDNN_BACKEND_KNOB_INFO_DESCRIPTOR;
constexpr auto kChoice = CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR;
constexpr auto kPlan = CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
constexpr auto kPack = CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR;
constexpr int64_t kMany = 1024;
constexpr bool kMust = true, kMay = false, kReadOnly = false;

constexpr CudnnRule kRules[] = {
    {kTensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, kMust},
    {kTensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, kMust},
    {kTensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, kMust},
    {kTensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, CUDNN_DIM_MAX, kMust},
    {kTensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, CUDNN_DIM_MAX, kMust},
    {kTensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, kMay},
    {kTensor, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, kMay},
    {kTensor, CUDNN_ATTR_TENSOR_VECTOR_COUNT, CUDNN_TYPE_INT64, 1, kMay},
    {kTensor, CUDNN_ATTR_TENSOR_VECTORIZED_DIMENSION, CUDNN_TYPE_INT64, 1, kMay},
    {kTensor, CUDNN_ATTR_TENSOR_REORDERING_MODE, CUDNN_TYPE_TENSOR_REORDERING_MODE, 1, kMay},
    {kConv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, kMust},
    {kConv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, kMust},
    {kConv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, kMust},
    {kConv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, CUDNN_DIM_MAX, kMust},
    {kConv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, CUDNN_DIM_MAX, kMust},
    {kConv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, CUDNN_DIM_MAX, kMust},
    {kConv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, CUDNN_DIM_MAX, kMust},
    {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, kMay},
    {kForward, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, kMay},
    {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1, kMay},
    {kData, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 1, kMay},
    {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_TYPE_FLOAT, 1, kMay},
    {kFilter, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, CUDNN_TYPE_FLOAT, 1, kMay},
    {kPointwise, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, kMust},
    {kPointwise, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, kMust},
    {kPointwise, CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, 1, kMay},
    {kPointwise, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, CUDNN_TYPE_DOUBLE, 1, kMay},
    {kPointwise, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE, 1, kMay},
    {kPointwise, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, CUDNN_TYPE_DOUBLE, 1, kMay},
    {kPointwiseOp, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kPointwiseOp, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMay},
    {kPointwiseOp, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMay},
    {kPointwiseOp, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMay},
    {kPointwiseOp, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMay},
    {kPointwiseOp, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMay},
    {kPointwiseOp, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_TYPE_FLOAT, 1, kMay},
    {kPointwiseOp, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, CUDNN_TYPE_FLOAT, 1, kMay},
    {kGraph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, kMay},
    {kGraph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, kMany, kMust},
    {kGraph, CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, CUDNN_TYPE_INT64, 1, kMay, kReadOnly},
    {kHeuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kHeuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, kMust},
    {kHeuristics, CUDNN_ATTR_ENGINEHEUR_SM_COUNT_TARGET, CUDNN_TYPE_INT32, 1, kMay},
    {kHeuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, kMany, kMay, kReadOnly},
    {kEngine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kEngine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, kMust},
    {kEngine, CUDNN_ATTR_ENGINE_SM_COUNT_TARGET, CUDNN_TYPE_INT32, 1, kMay},
    {kEngine, CUDNN_ATTR_ENGINE_KNOB_INFO, CUDNN_TYPE_BACKEND_DESCRIPTOR, kMany, kMay, kReadOnly},
    {kEngine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, kMany, kMay, kReadOnly},
    {kEngine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, kMany, kMay, kReadOnly},
    {kConfig, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kConfig, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, kMany, kMay},
    {kConfig, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, kMay, kReadOnly},
    {kKnob, CUDNN_ATTR_KNOB_INFO_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, kMay, kReadOnly},
    {kKnob, CUDNN_ATTR_KNOB_INFO_MINIMUM_VALUE, CUDNN_TYPE_INT64, 1, kMay, kReadOnly},
    {kKnob, CUDNN_ATTR_KNOB_INFO_MAXIMUM_VALUE, CUDNN_TYPE_INT64, 1, kMay, kReadOnly},
    {kKnob, CUDNN_ATTR_KNOB_INFO_STRIDE, CUDNN_TYPE_INT64, 1, kMay, kReadOnly},
    {kChoice, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, kMust},
    {kChoice, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, kMust},
    {kPlan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, kMay},
    {kPlan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, kMust},
    {kPlan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, kMay, kReadOnly},
    {kPack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, kMany, kMust},
    {kPack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, kMany, kMust},
    {kPack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, kMay},
};

const CudnnValue* FindValue(const CudnnDescriptor& descriptor, cudnnBackendAttributeName_t name) {
  const auto found = descriptor.values.find(name);
  return found == descriptor.values.end() || found->second.count == 0 ? nullptr : &found->second;
}

template <class T>
T Read(const CudnnValue& value, int64_t index) {
  T number;
  std::memcpy(&number, value.bytes.data() + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return number;
}

int64_t ReadInt(const CudnnValue& value, int64_t index) {
  switch (ElementBytes(value.type)) {
    case 1: return Read<int8_t>(value, index);
    case 4: return Read<int32_t>(value, index);
    default: return Read<int64_t>(value, index);
  }
}

}  // namespace

void Refuse(cudnnStatus_t status, std::string text) { throw CudnnError{status, std::move(text)}; }

size_t ElementBytes(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR: return 1;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    default: return 4;  // enumerations, float, int32
  }
}

bool KnownKind(cudnnBackendDescriptorType_t type) {
  for (const CudnnRule& rule : kRules)
    if (rule.of == type) return true;
  return false;
}

const CudnnRule* FindRule(cudnnBackendDescriptorType_t type, cudnnBackendAttributeName_t name) {
  for (const CudnnRule& rule : kRules)
    if (rule.of == type && rule.name == name) return &rule;
  return nullptr;
}

void CheckAttributes(const CudnnDescriptor& descriptor) {
  for (const auto& [name, value] : descriptor.values)
    for (const DescriptorPtr& child : value.children)
      if (!child->finalized)
        Refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, fmt::format("attribute {} is not finalized", static_cast<int>(name)));
  for (const CudnnRule& rule : kRules)
    if (rule.of == descriptor.type && rule.mandatory && !descriptor.Has(rule.name))
      Refuse(CUDNN_STATUS_BAD_PARAM, fmt::format("descriptor of type {} lacks its attribute {}", static_cast<int>(descriptor.type),
                                                 static_cast<int>(rule.name)));
}

int64_t CudnnDescriptor::Int(cudnnBackendAttributeName_t name, int64_t otherwise) const {
  const CudnnValue* const value = FindValue(*this, name);
  return value == nullptr ? otherwise : ReadInt(*value, 0);
}

std::vector<int64_t> CudnnDescriptor::Ints(cudnnBackendAttributeName_t name) const {
  std::vector<int64_t> numbers;
  if (const CudnnValue* const value = FindValue(*this, name))
    for (int64_t i = 0; i < value->count; ++i) numbers.push_back(ReadInt(*value, i));
  return numbers;
}

double CudnnDescriptor::Real(cudnnBackendAttributeName_t name, double otherwise) const {
  const CudnnValue* const value = FindValue(*this, name);
  if (value == nullptr) return otherwise;
  return value->type == CUDNN_TYPE_DOUBLE ? Read<double>(*value, 0) : static_cast<double>(Read<float>(*value, 0));
}

void* CudnnDescriptor::Pointer(cudnnBackendAttributeName_t name) const { return reinterpret_cast<void*>(Int(name)); }

DescriptorPtr CudnnDescriptor::Child(cudnnBackendAttributeName_t name) const {
  const CudnnValue* const value = FindValue(*this, name);
  return value == nullptr ? nullptr : value->children.at(0);
}

const std::vector<DescriptorPtr>& CudnnDescriptor::Children(cudnnBackendAttributeName_t name) const {
  static const std::vector<DescriptorPtr> kNone;
  const CudnnValue* const value = FindValue(*this, name);
  return value == nullptr ? kNone : value->children;
}

void CudnnDescriptor::PutInts(cudnnBackendAttributeName_t name, const std::vector<int64_t>& numbers) {
  CudnnValue value{CUDNN_TYPE_INT64, static_cast<int64_t>(numbers.size()), {}, {}};
  value.bytes.resize(numbers.size() * sizeof(int64_t));
  std::memcpy(value.bytes.data(), numbers.data(), value.bytes.size());
  values[name] = std::move(value);
}

void CudnnDescriptor::PutEnums(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<int>& numbers) {
  CudnnValue value{type, static_cast<int64_t>(numbers.size()), {}, {}};
  value.bytes.resize(numbers.size() * sizeof(int));
  if (!numbers.empty()) std::memcpy(value.bytes.data(), numbers.data(), value.bytes.size());
  values[name] = std::move(value);
}

void CudnnDescriptor::PutChildren(cudnnBackendAttributeName_t name, std::vector<DescriptorPtr> children) {
  const auto count = static_cast<int64_t>(children.size());
  values[name] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, count, {}, std::move(children)};
}

}  // namespace plateau::emulated
