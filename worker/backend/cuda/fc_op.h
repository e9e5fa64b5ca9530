// A fully connected layer prepared once for fixed shapes, in the three passes, by cuBLASLt with fused epilogues.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/backend/cuda/libraries.h"

namespace plateau::cuda {

struct FcShape {
  int rows = 0;
  int64_t inputs = 0, outputs = 0;  // stored values: multiples of kChannelAlign
};

struct FcUse {
  bool bias = true, relu = false;
  bool training = true;
  bool data_gradient = true;
  bool data_relu = false;  // the data gradient goes through the ReLU whose output x is
};

// x [rows, inputs]  w [outputs, inputs]  y [rows, outputs], row-major, in the map type; bias and gradients float. Otherwise as
// ConvOp.
// Forward: bias and ReLU in the epilogue, or own kernels behind it, whichever is faster. An epilogue's bias has the type of its
// output, so with bf16 it adds a copy rounded to bf16, made in the workspace each time; own kernels add the float.
// Backward data: cuBLASLt's ReLU gradient wants a bit mask that the layer below would have to write (RELU_AUX, rows padded to 128
// units), and the layer below is as often a pool or a dropout; an own kernel reads x > 0 instead. These maps are small.
// Backward weights: float, with db in the epilogue where the library offers it, else by the kernel BiasGradient.
class FcOp {
 public:
  static std::unique_ptr<FcOp> Create(Libraries& libraries, const std::string& layer, const FcShape& shape, const FcUse& use,
                                      size_t workspace_limit);
  virtual ~FcOp() = default;
  virtual size_t workspace_bytes() const = 0;
  // y = relu?(x w^T + bias)
  virtual void Forward(const void* x, const void* w, const float* bias, void* y, void* workspace) = 0;
  // dx = dy w, where x > 0 when data_relu.
  virtual void BackwardData(const void* dy, const void* w, const void* x, void* dx, void* workspace) = 0;
  // dw = dy^T x; db = column sums of dy, not touched (it may be null) without bias.
  virtual void BackwardWeights(const void* x, const void* dy, float* dw, float* db, void* workspace) = 0;
  virtual std::vector<std::string> algorithms() const = 0;
};

}  // namespace plateau::cuda
