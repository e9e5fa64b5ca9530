// cuDNN's backend API with owners: graphs of a convolution and what follows it, the engines that offer to run them, and plans.
// A graph is described by tensors and operations, finalised, and handed to an engine with the choices for its knobs: that is a
// plan.
#pragma once

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
#include "worker/backend/cuda/kernels/types.h"

namespace plateau::cuda {

// Owner of one descriptor. Errors of Set throw Failure: they are faults of the caller.
class BackendDescriptor {
 public:
  explicit BackendDescriptor(cudnnBackendDescriptorType_t type);
  ~BackendDescriptor();
  BackendDescriptor(BackendDescriptor&& other) noexcept;
  BackendDescriptor& operator=(BackendDescriptor&& other) noexcept;
  cudnnBackendDescriptor_t get() const { return descriptor_; }

  void Set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count, const void* values);
  template <class T>
  void Set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    Set(name, type, 1, &value);
  }
  void SetChild(cudnnBackendAttributeName_t name, const BackendDescriptor& child);
  void SetChildren(cudnnBackendAttributeName_t name, std::span<const BackendDescriptor> children);
  // Not a fault when it is "not supported": the library says so only here.
  cudnnStatus_t Finalize();

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

// An engine and its knobs' values; the text of it is what is recorded: "engine 34 k2=1 k5=3".
struct EngineChoice {
  int64_t engine = 0;
  std::vector<std::pair<int, int64_t>> knobs;  // cudnnBackendKnobType_t, value
  std::string Text() const;
  // Reads words from the front of `text` and takes them off it, up to the first that is no knob.
  static Result<EngineChoice> Parse(std::string_view& text);
  bool operator==(const EngineChoice&) const = default;
};

// Engines that carry one of these notes are left out.
struct EngineRules {
  std::vector<cudnnBackendNumericalNote_t> forbidden;
  size_t workspace_limit = 0;
};

// All that a graph is made of. Descriptors refer to those they were made of, and plans outlive graphs: they share it.
struct GraphParts {
  std::deque<BackendDescriptor> tensors, settings;
  std::vector<BackendDescriptor> operations;
  std::optional<BackendDescriptor> graph;
};

// What graphs and plans are made for: the handle's device, or one that is only described (then nothing can be executed).
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  std::shared_ptr<const BackendDescriptor> described;
};
// From cuDNN's own description of a device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION. Throws Failure when it does not take it.
CudnnTarget DescribedDevice(std::string_view json);

// A graph on an engine. One thread at a time; Execute neither allocates device memory nor waits.
class ExecutionPlan {
 public:
  // Queues it on the handle's stream: `pointers` in the order of the graph's real tensors. `what` names it in errors.
  void Execute(std::span<void* const> pointers, void* workspace, const char* what);
  size_t workspace_bytes() const { return workspace_bytes_; }

 private:
  friend class OperationGraph;
  ExecutionPlan(CudnnTarget target, std::vector<int64_t> ids, std::shared_ptr<const GraphParts> graph, BackendDescriptor engine);

  struct VariantPack {
    std::vector<void*> pointers;
    void* workspace = nullptr;
    BackendDescriptor descriptor;
  };
  static constexpr size_t kMaxPacks = 8;  // addresses of one plan; more take turns

  CudnnTarget target_;
  std::vector<int64_t> ids_;
  std::shared_ptr<const GraphParts> graph_;
  BackendDescriptor engine_;
  std::vector<BackendDescriptor> knobs_;
  BackendDescriptor configuration_, plan_;
  size_t workspace_bytes_ = 0;
  std::vector<VariantPack> packs_;
  size_t next_pack_ = 0;
};

// Tensors are [n, c, h, w] in that order of dimensions, NHWC in memory; weights are [k, c, r, s], which is KRSC in memory.
using TensorDims = std::array<int64_t, 4>;

struct ConvWindow {
  int64_t stride = 1, pad = 1;
};

class OperationGraph {
 public:
  explicit OperationGraph(CudnnTarget target) : target_(std::move(target)) {}
  // Numbers of tensors, for the operations below. Real ones take pointers, in the order in which they were made.
  int Real(DataType type, const TensorDims& dims);
  int Virtual(const TensorDims& dims);  // float, lives only between two operations

  void ConvolutionForward(int x, int w, int y, const ConvWindow& window);
  void ConvolutionBackwardData(int dy, int w, int dx, const ConvWindow& window);
  void ConvolutionBackwardWeights(int x, int dy, int dw, const ConvWindow& window);
  void Add(int x, int b, int y);  // b may be broadcast
  void Relu(int x, int y);
  void ReluBackward(int dy, int x, int dx);  // dx = x > 0 ? dy : 0

  // Ends the description. False when this cuDNN has no engine for such a graph; then there are no candidates.
  bool Finalize();
  // What the heuristics offer, best first, at most `limit`.
  std::vector<EngineChoice> Candidates(cudnnBackendHeurMode_t mode, size_t limit) const;
  bool CompilesAtRunTime(const EngineChoice& choice) const;  // seconds for each Build, where others take none
  // kUnsupported with the reason when the engine cannot run the graph or breaks a rule. The graph may go, the plan stays.
  Result<std::unique_ptr<ExecutionPlan>> Build(const EngineChoice& choice, const EngineRules& rules) const;

 private:
  Result<BackendDescriptor> Engine(const EngineChoice& choice) const;
  int Tensor(cudnnDataType_t type, const TensorDims& dims, bool is_virtual);
  // Sets what all operations of a kind have, the tensors by attribute, and ends it.
  void Convolution(cudnnBackendDescriptorType_t type, const ConvWindow& window,
                   const std::array<cudnnBackendAttributeName_t, 6>& names, const std::array<int, 3>& tensors);
  void Pointwise(cudnnPointwiseMode_t mode, std::span<const std::pair<cudnnBackendAttributeName_t, int>> tensors);
  const BackendDescriptor& ConvolutionSettings(const ConvWindow& window);
  const BackendDescriptor& PointwiseSettings(cudnnPointwiseMode_t mode);
  const BackendDescriptor& At(int tensor) const { return parts_->tensors[static_cast<size_t>(tensor)]; }

  CudnnTarget target_;
  std::vector<int64_t> real_ids_;
  std::shared_ptr<GraphParts> parts_ = std::make_shared<GraphParts>();
};

}  // namespace plateau::cuda
