// The engines of the emulated cuDNN: each stands for a kind that the real one has, so that filters, refusals and limits can be tested.
#include <algorithm>

#include <fmt/format.h>

#include "tests/support/cuda/cudnn_graph.h"

namespace plateau::emulated {
namespace {

enum Index : int64_t {
  kDirect,        // any single convolution, sums in double
  kTensorCore,    // single convolution, aligned NHWC; float inputs as TF32
  kRuntimeFusion, // as kTensorCore, with pointwise operations behind it
  kBiasActivation,  // forward with bias and ReLU, a bias of the maps' type, no tensor cores
  kAtomics,       // backward passes that sum in another order each time
  kOtherChip,     // proposed first, and refused by every plan
  kDownConvert,   // float inputs as bf16
  kGreedy,        // wants a huge workspace
  kEngines
};
constexpr int64_t kGreedyBytes = int64_t{1} << 30;

bool IsFloat(const CudnnGraph& graph) { return graph.convolution().a.type == CUDNN_DATA_FLOAT; }

// 16 bytes of channels for loads and stores of tensor cores.
void CheckAligned(const CudnnGraph& graph) {
  const int64_t unit = IsFloat(graph) ? 4 : 8;
  const CudnnOperation& convolution = graph.convolution();
  for (const CudnnTensor* tensor : {&convolution.a, &convolution.b, &convolution.out}) {
    if (!tensor->nhwc()) Refuse(CUDNN_STATUS_NOT_SUPPORTED_LAYOUT, fmt::format("tensor {} is not dense NHWC", tensor->uid));
    if (tensor->dims[1] % unit != 0)
      Refuse(CUDNN_STATUS_NOT_SUPPORTED_PADDING, fmt::format("tensor {}: {} channels are no multiple of {}", tensor->uid, tensor->dims[1], unit));
    if (!tensor->is_virtual && tensor->alignment % 16 != 0)
      Refuse(CUDNN_STATUS_NOT_SUPPORTED, fmt::format("tensor {}: aligned to {} bytes, not to 16", tensor->uid, tensor->alignment));
  }
}

// conv -> + bias by channel (-> ReLU)
bool IsBiasActivation(const CudnnGraph& graph) {
  const auto& operations = graph.operations;
  if (operations[0].kind != CudnnKind::kForward || operations.size() < 2 || operations.size() > 3) return false;
  const CudnnTensor& bias = operations[1].b;
  const bool by_channel = bias.dims.size() == 4 && bias.dims[0] == 1 && bias.dims[2] == 1 && bias.dims[3] == 1;
  return operations[1].mode == CUDNN_POINTWISE_ADD && by_channel &&
         (operations.size() == 2 || operations[2].mode == CUDNN_POINTWISE_RELU_FWD);
}

void RefusePattern(bool refused, const char* engine) {
  if (refused) Refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, fmt::format("{}: not this graph", engine));
}

void CheckSupport(const CudnnGraph& graph, int64_t index) {
  if (!graph.refusal.empty()) Refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, graph.refusal);
  const CudnnKind kind = graph.convolution().kind;
  const bool accumulates = graph.convolution().beta != 0 || graph.convolution().alpha != 1;
  switch (index) {
    case kDirect:
    case kGreedy: RefusePattern(graph.fused(), "direct"); break;
    case kTensorCore:
      RefusePattern(graph.fused(), "tensor core");
      CheckAligned(graph);
      break;
    case kRuntimeFusion:
      RefusePattern(!graph.fused() || kind == CudnnKind::kBackwardFilter || accumulates, "runtime fusion");
      CheckAligned(graph);
      break;
    case kBiasActivation:
      RefusePattern(!IsBiasActivation(graph) || accumulates, "bias and activation");
      if (graph.operations[1].b.type != graph.convolution().a.type)
        Refuse(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "bias and activation: a bias of another type than the maps");
      break;
    case kAtomics: RefusePattern(graph.fused() || kind == CudnnKind::kForward, "atomics"); break;
    case kDownConvert: RefusePattern(graph.fused() || !IsFloat(graph), "down-convert"); break;
    default: Refuse(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, fmt::format("engine {} is for another chip", index));
  }
}

bool Supports(const CudnnGraph& graph, int64_t index) {
  try {
    CheckSupport(graph, index);
    return true;
  } catch (const CudnnError&) {
    return false;
  }
}

}  // namespace

int64_t EngineCount() { return kEngines; }

CudnnEngine MakeEngine(const CudnnGraph& graph, int64_t index) {
  if (index < 0 || index >= kEngines) Refuse(CUDNN_STATUS_NOT_SUPPORTED, fmt::format("there is no engine {}", index));
  CudnnEngine engine;
  engine.index = index;
  const bool cores = index == kTensorCore || index == kRuntimeFusion || index == kDownConvert;
  if (cores) engine.numerical_notes.push_back(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  if (index == kDownConvert) engine.numerical_notes.push_back(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
  if (index == kAtomics) engine.numerical_notes.push_back(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
  if (index == kRuntimeFusion) engine.behavior_notes.push_back(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION);
  engine.splits = index == kTensorCore || index == kRuntimeFusion;
  engine.rounds_to_tf32 = engine.splits && graph.refusal.empty() && IsFloat(graph);
  engine.rounds_to_bf16 = index == kDownConvert;
  engine.changes_order = index == kAtomics;
  engine.sums_in_float = engine.changes_order || engine.splits;
  return engine;
}

std::vector<CudnnChoice> Propose(const CudnnGraph& graph, cudnnBackendHeurMode_t mode) {
  if (!graph.refusal.empty()) return {};
  std::vector<CudnnChoice> choices;
  if (mode == CUDNN_HEUR_MODE_FALLBACK) {
    choices = {{kDirect, 1}, {kBiasActivation, 1}};
  } else {
    choices = {{kTensorCore, 1}, {kTensorCore, 2}, {kRuntimeFusion, 1}, {kRuntimeFusion, 4}, {kGreedy, 1},
               {kAtomics, 1},    {kDirect, 1},     {kBiasActivation, 1}, {kDownConvert, 1}};
    if (mode == CUDNN_HEUR_MODE_B) std::reverse(choices.begin(), choices.end());
  }
  std::erase_if(choices, [&](const CudnnChoice& choice) { return !Supports(graph, choice.engine); });
  if (mode != CUDNN_HEUR_MODE_FALLBACK) choices.insert(choices.begin(), {kOtherChip, 1});
  return choices;
}

CudnnPlan MakePlan(const std::shared_ptr<const CudnnGraph>& graph, const CudnnEngine& engine, int64_t split) {
  CheckSupport(*graph, engine.index);
  CudnnPlan plan{graph, engine, split, 0};
  if (split > 1) plan.workspace_bytes = split * graph->convolution().out.values() * 4;
  if (engine.index == kAtomics) plan.workspace_bytes = graph->convolution().out.values() * 4;
  if (engine.index == kGreedy) plan.workspace_bytes = kGreedyBytes;
  return plan;
}

}  // namespace plateau::emulated
