// What finalized descriptors of the emulated cuDNN mean: a graph of operations on tensors, the engines that can run it, and a plan.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/cuda/cudnn_descriptor.h"

namespace plateau::emulated {

// Dimensions [n, c, h, w] (or k, c, r, s), strides in values; in this order whatever the layout in memory.
struct CudnnTensor {
  int64_t uid = 0;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  std::vector<int64_t> dims, strides;
  int64_t alignment = 1;
  bool is_virtual = false;

  int64_t values() const;
  int64_t bytes() const;  // from the first value to the last
  bool nhwc() const;      // dense, channels next to each other
};

struct CudnnWindow {
  int64_t pre[2] = {}, post[2] = {}, stride[2] = {1, 1}, dilation[2] = {1, 1};
  bool flipped = false;  // a mathematician's convolution: taps in reverse
};

enum class CudnnKind { kForward, kBackwardData, kBackwardFilter, kPointwise };

// Convolutions: a = x (forward, filter) or dy (data); b = w (forward, data) or dy (filter); out = y, dx or dw.
// Pointwise: out = mode(a, b); RELU_BWD: a = dy, b = x.
struct CudnnOperation {
  CudnnKind kind = CudnnKind::kForward;
  CudnnTensor a, b, out;
  bool has_b = true;
  CudnnWindow window;
  double alpha = 1, beta = 0;  // pointwise: alpha1 and alpha2
  cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
  double lower_clip = 0, upper_clip = 0, lower_slope = 0;
};

struct CudnnGraph {
  std::string refusal;                        // why no engine takes it; the library finds out as late as its plans
  std::vector<CudnnOperation> operations;     // each behind what it reads
  std::map<int64_t, CudnnTensor> tensors;     // by uid
  std::vector<int64_t> bound;                 // uids that a variant pack must name
  const CudnnOperation& convolution() const { return operations.front(); }
  bool fused() const { return operations.size() > 1; }
};

// How an engine computes, and what it says about itself.
struct CudnnEngine {
  int64_t index = 0;
  std::vector<int> numerical_notes, behavior_notes;
  bool splits = false;  // has the knob CUDNN_KNOB_TYPE_SPLIT_K_SLC, 1 to kMostSplits, which changes the order of summation
  bool rounds_to_tf32 = false, rounds_to_bf16 = false;
  bool sums_in_float = false, changes_order = false;
};
inline constexpr int64_t kMostSplits = 4;

struct CudnnPlan {
  std::shared_ptr<const CudnnGraph> graph;
  CudnnEngine engine;
  int64_t split = 1;
  int64_t workspace_bytes = 0;
};

// Throws CudnnError when two operations write one tensor; what else is wrong becomes the graph's refusal.
std::shared_ptr<const CudnnGraph> BuildGraph(const CudnnDescriptor& descriptor);

// ---- cudnn_operation.cpp: all throw CudnnError
CudnnTensor ReadTensor(const CudnnDescriptor& descriptor);
CudnnOperation ReadOperation(const CudnnDescriptor& descriptor);
void CheckConvolution(const CudnnDescriptor& descriptor);

// ---- cudnn_engine.cpp
struct CudnnChoice {
  int64_t engine = 0, split = 1;
};
int64_t EngineCount();
// Throws CudnnError when there is none of this index.
CudnnEngine MakeEngine(const CudnnGraph& graph, int64_t index);
// What the heuristics propose, best first by the mode's lights; in modes A and B also an engine that every plan refuses.
std::vector<CudnnChoice> Propose(const CudnnGraph& graph, cudnnBackendHeurMode_t mode);
// Throws CudnnError NOT_SUPPORTED when the engine cannot run the graph.
CudnnPlan MakePlan(const std::shared_ptr<const CudnnGraph>& graph, const CudnnEngine& engine, int64_t split);

// Checks the pointers of a variant pack and gives the work to queue.
std::function<void()> BindPlan(const std::shared_ptr<const CudnnPlan>& plan, const CudnnDescriptor& pack);  // cudnn_execute.cpp

}  // namespace plateau::emulated
