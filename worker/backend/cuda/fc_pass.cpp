// Row-major data as cuBLASLt's columns: x [rows, inputs] is a matrix of `inputs` rows there, and so on.
#include "worker/backend/cuda/fc_pass.h"

#include <algorithm>

#include "worker/backend/cuda/kernels/kernels.h"
#include "worker/backend/cuda/timing.h"

namespace plateau::cuda {
namespace {

const char* PassName(FcPassKind kind) {
  switch (kind) {
    case FcPassKind::kForward: return "forward";
    case FcPassKind::kBackwardData: return "backward data";
    case FcPassKind::kBackwardWeights: return "backward weights";
  }
  return "";
}

}  // namespace

FcPass::FcPass(Libraries& libraries, const std::string& layer, FcPassKind kind, const FcShape& shape, const FcUse& use,
               size_t workspace_limit)
    : libraries_(libraries),
      label_(fmt::format("{} {}", layer, PassName(kind))),
      kind_(kind),
      shape_(shape),
      use_(use),
      workspace_limit_(workspace_limit) {
  for (const Way way : {Way::kFused, Way::kPlain})
    products_[static_cast<size_t>(way)] = std::make_unique<LtMatmul>(libraries, Problem(way));
  const std::string pass =
      PassName(kind) + std::string(kind != FcPassKind::kBackwardData && use.bias ? "+bias" : "") +
      ((kind == FcPassKind::kForward && use.relu) || (kind == FcPassKind::kBackwardData && use.data_relu) ? "+relu" : "");
  const std::string key =
      fmt::format("{} {} -> {} {}{}, {}, {}", pass, shape.inputs, shape.outputs, PrecisionName(libraries.precision()),
                  libraries.deterministic() ? " deterministic" : "", libraries.device_name(), libraries.cublas_version());
  const std::string plan = fmt::format("batch {} within {} bytes", shape.rows, workspace_limit);
  const auto time = [&] { return libraries.TimedOnce(fmt::format("{} {}", key, plan), [&] { return Time(); }); };
  BuildChosen(libraries.choices(), fmt::format("{} {}", layer, key), plan, time, [&](const std::string& text) -> Status {
    PLATEAU_ASSIGN(algorithm_, Parse(text));
    return {};
  });
}

LtProblem FcPass::Problem(Way way) const {
  const DataType type = libraries_.map_type();
  const LtMatrix x{type, shape_.inputs, shape_.rows}, y{type, shape_.outputs, shape_.rows};
  LtMatrix w{type, shape_.inputs, shape_.outputs};
  LtProblem problem;
  if (kind_ == FcPassKind::kForward) {
    w.transpose = true;
    problem = {w, x, y};
    if (way == Way::kFused && use_.bias) problem.epilogue = use_.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
    if (way == Way::kFused && !use_.bias && use_.relu) problem.epilogue = CUBLASLT_EPILOGUE_RELU;
  } else if (kind_ == FcPassKind::kBackwardData) {
    problem = {w, y, x};
  } else {
    LtMatrix dy = y;
    dy.transpose = true;
    w.type = DataType::kFloat;
    problem = {x, dy, w};
    if (way == Way::kFused && use_.bias) problem.epilogue = CUBLASLT_EPILOGUE_BGRADB;  // sums of B over the rows: db
  }
  return problem;
}

bool FcPass::LeavesSomething() const {
  if (kind_ == FcPassKind::kForward) return use_.bias || use_.relu;
  return kind_ == FcPassKind::kBackwardData ? use_.data_relu : use_.bias;
}

size_t FcPass::ExtraBytes(Way way) const {
  if (!use_.bias) return 0;
  if (kind_ == FcPassKind::kForward && way == Way::kFused && libraries_.map_type() == DataType::kBf16)
    return static_cast<size_t>(shape_.outputs * SizeOf(DataType::kBf16));
  if (kind_ == FcPassKind::kBackwardWeights && way == Way::kPlain)
    return static_cast<size_t>(BiasGradientScratch(OutputMap())) * sizeof(float);
  return 0;
}

void FcPass::RunWith(const Algorithm& algorithm, const FcOperands& operands, void* workspace) {
  void* extra = static_cast<std::byte*>(workspace) + AlignedBytes(algorithm.lt.workspace_bytes);
  void* vector = operands.extra;
  if (kind_ == FcPassKind::kForward && ExtraBytes(algorithm.way) != 0 && algorithm.way == Way::kFused) {
    CastToBf16(libraries_.stream().get(), static_cast<const float*>(operands.extra), extra, shape_.outputs);
    vector = extra;
  }
  Product(algorithm.way).Run(algorithm.lt, operands.a, operands.b, operands.d, vector, workspace, label_.c_str());
  if (algorithm.way == Way::kPlain && LeavesSomething()) FinishPlain(operands, extra);
}

void FcPass::FinishPlain(const FcOperands& operands, void* extra) {
  const cudaStream_t stream = libraries_.stream().get();
  const DataType type = libraries_.map_type();
  if (kind_ == FcPassKind::kForward)
    BiasRelu(stream, Map{type, OutputMap(), operands.d}, use_.bias ? static_cast<const float*>(operands.extra) : nullptr,
             use_.relu);
  else if (kind_ == FcPassKind::kBackwardData)
    ReluBackward(stream, Map{type, InputMap(), operands.extra}, Map{type, InputMap(), operands.d});
  else
    BiasGradient(stream, Map{type, OutputMap(), const_cast<void*>(operands.b)}, static_cast<float*>(extra),
                 static_cast<float*>(operands.extra));
}

std::string FcPass::TextOf(const Algorithm& algorithm) const {
  return fmt::format("{} {}", LtMatmul::Text(algorithm.lt), WayName(algorithm.way));
}

Result<FcPass::Algorithm> FcPass::Parse(const std::string& text) {
  const size_t space = std::min(text.rfind(' '), text.size());
  const std::string last = text.substr(std::min(space + 1, text.size()));
  Algorithm algorithm;
  algorithm.way = last == WayName(Way::kFused) ? Way::kFused : Way::kPlain;
  if (last != WayName(algorithm.way)) return Fail(ErrorCode::kInvalidInput, "\"{}\" does not end with fused or plain", text);
  PLATEAU_ASSIGN(algorithm.lt, Product(algorithm.way).Parse(text.substr(0, space), ProductLimit(algorithm.way)));
  algorithm.workspace_bytes = WorkspaceOf(algorithm);
  return algorithm;
}

size_t FcPass::ProductLimit(Way way) const {
  const size_t extra = ExtraBytes(way);
  return extra > workspace_limit_ ? 0 : (workspace_limit_ - extra) / kWorkspaceAlign * kWorkspaceAlign;
}

size_t FcPass::WorkspaceOf(const Algorithm& algorithm) const {
  const size_t extra = ExtraBytes(algorithm.way);
  return extra == 0 ? algorithm.lt.workspace_bytes : AlignedBytes(algorithm.lt.workspace_bytes) + extra;
}

std::vector<FcPass::Algorithm> FcPass::Collect() {
  std::vector<Algorithm> found;
  for (const Way way : {Way::kFused, Way::kPlain}) {
    if (way == Way::kFused && (!LeavesSomething() || kind_ == FcPassKind::kBackwardData)) continue;
    if (ExtraBytes(way) > workspace_limit_) continue;
    for (const LtAlgorithm& lt : Product(way).Candidates(ProductLimit(way), kMaxCandidates)) found.push_back({way, lt});
  }
  for (Algorithm& algorithm : found) algorithm.workspace_bytes = WorkspaceOf(algorithm);
  return found;
}

std::vector<std::string> FcPass::Offers() {
  std::vector<std::string> texts;
  for (const Algorithm& algorithm : Collect()) texts.push_back(TextOf(algorithm));
  return texts;
}

std::string FcPass::Time() {
  const std::vector<Algorithm> found = Collect();
  if (found.empty())
    throw Failure(ErrorCode::kUnsupported, fmt::format("{}: {} offers no algorithm within {} bytes of workspace", label_,
                                                       libraries_.cublas_version(), workspace_limit_));
  const LtProblem problem = Problem(Way::kPlain);
  const auto bytes = [](const LtMatrix& matrix) {
    return AlignedBytes(static_cast<size_t>(matrix.rows * matrix.columns * SizeOf(matrix.type)));
  };
  const size_t a = bytes(problem.a), b = bytes(problem.b), d = bytes(problem.d);
  const size_t extra = kind_ == FcPassKind::kBackwardData ? d : AlignedBytes(static_cast<size_t>(shape_.outputs) * sizeof(float));
  size_t workspace = 0;
  for (const Algorithm& algorithm : found) workspace = std::max(workspace, algorithm.workspace_bytes);
  std::byte* base = ScratchForTiming(libraries_, a + b + d + extra + workspace, label_);
  if (base == nullptr) return TextOf(found.front());
  const FcOperands operands{base, base + a, base + a + b, base + a + b + d};
  void* at_workspace = base + a + b + d + extra;
  std::vector<Candidate> candidates;
  for (const Algorithm& algorithm : found)
    candidates.push_back({TextOf(algorithm), 1, [&, operands] { RunWith(algorithm, operands, at_workspace); }});
  return Fastest(libraries_, label_, candidates);
}

std::string FcPass::description() const {
  const std::string text = LtMatmul::Text(algorithm_.lt);
  const std::string line = fmt::format("{} {}", label_, text.substr(0, text.find(" data=")));
  if (!LeavesSomething()) return line;
  const char* what = kind_ == FcPassKind::kBackwardWeights ? "the bias gradient"
                     : kind_ == FcPassKind::kBackwardData  ? "the ReLU's gradient"
                     : !use_.bias                          ? "ReLU"
                     : use_.relu                           ? "bias and ReLU"
                                                           : "bias";
  return algorithm_.way == Way::kFused ? fmt::format("{}, {} fused", line, what) : fmt::format("{}, then {}", line, what);
}

}  // namespace plateau::cuda
