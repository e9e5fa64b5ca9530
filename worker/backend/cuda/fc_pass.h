// One pass of a fully connected layer: a product, its epilogue or the own kernels behind it, and the search for its algorithm.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/cuda/fc_op.h"
#include "worker/backend/cuda/lt_matmul.h"

namespace plateau::cuda {

enum class FcPassKind { kForward, kBackwardData, kBackwardWeights };

// Device memory of a pass, in the order of the product: forward w, x -> y; backward data w, dy -> dx; backward weights x, dy -> dw.
struct FcOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  void* d = nullptr;
  void* extra = nullptr;  // bias; the mask x; db
};

// The text of its choice is an algorithm's and "fused" (the epilogue does the rest) or "plain" (own kernels do, where something is
// left to do). Both are timed.
class FcPass {
 public:
  // Throws Failure naming the layer and pass.
  FcPass(Libraries& libraries, const std::string& layer, FcPassKind kind, const FcShape& shape, const FcUse& use,
         size_t workspace_limit);

  size_t workspace_bytes() const { return algorithm_.workspace_bytes; }
  void Run(const FcOperands& operands, void* workspace) { RunWith(algorithm_, operands, workspace); }
  std::string description() const;
  // The choices that timing would compare, for tests.
  std::vector<std::string> Offers();

 private:
  enum class Way { kFused, kPlain };
  struct Algorithm {
    Way way = Way::kPlain;
    LtAlgorithm lt;
    size_t workspace_bytes = 0;  // the product's, and behind it ExtraBytes
  };

  static const char* WayName(Way way) { return way == Way::kFused ? "fused" : "plain"; }
  LtProblem Problem(Way way) const;
  LtMatmul& Product(Way way) { return *products_[static_cast<size_t>(way)]; }
  bool LeavesSomething() const;        // beside the product
  size_t ExtraBytes(Way way) const;    // the bias in bf16, or the partial sums of db
  size_t ProductLimit(Way way) const;  // workspace that is left for the product
  size_t WorkspaceOf(const Algorithm& algorithm) const;
  MapShape OutputMap() const { return {shape_.rows, 1, 1, static_cast<int>(shape_.outputs), static_cast<int>(shape_.outputs)}; }
  MapShape InputMap() const { return {shape_.rows, 1, 1, static_cast<int>(shape_.inputs), static_cast<int>(shape_.inputs)}; }
  std::string TextOf(const Algorithm& algorithm) const;
  Result<Algorithm> Parse(const std::string& text);
  std::vector<Algorithm> Collect();
  std::string Time();
  void RunWith(const Algorithm& algorithm, const FcOperands& operands, void* workspace);
  void FinishPlain(const FcOperands& operands, void* extra);

  Libraries& libraries_;
  std::string label_;  // "fc6 forward"
  FcPassKind kind_;
  FcShape shape_;
  FcUse use_;
  size_t workspace_limit_;
  std::array<std::unique_ptr<LtMatmul>, 2> products_;  // by Way
  Algorithm algorithm_;
};

}  // namespace plateau::cuda
