// How descriptors of the emulated cuDNN become graphs, engines and plans when they are finalized.
#include "tests/support/cuda/cudnn_graph.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

namespace plateau::emulated {
namespace {

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
