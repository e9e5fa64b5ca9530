// A convolution as its three passes.
#include "worker/backend/cuda/conv_op.h"

#include <algorithm>
#include <optional>

#include "common/check.h"
#include "worker/backend/cuda/conv_pass.h"

namespace plateau::cuda {
namespace {

class CudnnConv final : public ConvOp {
 public:
  CudnnConv(Libraries& libraries, const std::string& layer, const ConvShape& shape, const ConvUse& use, size_t workspace_limit)
      : forward_(libraries, layer, ConvPassKind::kForward, shape, use, workspace_limit) {
    if (use.training && use.data_gradient)
      data_.emplace(libraries, layer, ConvPassKind::kBackwardData, shape, use, workspace_limit);
    if (use.training) weights_.emplace(libraries, layer, ConvPassKind::kBackwardWeights, shape, use, workspace_limit);
  }

  size_t workspace_bytes() const override {
    return std::max({forward_.workspace_bytes(), data_ ? data_->workspace_bytes() : 0, weights_ ? weights_->workspace_bytes() : 0});
  }
  void Forward(const void* x, const void* w, const float* bias, void* y, void* workspace) override {
    forward_.Run({x, w, bias, y}, workspace);
  }
  void BackwardData(const void* dy, const void* w, const void* x, void* dx, void* workspace) override {
    PLATEAU_CHECK(data_, "prepared without a data gradient");
    data_->Run({dy, w, x, dx}, workspace);
  }
  void BackwardWeights(const void* x, const void* dy, float* dw, void* workspace) override {
    PLATEAU_CHECK(weights_, "prepared without training");
    weights_->Run({x, dy, nullptr, dw}, workspace);
  }
  std::vector<std::string> algorithms() const override {
    std::vector<std::string> lines{forward_.description()};
    if (data_) lines.push_back(data_->description());
    if (weights_) lines.push_back(weights_->description());
    return lines;
  }

 private:
  ConvPass forward_;
  std::optional<ConvPass> data_, weights_;
};

}  // namespace

std::unique_ptr<ConvOp> ConvOp::Create(Libraries& libraries, const std::string& layer, const ConvShape& shape, const ConvUse& use,
                                       size_t workspace_limit) {
  const auto windows = [&](int side) { return (side + 2 * shape.pad - shape.kernel) / shape.stride + 1; };
  PLATEAU_CHECK(shape.x.n == shape.y.n && windows(shape.x.h) == shape.y.h && windows(shape.x.w) == shape.y.w,
                "{}: {}x{}x{} -> {}x{}x{}", layer, shape.x.n, shape.x.h, shape.x.w, shape.y.n, shape.y.h, shape.y.w);
  try {
    return std::make_unique<CudnnConv>(libraries, layer, shape, use, workspace_limit);
  } catch (const Failure& failure) {
    throw Failure(failure.code(), fmt::format("{}: {}", layer, failure.what()));
  }
}

}  // namespace plateau::cuda
