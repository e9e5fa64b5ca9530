// A fully connected layer as its three products.
#include "worker/backend/cuda/fc_op.h"

#include <algorithm>
#include <optional>

#include "common/check.h"
#include "worker/backend/cuda/fc_pass.h"

namespace plateau::cuda {
namespace {

class LtFc final : public FcOp {
 public:
  LtFc(Libraries& libraries, const std::string& layer, const FcShape& shape, const FcUse& use, size_t workspace_limit)
      : forward_(libraries, layer, FcPassKind::kForward, shape, use, workspace_limit) {
    if (use.training && use.data_gradient) data_.emplace(libraries, layer, FcPassKind::kBackwardData, shape, use, workspace_limit);
    if (use.training) weights_.emplace(libraries, layer, FcPassKind::kBackwardWeights, shape, use, workspace_limit);
  }

  size_t workspace_bytes() const override {
    return std::max({forward_.workspace_bytes(), data_ ? data_->workspace_bytes() : 0, weights_ ? weights_->workspace_bytes() : 0});
  }
  void Forward(const void* x, const void* w, const float* bias, void* y, void* workspace) override {
    forward_.Run({w, x, y, const_cast<float*>(bias)}, workspace);
  }
  void BackwardData(const void* dy, const void* w, const void* x, void* dx, void* workspace) override {
    PLATEAU_CHECK(data_, "prepared without a data gradient");
    data_->Run({w, dy, dx, const_cast<void*>(x)}, workspace);
  }
  void BackwardWeights(const void* x, const void* dy, float* dw, float* db, void* workspace) override {
    PLATEAU_CHECK(weights_, "prepared without training");
    weights_->Run({x, dy, dw, db}, workspace);
  }
  std::vector<std::string> algorithms() const override {
    std::vector<std::string> lines{forward_.description()};
    if (data_) lines.push_back(data_->description());
    if (weights_) lines.push_back(weights_->description());
    return lines;
  }

 private:
  FcPass forward_;
  std::optional<FcPass> data_, weights_;
};

}  // namespace

std::unique_ptr<FcOp> FcOp::Create(Libraries& libraries, const std::string& layer, const FcShape& shape, const FcUse& use,
                                   size_t workspace_limit) {
  PLATEAU_CHECK(shape.rows > 0 && shape.inputs % kChannelAlign == 0 && shape.outputs % kChannelAlign == 0, "{}: {} x {} -> {}",
                layer, shape.rows, shape.inputs, shape.outputs);
  try {
    return std::make_unique<LtFc>(libraries, layer, shape, use, workspace_limit);
  } catch (const Failure& failure) {
    throw Failure(failure.code(), fmt::format("{}: {}", layer, failure.what()));
  }
}

}  // namespace plateau::cuda
