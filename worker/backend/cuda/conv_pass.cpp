// A pass as cuDNN graphs, and the work of own kernels around them.
#include "worker/backend/cuda/conv_pass.h"

#include <algorithm>

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
    : libraries_(libraries),
      label_(fmt::format("{} {}", layer, PassName(kind))),
      kind_(kind),
      shape_(shape),
      use_(use),
      workspace_limit_(workspace_limit) {
  pass_ = PassName(kind);
  if (kind == ConvPassKind::kForward) pass_ += fmt::format("{}{}", use.bias ? "+bias" : "", use.relu ? "+relu" : "");
  if (kind == ConvPassKind::kBackwardData && use.data_relu) pass_ += "+relu";
  Choose(layer);
}

void ConvPass::Run(const ConvOperands& operands, void* workspace) { RunWith(algorithm_, operands, workspace); }

void ConvPass::RunWith(Algorithm& algorithm, const ConvOperands& operands, void* workspace) {
  const Way way = algorithm.way;
  const cudaStream_t stream = libraries_.stream().get();
  void* extra = static_cast<std::byte*>(workspace) + AlignedBytes(algorithm.plan->workspace_bytes());
  if (way == Way::kFusedShort) CastToBf16(stream, static_cast<const float*>(operands.extra), extra, shape_.y.stored);

  std::array<void*, 4> pointers{const_cast<void*>(operands.first), const_cast<void*>(operands.second)};
  size_t count = 2;
  if (way == Way::kFusedShort) pointers[count++] = extra;
  if (way == Way::kFused && (use_.bias || kind_ == ConvPassKind::kBackwardData))
    pointers[count++] = const_cast<void*>(operands.extra);
  pointers[count++] = way == Way::kRounded ? extra : operands.result;
  algorithm.plan->Execute({pointers.data(), count}, workspace, label_.c_str());

  if (way == Way::kRounded) CastToFloat(stream, extra, static_cast<float*>(operands.result), WeightCount());
  if (way != Way::kPlain || !FusesSomething()) return;
  const DataType type = libraries_.map_type();
  if (kind_ == ConvPassKind::kForward)
    BiasRelu(stream, Map{type, shape_.y, operands.result}, use_.bias ? static_cast<const float*>(operands.extra) : nullptr,
             use_.relu);
  else
    ReluBackward(stream, Map{type, shape_.x, const_cast<void*>(operands.extra)}, Map{type, shape_.x, operands.result});
}

bool ConvPass::FusesSomething() const {
  if (kind_ == ConvPassKind::kForward) return use_.bias || use_.relu;
  return kind_ == ConvPassKind::kBackwardData && use_.data_relu;
}

int64_t ConvPass::WeightCount() const { return int64_t{shape_.y.stored} * shape_.kernel * shape_.kernel * shape_.x.stored; }

size_t ConvPass::ExtraBytes(Way way) const {
  const int64_t values = way == Way::kRounded ? WeightCount() : way == Way::kFusedShort ? shape_.y.stored : 0;
  return static_cast<size_t>(values * SizeOf(DataType::kBf16));
}

std::vector<ConvPass::Way> ConvPass::Ways() const {
  const bool bf16 = libraries_.map_type() == DataType::kBf16;
  if (kind_ == ConvPassKind::kBackwardWeights) return bf16 ? std::vector{Way::kPlain, Way::kRounded} : std::vector{Way::kPlain};
  if (!FusesSomething()) return {Way::kPlain};
  const bool bias = kind_ == ConvPassKind::kForward && use_.bias;
  return bf16 && bias ? std::vector{Way::kFusedShort, Way::kFused, Way::kPlain} : std::vector{Way::kFused, Way::kPlain};
}

const char* ConvPass::WayName(Way way) {
  switch (way) {
    case Way::kFusedShort: return "fused16";
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
      const DataType bias_type = way == Way::kFusedShort ? type : DataType::kFloat;
      const int bias = use_.bias ? graph.Real(bias_type, {1, shape_.y.stored, 1, 1}) : -1;
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
  return algorithm_.way == Way::kPlain ? fmt::format("{}, then {}", text, what) : fmt::format("{}, {} fused", text, what);
}

}  // namespace plateau::cuda
