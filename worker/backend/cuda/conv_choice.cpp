// Finds a pass's algorithm: on record, or the fastest of what the heuristics offer, timed on maps of the real size.
#include <algorithm>

#include "common/text.h"
#include "worker/backend/cuda/conv_pass.h"
#include "worker/backend/cuda/timing.h"

namespace plateau::cuda {
namespace {

constexpr double kRoundingCosts = 1.1;  // the time of rounded gradients counts as so much more
constexpr int kMaxCompiled = 3;         // candidates of a way that are compiled at run time, which takes seconds each

}  // namespace

std::string ConvPass::Key() const {
  return fmt::format("{} {}x{}x{} k{} {}x{} s{} p{} {}{}, {}, {}", pass_, shape_.x.stored, shape_.x.h, shape_.x.w, shape_.y.stored,
                     shape_.kernel, shape_.kernel, shape_.stride, shape_.pad, PrecisionName(libraries_.precision()),
                     libraries_.deterministic() ? " deterministic" : "", libraries_.device_name(), libraries_.cudnn_version());
}

// Sums are float in every precision, so short sums are out. Engines that use TF32 carry the note of tensor cores: fp32 goes
// without, and without the large Winograd tiles, whose error is beyond what fp32 promises (worker/nn/reference.h holds it to 1e-5).
EngineRules ConvPass::Rules() const {
  EngineRules rules{{CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}, workspace_limit_};
  if (libraries_.precision() != Precision::kBf16) rules.forbidden.push_back(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
  if (libraries_.precision() == Precision::kFp32)
    rules.forbidden.insert(rules.forbidden.end(), {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
                                                   CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13});
  if (libraries_.deterministic()) rules.forbidden.push_back(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
  return rules;
}

void ConvPass::Choose(const std::string& layer) {
  std::vector<Algorithm> timed;  // kept until the choice is known: building one again may compile it again
  const std::string plan = fmt::format("batch {} within {} bytes", shape_.x.n, workspace_limit_);
  const auto time = [&] { return libraries_.TimedOnce(fmt::format("{} {}", Key(), plan), [&] { return Time(timed); }); };
  BuildChosen(libraries_.choices(), fmt::format("{} {}", layer, Key()), plan, time, [&](const std::string& text) -> Status {
    for (Algorithm& algorithm : timed) {
      if (TextOf(algorithm) != text) continue;
      algorithm_ = std::move(algorithm);
      return {};
    }
    PLATEAU_ASSIGN(algorithm_, Parse(text));
    return {};
  });
}

std::string ConvPass::TextOf(const Algorithm& algorithm) {
  return fmt::format("{} {}", algorithm.engine.Text(), WayName(algorithm.way));
}

Result<ConvPass::Algorithm> ConvPass::Parse(const std::string& text) const {
  std::string_view rest = text;
  PLATEAU_ASSIGN(const EngineChoice engine, EngineChoice::Parse(rest));
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  for (const Way way : Ways())
    if (rest == WayName(way)) return Build(Graph(way), way, engine);
  return Fail(ErrorCode::kUnsupported, "\"{}\" is no way of this pass", rest);
}

Result<ConvPass::Algorithm> ConvPass::Build(const OperationGraph& graph, Way way, const EngineChoice& engine) const {
  EngineRules rules = Rules();
  const size_t extra = ExtraBytes(way);
  if (extra > rules.workspace_limit)
    return Fail(ErrorCode::kUnavailable, "values in bf16 want {} of workspace, and {} are allowed", HumanBytes(extra),
                HumanBytes(rules.workspace_limit));
  if (extra != 0) rules.workspace_limit = (rules.workspace_limit - extra) / kWorkspaceAlign * kWorkspaceAlign;
  PLATEAU_ASSIGN(std::unique_ptr<ExecutionPlan> plan, graph.Build(engine, rules));
  const size_t bytes = plan->workspace_bytes();
  return Algorithm{way, engine, std::move(plan), extra == 0 ? bytes : AlignedBytes(bytes) + extra};
}

// The heuristics of mode A, then of B, then the list of engines that run anything, until there are enough. A way that the library
// refuses outright leaves the others.
void ConvPass::Collect(Way way, std::vector<Algorithm>& found, std::string& refusal) const try {
  const OperationGraph graph = Graph(way);
  std::vector<EngineChoice> seen;
  const size_t enough = found.size() + kMaxCandidates;
  int compiled = 0;
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK}) {
    for (const EngineChoice& engine : graph.Candidates(mode, kMaxOffers)) {
      if (found.size() == enough) return;
      if (std::find(seen.begin(), seen.end(), engine) != seen.end()) continue;
      seen.push_back(engine);
      if (graph.CompilesAtRunTime(engine) && ++compiled > kMaxCompiled) continue;
      libraries_.GoOn();
      Result<Algorithm> built = Build(graph, way, engine);
      if (built)
        found.push_back(std::move(*built));
      else
        refusal = built.error().message;
    }
  }
} catch (const StartStopped&) {
  throw;
} catch (const Failure& failure) {
  if (failure.code() == ErrorCode::kUnavailable) throw;
  refusal = failure.what();
}

std::vector<std::string> ConvPass::Offers() const {
  std::vector<Algorithm> found;
  std::string refusal;
  for (const Way way : Ways()) Collect(way, found, refusal);
  std::vector<std::string> texts;
  for (const Algorithm& algorithm : found) texts.push_back(TextOf(algorithm));
  return texts;
}

std::string ConvPass::Time(std::vector<Algorithm>& found) {
  found.clear();
  std::string refusal = "the heuristics offer none";
  for (const Way way : Ways()) Collect(way, found, refusal);
  if (found.empty())
    throw Failure(ErrorCode::kUnsupported,
                  fmt::format("{}: no engine of {} fits, the last one because: {}", Key(), libraries_.cudnn_version(), refusal));
  const DataType type = libraries_.map_type();
  const auto bytes = [](int64_t values, DataType of) { return AlignedBytes(static_cast<size_t>(values * SizeOf(of))); };
  const size_t x = bytes(shape_.x.values(), type), y = bytes(shape_.y.values(), type);
  const size_t w = bytes(WeightCount(), kind_ == ConvPassKind::kBackwardWeights ? DataType::kFloat : type);
  const size_t extra = kind_ == ConvPassKind::kForward ? bytes(shape_.y.stored, DataType::kFloat) : x;
  size_t workspace = 0;
  for (const Algorithm& algorithm : found) workspace = std::max(workspace, algorithm.workspace_bytes);
  std::byte* base = ScratchForTiming(libraries_, x + y + w + extra + workspace, label_);
  if (base == nullptr) return TextOf(found.front());
  std::byte *at_x = base, *at_y = at_x + x, *at_w = at_y + y, *at_extra = at_w + w, *at_workspace = at_extra + extra;
  ConvOperands operands{at_x, at_w, at_extra, at_y};
  if (kind_ == ConvPassKind::kBackwardData) operands = {at_y, at_w, at_extra, at_x};
  if (kind_ == ConvPassKind::kBackwardWeights) operands = {at_x, at_y, nullptr, at_w};

  std::vector<Candidate> candidates;
  for (Algorithm& algorithm : found)
    candidates.push_back({TextOf(algorithm), algorithm.way == Way::kRounded ? kRoundingCosts : 1,
                          [&, operands] { RunWith(algorithm, operands, at_workspace); }});
  return Fastest(libraries_, label_, candidates);
}

}  // namespace plateau::cuda
