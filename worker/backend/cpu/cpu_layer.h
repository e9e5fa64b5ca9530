// One layer compiled for fixed shapes: prepared oneDNN primitives over buffers that the plan binds.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include <dnnl.hpp>

#include "worker/backend/cpu/cpu_parameters.h"

namespace plateau {

// Addresses inside the arena, in the order of LayerDef::inputs. Shapes: the layer's inputs and output; gradients have the shapes of
// what they are gradients of.
struct LayerBuffers {
  std::vector<float*> inputs;
  float* output = nullptr;
  std::vector<float*> input_gradients;  // null where none is wanted, or where it is the output's (see PassesGradient)
  float* output_gradient = nullptr;
  void* workspace = nullptr;   // workspace_bytes(), from Forward to BackwardWeights
  void* scratchpad = nullptr;  // scratchpad_bytes(), during a call
};

// A primitive with its arguments, made once.
struct PreparedPass {
  dnnl::primitive primitive;
  std::unordered_map<int, dnnl::memory> arguments;
  std::string implementation;

  explicit operator bool() const { return static_cast<bool>(primitive); }
  void Bind(int argument, void* data) { arguments.at(argument).set_data_handle(data); }
  void Run(dnnl::stream& stream) const {
    primitive.execute(stream, arguments);
    stream.wait();
  }
};

// One thread at a time. oneDNN faults come out as dnnl::error.
class CpuLayer {
 public:
  virtual ~CpuLayer() = default;
  virtual const dnnl::memory::desc& output() const = 0;
  virtual size_t scratchpad_bytes() const = 0;
  virtual size_t workspace_bytes() const { return 0; }
  // Whether the backward pass reads the inputs again.
  virtual bool keeps_inputs() const { return false; }
  // Whether the gradient of input `which` is the output's gradient as it lies, so that the two may share a buffer.
  virtual bool PassesGradient(int /*which*/) const { return false; }
  virtual void Bind(const LayerBuffers& buffers) = 0;
  // Before Forward of a training plan: the batch's first `rows` rows are samples, the others padding. Batch norm alone cares.
  virtual void SetRows(int /*rows*/) {}
  virtual void Forward(dnnl::stream& stream) = 0;
  // Reads the output gradient (already through the ReLU, except batch norm's), overwrites the input gradients.
  virtual void BackwardData(dnnl::stream& stream) = 0;
  // Reads input and output gradient, overwrites the parameters' gradients.
  virtual void BackwardWeights(dnnl::stream&) {}
  virtual std::vector<std::string> algorithms() const = 0;  // "forward winograd", one a pass
};

// An attribute with scratchpads from the arena and, when asked, a ReLU fused behind the operation.
dnnl::primitive_attr MakeAttributes(bool relu);

// A weight as one pass wants it: the native buffer, or a derived copy in another layout.
class WeightUse {
 public:
  WeightUse() = default;
  WeightUse(CpuParameterStore& store, int parameter, const dnnl::memory::desc& wanted);
  dnnl::memory memory() const { return memory_; }
  bool derived() const { return derived_ >= 0; }
  void Refresh(dnnl::stream& stream);

 private:
  CpuParameterStore* store_ = nullptr;
  int derived_ = -1;
  dnnl::memory memory_;
};

// A weight gradient as one pass makes it: straight into the native buffer, or through a reorder.
class GradientSink {
 public:
  GradientSink() = default;
  GradientSink(CpuParameterStore& store, int parameter, const dnnl::engine& engine, const dnnl::memory::desc& made);
  dnnl::memory memory() const { return memory_; }
  void Finish(dnnl::stream& stream);

 private:
  HugeBuffer buffer_;
  dnnl::memory memory_, native_;
  dnnl::reorder reorder_;
};

}  // namespace plateau
