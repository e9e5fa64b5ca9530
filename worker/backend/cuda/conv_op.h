// A convolution prepared once for fixed shapes, in the three passes, by cuDNN's graph API.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/backend/cuda/libraries.h"

namespace plateau::cuda {

struct ConvShape {
  MapShape x, y;  // x [n, h, w, x.stored]  y [n, p, q, y.stored]
  int kernel = 3, stride = 1, pad = 1;
};

struct ConvUse {
  bool bias = true, relu = false;  // of the forward pass
  bool training = true;            // makes the backward passes
  bool data_gradient = true;       // false: the first convolution has none
  bool data_relu = false;          // the data gradient goes through the ReLU whose output x is
};

// Weights [y.stored, kernel, kernel, x.stored] in the map type (KRSC), bias and gradients float. Queued on the libraries' stream;
// `workspace` has workspace_bytes() bytes. One thread at a time. Errors throw Failure naming the layer.
class ConvOp {
 public:
  // Chooses an engine for each pass by timing, through libraries.choices(): deterministic ones only when libraries say so, and none
  // that wants more than `workspace_limit` bytes. Where memory is short for timing (it takes the layer's maps once more, in
  // Libraries::TimingScratch), the heuristics' first is taken, with a warning. Where no engine fuses bias and ReLU (or the ReLU of
  // the data gradient), own kernels follow.
  static std::unique_ptr<ConvOp> Create(Libraries& libraries, const std::string& layer, const ConvShape& shape, const ConvUse& use,
                                        size_t workspace_limit);
  virtual ~ConvOp() = default;
  virtual size_t workspace_bytes() const = 0;
  // y = relu?(x * w + bias)
  virtual void Forward(const void* x, const void* w, const float* bias, void* y, void* workspace) = 0;
  // dx = w^T * dy, where x > 0 when data_relu (x is read then alone).
  virtual void BackwardData(const void* dy, const void* w, const void* x, void* dx, void* workspace) = 0;
  virtual void BackwardWeights(const void* x, const void* dy, float* dw, void* workspace) = 0;
  // "conv3_1 forward engine 34 k2=1, bias and ReLU fused", one a pass.
  virtual std::vector<std::string> algorithms() const = 0;
};

}  // namespace plateau::cuda
