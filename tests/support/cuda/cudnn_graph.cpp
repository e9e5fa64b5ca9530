// How finalized descriptors of the emulated cuDNN are read and checked.
#include "tests/support/cuda/cudnn_graph.h"

#include <algorithm>
#include <limits>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace plateau::emulated {
namespace {

void Require(bool holds, cudnnStatus_t status, const std::string& text) {
  if (!holds) Refuse(status, text);
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

CudnnOperation ReadOperation(const CudnnDescriptor& descriptor) {
  switch (descriptor.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: return ReadConvolution(descriptor);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: return ReadPointwise(descriptor);
    default: Refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "an operation graph holds operations only");
  }
}

void AddTensor(CudnnGraph& graph, const CudnnTensor& tensor) {
  const auto [at, added] = graph.tensors.emplace(tensor.uid, tensor);
  const CudnnTensor& other = at->second;
  Require(added || (other.dims == tensor.dims && other.strides == tensor.strides && other.type == tensor.type &&
                    other.is_virtual == tensor.is_virtual),
          CUDNN_STATUS_BAD_PARAM, fmt::format("two different tensors have uid {}", tensor.uid));
  if (added && !tensor.is_virtual) graph.bound.push_back(tensor.uid);
}

// Each operation behind those whose output it reads.
std::vector<CudnnOperation> Sorted(std::vector<CudnnOperation> waiting) {
  std::set<int64_t> pending;
  for (const CudnnOperation& operation : waiting)
    Require(pending.insert(operation.out.uid).second, CUDNN_STATUS_BAD_PARAM,
            fmt::format("two operations write tensor {}", operation.out.uid));
  std::vector<CudnnOperation> sorted;
  while (!waiting.empty()) {
    const auto next = std::find_if(waiting.begin(), waiting.end(), [&](const CudnnOperation& operation) {
      return pending.count(operation.a.uid) == 0 && (!operation.has_b || pending.count(operation.b.uid) == 0);
    });
    Require(next != waiting.end(), CUDNN_STATUS_BAD_PARAM, "the operations go round in a circle");
    pending.erase(next->out.uid);
    sorted.push_back(*next);
    waiting.erase(next);
  }
  return sorted;
}

void CheckPattern(const CudnnGraph& graph) {
  std::set<int64_t> written, read;
  for (const CudnnOperation& operation : graph.operations) {
    read.insert(operation.a.uid);
    if (operation.has_b) read.insert(operation.b.uid);
    written.insert(operation.out.uid);
  }
  for (const auto& [uid, tensor] : graph.tensors)
    Require(!tensor.is_virtual || (written.count(uid) != 0 && read.count(uid) != 0), CUDNN_STATUS_BAD_PARAM,
            fmt::format("virtual tensor {} is not both written and read", uid));
  for (size_t i = 0; i < graph.operations.size(); ++i)
    Require((graph.operations[i].kind == CudnnKind::kPointwise) == (i > 0), CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN,
            "one convolution, then pointwise operations on its output: no other pattern is emulated");
}

void FinalizeHeuristics(CudnnDescriptor& descriptor) {
  const DescriptorPtr graph = descriptor.Child(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
  Require(graph->graph != nullptr, CUDNN_STATUS_BAD_PARAM, "heuristics: this is no operation graph");
  const auto mode = static_cast<cudnnBackendHeurMode_t>(descriptor.Int(CUDNN_ATTR_ENGINEHEUR_MODE));
  std::vector<DescriptorPtr> results;
  for (const CudnnChoice& choice : Propose(*graph->graph, mode)) {
    auto engine = std::make_shared<CudnnDescriptor>(CudnnDescriptor{.type = CUDNN_BACKEND_ENGINE_DESCRIPTOR, .finalized = true});
    engine->PutChildren(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, {graph});
    engine->PutInts(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, {choice.engine});
    FinalizeDescriptor(*engine);
    auto config = std::make_shared<CudnnDescriptor>(CudnnDescriptor{.type = CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, .finalized = true});
    config->PutChildren(CUDNN_ATTR_ENGINECFG_ENGINE, {engine});
    if (!engine->Children(CUDNN_ATTR_ENGINE_KNOB_INFO).empty()) {
      auto knob = std::make_shared<CudnnDescriptor>(CudnnDescriptor{.type = CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, .finalized = true});
      knob->PutEnums(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, {CUDNN_KNOB_TYPE_SPLIT_K_SLC});
      knob->PutInts(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, {choice.split});
      config->PutChildren(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, {knob});
    }
    FinalizeDescriptor(*config);
    results.push_back(std::move(config));
  }
  Require(!results.empty(), CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "heuristics: no engine for this graph");
  descriptor.PutChildren(CUDNN_ATTR_ENGINEHEUR_RESULTS, std::move(results));
}

void FinalizeEngine(CudnnDescriptor& descriptor) {
  const DescriptorPtr graph = descriptor.Child(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
  Require(graph->graph != nullptr, CUDNN_STATUS_BAD_PARAM, "engine: this is no operation graph");
  descriptor.graph = graph->graph;
  const CudnnEngine engine = MakeEngine(*graph->graph, descriptor.Int(CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
  descriptor.PutEnums(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, engine.numerical_notes);
  descriptor.PutEnums(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, engine.behavior_notes);
  if (!engine.splits) return;
  auto knob = std::make_shared<CudnnDescriptor>(CudnnDescriptor{.type = CUDNN_BACKEND_KNOB_INFO_DESCRIPTOR, .finalized = true});
  knob->PutEnums(CUDNN_ATTR_KNOB_INFO_TYPE, CUDNN_TYPE_KNOB_TYPE, {CUDNN_KNOB_TYPE_SPLIT_K_SLC});
  knob->PutInts(CUDNN_ATTR_KNOB_INFO_MINIMUM_VALUE, {1});
  knob->PutInts(CUDNN_ATTR_KNOB_INFO_MAXIMUM_VALUE, {kMostSplits});
  knob->PutInts(CUDNN_ATTR_KNOB_INFO_STRIDE, {1});
  descriptor.PutChildren(CUDNN_ATTR_ENGINE_KNOB_INFO, {knob});
}

void FinalizeConfig(CudnnDescriptor& descriptor) {
  const DescriptorPtr engine = descriptor.Child(CUDNN_ATTR_ENGINECFG_ENGINE);
  Require(engine->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM, "engine configuration: this is no engine");
  for (const DescriptorPtr& choice : descriptor.Children(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES)) {
    const int64_t type = choice->Int(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE), value = choice->Int(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
    const auto& knobs = engine->Children(CUDNN_ATTR_ENGINE_KNOB_INFO);
    const bool fits = std::any_of(knobs.begin(), knobs.end(), [&](const DescriptorPtr& knob) {
      return knob->Int(CUDNN_ATTR_KNOB_INFO_TYPE) == type && value >= knob->Int(CUDNN_ATTR_KNOB_INFO_MINIMUM_VALUE) &&
             value <= knob->Int(CUDNN_ATTR_KNOB_INFO_MAXIMUM_VALUE);
    });
    Require(fits, CUDNN_STATUS_BAD_PARAM, fmt::format("engine configuration: no knob {} with a value {}", type, value));
  }
}

void FinalizePlan(CudnnDescriptor& descriptor) {
  const DescriptorPtr config = descriptor.Child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  Require(config->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM, "plan: this is no engine configuration");
  const DescriptorPtr engine = config->Child(CUDNN_ATTR_ENGINECFG_ENGINE);
  const auto& choices = config->Children(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
  const int64_t split = choices.empty() ? 1 : choices.front()->Int(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
  const CudnnEngine made = MakeEngine(*engine->graph, engine->Int(CUDNN_ATTR_ENGINE_GLOBAL_INDEX));
  const CudnnPlan plan = MakePlan(engine->graph, made, split);
  descriptor.PutInts(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, {plan.workspace_bytes});
  descriptor.plan = std::make_shared<CudnnPlan>(plan);
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

std::shared_ptr<const CudnnGraph> BuildGraph(const CudnnDescriptor& descriptor) {
  auto graph = std::make_shared<CudnnGraph>();
  const auto& operations = descriptor.Children(CUDNN_ATTR_OPERATIONGRAPH_OPS);
  for (size_t i = 0; i < operations.size(); ++i)
    Require(std::count(operations.begin(), operations.end(), operations[i]) == 1, CUDNN_STATUS_BAD_PARAM, "one operation twice");
  try {
    for (const DescriptorPtr& operation : operations) graph->operations.push_back(ReadOperation(*operation));
    graph->operations = Sorted(std::move(graph->operations));
    for (const CudnnOperation& operation : graph->operations) {
      AddTensor(*graph, operation.a);
      if (operation.has_b) AddTensor(*graph, operation.b);
      AddTensor(*graph, operation.out);
    }
    CheckPattern(*graph);
  } catch (const CudnnError& error) {
    graph->refusal = error.text;
  }
  return graph;
}

void FinalizeDescriptor(CudnnDescriptor& descriptor) {
  // What the library does not support it finds out when plans are made.
  const auto unless_unsupported = [](const auto& read) {
    try {
      read();
    } catch (const CudnnError& error) {
      if (CUDNN_STATUS_CATEGORY(error.status) != CUDNN_STATUS_NOT_SUPPORTED) throw;
    }
  };
  switch (descriptor.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: unless_unsupported([&] { ReadTensor(descriptor); }); break;
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: CheckConvolution(descriptor); break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: unless_unsupported([&] { ReadOperation(descriptor); }); break;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      descriptor.graph = BuildGraph(descriptor);
      descriptor.PutInts(CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, {EngineCount()});
      break;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: FinalizeHeuristics(descriptor); break;
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR: FinalizeEngine(descriptor); break;
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR: FinalizeConfig(descriptor); break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: FinalizePlan(descriptor); break;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      Require(descriptor.Ints(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).size() == descriptor.Ints(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size(),
              CUDNN_STATUS_BAD_PARAM, "variant pack: as many pointers as uids");
      break;
    default: break;
  }
}

}  // namespace plateau::emulated
