// A pass as cuDNN graphs, and the work of own kernels around them.
#include "worker/backend/cuda/conv_pass.h"

#include <algorithm>

#include "common/log.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

TensorDims DimsOf(const MapShape& map) { return {map.n, map.stored, map.h, map.w}; }

const char* PassName(ConvPassKind kind) {
  switch (kind) {
    case ConvPassKind::kForward: return "forward";
    case ConvPassKind::kBackwardData: return "backward data";
    case ConvPassKind::kBackwardWeights: return "backward weights";
  }
  return "";
}

}  // namespace

ConvPass::ConvPass(Libraries& libraries, const std::string& layer, ConvPassKind kind, const ConvShape& shape, const ConvUse& use,
                   size_t workspace_limit)
    : libraries_(libraries), label_(fmt::format("{} {}", layer, PassName(kind))), kind_(kind), shape_(shape), use_(use),
      workspace_limit_(workspace_limit) {
  Choose();
}

void ConvPass::Run(const ConvOperands& operands, void* workspace) { RunWith(algorithm_, operands, workspace); }

void ConvPass::RunWith(Algorithm& algorithm, const ConvOperands& operands, void* workspace) {
  void* result = operands.result;
  if (algorithm.way == Way::kRounded) result = static_cast<std::byte*>(workspace) + AlignedBytes(algorithm.plan->workspace_bytes());
  std::array<void*, 4> pointers{const_cast<void*>(operands.first), const_cast<void*>(operands.second)};
  size_t count = 2;
  const bool extra = algorithm.way == Way::kFused && (kind_ == ConvPassKind::kBackwardData || use_.bias);
  if (extra) pointers[count++] = const_cast<void*>(operands.extra);
  pointers[count++] = result;
  algorithm.plan->Execute({pointers.data(), count}, workspace, label_.c_str());

  const cudaStream_t stream = libraries_.stream().get();
  const DataType type = libraries_.map_type();
  if (algorithm.way == Way::kRounded)
    CastToFloat(stream, result, static_cast<float*>(operands.result), WeightCount());
  if (algorithm.way != Way::kPlain || !FusesSomething()) return;
  if (kind_ == ConvPassKind::kForward)
    BiasRelu(stream, Map{type, shape_.y, result}, use_.bias ? static_cast<const float*>(operands.extra) : nullptr, use_.relu);
  else
    ReluBackward(stream, Map{type, shape_.x, const_cast<void*>(operands.extra)}, Map{type, shape_.x, result});
}

bool ConvPass::FusesSomething() const {
  if (kind_ == ConvPassKind::kForward) return use_.bias || use_.relu;
  return kind_ == ConvPassKind::kBackwardData && use_.data_relu;
}

int64_t ConvPass::WeightCount() const { return int64_t{shape_.y.stored} * shape_.kernel * shape_.kernel * shape_.x.stored; }

size_t ConvPass::RoundedBytes(Way way) const {
  return way == Way::kRounded ? static_cast<size_t>(WeightCount() * SizeOf(DataType::kBf16)) : 0;
}

std::vector<ConvPass::Way> ConvPass::Ways() const {
  if (kind_ == ConvPassKind::kBackwardWeights)
    return libraries_.map_type() == DataType::kBf16 ? std::vector{Way::kPlain, Way::kRounded} : std::vector{Way::kPlain};
  return FusesSomething() ? std::vector{Way::kFused, Way::kPlain} : std::vector{Way::kPlain};
}

const char* ConvPass::WayName(Way way) {
  switch (way) {
    case Way::kFused: return "fused";
    case Way::kPlain: return "plain";
    case Way::kRounded: return "rounded";
  }
  return "";
}

OperationGraph ConvPass::Graph(Way way) const {
  const DataType type = libraries_.map_type();
  const TensorDims x = DimsOf(shape_.x), y = DimsOf(shape_.y);
  const TensorDims w{shape_.y.stored, shape_.x.stored, shape_.kernel, shape_.kernel};
  const ConvWindow window{shape_.stride, shape_.pad};
  OperationGraph graph({libraries_.cudnn(), nullptr});
  if (kind_ == ConvPassKind::kForward) {
    const int in = graph.Real(type, x), weights = graph.Real(type, w);
    if (way == Way::kPlain) {
      graph.ConvolutionForward(in, weights, graph.Real(type, y), window);
    } else {
      const int bias = use_.bias ? graph.Real(DataType::kFloat, {1, shape_.y.stored, 1, 1}) : -1;
      const int out = graph.Real(type, y), product = graph.Virtual(y);
      graph.ConvolutionForward(in, weights, product, window);
      const int biased = !use_.bias ? product : use_.relu ? graph.Virtual(y) : out;
      if (use_.bias) graph.Add(product, bias, biased);
      if (use_.relu) graph.Relu(biased, out);
    }
  } else if (kind_ == ConvPassKind::kBackwardData) {
    const int dy = graph.Real(type, y), weights = graph.Real(type, w);
    if (way == Way::kPlain) {
      graph.ConvolutionBackwardData(dy, weights, graph.Real(type, x), window);
    } else {
      const int mask = graph.Real(type, x), dx = graph.Real(type, x), product = graph.Virtual(x);
      graph.ConvolutionBackwardData(dy, weights, product, window);
      graph.ReluBackward(product, mask, dx);
    }
  } else {
    const int in = graph.Real(type, x), dy = graph.Real(type, y);
    graph.ConvolutionBackwardWeights(in, dy, graph.Real(way == Way::kRounded ? type : DataType::kFloat, w), window);
  }
  graph.Finalize();
  return graph;
}

std::string ConvPass::description() const {
  std::string text = fmt::format("{} {}", label_, algorithm_.engine.Text());
  const bool forward = kind_ == ConvPassKind::kForward;
  const char* what = !forward ? "the ReLU's gradient" : use_.bias && use_.relu ? "bias and ReLU" : use_.bias ? "bias" : "ReLU";
  if (algorithm_.way == Way::kRounded) return text + ", rounded to bf16";
  if (!FusesSomething()) return text;
  return algorithm_.way == Way::kFused ? fmt::format("{}, {} fused", text, what) : fmt::format("{}, then {}", text, what);
}

}  // namespace plateau::cuda
