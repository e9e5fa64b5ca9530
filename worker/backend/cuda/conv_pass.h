// One pass of a convolution: its ways of fusing, the search for its algorithm, and the plan that runs.
#pragma once

#include <memory>
#include <string>

#include "worker/backend/cuda/conv_op.h"
#include "worker/backend/cuda/cudnn_graph.h"

namespace plateau::cuda {

enum class ConvPassKind { kForward, kBackwardData, kBackwardWeights };

// Device memory of a pass. Forward: x, w, bias -> y; backward data: dy, w, x (the mask) -> dx; backward weights: x, dy -> dw.
struct ConvOperands {
  const void* first = nullptr;
  const void* second = nullptr;
  const void* extra = nullptr;  // bias or mask; null where the pass has none
  void* result = nullptr;
};

// The text of its choice is an engine's and the way it is used:
//   "engine 7 k24=21 fused"    bias, ReLU or the ReLU's gradient inside the engine's graph
//   "engine 41 k2=3 fused16"   the same with the bias in bf16, a rounded copy made in the workspace each time: the types that
//   cuDNN's
//                              ready-made engines for bf16 have, while a float bias needs one that is compiled at run time
//   "engine 62 k2=3 plain"     the convolution alone; own kernels follow where something is left to do
//   "engine 65 k2=3 rounded"   weight gradients in bf16, turned into floats by an own kernel; without it they leave as floats
// All ways that there are engines for are timed, own kernels included. Rounded gradients must save a tenth of the time of float
// ones.
class ConvPass {
 public:
  // Throws Failure naming the layer and pass.
  ConvPass(Libraries& libraries, const std::string& layer, ConvPassKind kind, const ConvShape& shape, const ConvUse& use,
           size_t workspace_limit);

  size_t workspace_bytes() const { return algorithm_.workspace_bytes; }
  void Run(const ConvOperands& operands, void* workspace);
  std::string description() const;
  // The choices that timing would compare, for tests.
  std::vector<std::string> Offers() const;

 private:
  enum class Way { kFusedShort, kFused, kPlain, kRounded };
  struct Algorithm {
    Way way = Way::kPlain;
    EngineChoice engine;
    std::unique_ptr<ExecutionPlan> plan;
    size_t workspace_bytes = 0;  // of the plan, and behind it ExtraBytes
  };

  // conv_pass.cpp
  static const char* WayName(Way way);
  std::vector<Way> Ways() const;
  bool FusesSomething() const;
  int64_t WeightCount() const;
  size_t ExtraBytes(Way way) const;  // of what is kept in bf16 in the workspace: the bias or the weight gradients
  OperationGraph Graph(Way way) const;
  void RunWith(Algorithm& algorithm, const ConvOperands& operands, void* workspace);

  // conv_choice.cpp
  void Choose(const std::string& layer);
  std::string Key() const;  // without the layer
  EngineRules Rules() const;
  static std::string TextOf(const Algorithm& algorithm);
  Result<Algorithm> Parse(const std::string& text) const;
  Result<Algorithm> Build(const OperationGraph& graph, Way way, const EngineChoice& engine) const;
  void Collect(Way way, std::vector<Algorithm>& found, std::string& refusal) const;
  std::string Time(std::vector<Algorithm>& found);

  Libraries& libraries_;
  std::string label_;  // "conv3_1 forward"
  std::string pass_;   // "forward+bias+relu"
  ConvPassKind kind_;
  ConvShape shape_;
  ConvUse use_;
  size_t workspace_limit_;
  Algorithm algorithm_;
};

}  // namespace plateau::cuda
