// Engines for a graph: what the heuristics offer, the text that names a choice, and the plan that is built from it.
#include <charconv>

#include "common/check.h"
#include "common/text.h"
#include "worker/backend/cuda/cudnn_graph.h"
#include "worker/backend/cuda/libraries.h"

namespace plateau::cuda {
namespace {

constexpr std::string_view kEngineWord = "engine";

void Get(const BackendDescriptor& descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room,
         int64_t& count, void* values) {
  const cudnnStatus_t status = cudnnBackendGetAttribute(descriptor.get(), name, type, room, &count, values);
  if (status != CUDNN_STATUS_SUCCESS) Check(status, fmt::format("cudnnBackendGetAttribute {}", static_cast<int>(name)).c_str());
}

template <class T>
T GetOne(const BackendDescriptor& descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) {
  T value{};
  int64_t count = 0;
  Get(descriptor, name, type, 1, count, &value);
  return value;
}

// Children are written into descriptors that the caller made.
std::vector<BackendDescriptor> GetChildren(const BackendDescriptor& parent, cudnnBackendAttributeName_t name,
                                           cudnnBackendDescriptorType_t type, size_t room) {
  std::vector<BackendDescriptor> children;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (size_t i = 0; i < room; ++i) raw.push_back(children.emplace_back(type).get());
  int64_t count = 0;
  Get(parent, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<int64_t>(room), count, raw.data());
  children.erase(children.begin() + std::min<std::ptrdiff_t>(count, static_cast<std::ptrdiff_t>(room)), children.end());
  return children;
}

EngineChoice ReadConfiguration(const BackendDescriptor& configuration) {
  EngineChoice choice;
  const std::vector<BackendDescriptor> engines =
      GetChildren(configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
  PLATEAU_CHECK(engines.size() == 1);
  choice.engine = GetOne<int64_t>(engines[0], CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64);
  for (const BackendDescriptor& knob : GetChildren(configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                                   CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS)) {
    const auto type = GetOne<cudnnBackendKnobType_t>(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE);
    choice.knobs.emplace_back(static_cast<int>(type), GetOne<int64_t>(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64));
  }
  return choice;
}

template <class Note>
std::vector<Note> Notes(const BackendDescriptor& engine, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                        size_t room) {
  std::vector<Note> notes(room);
  int64_t count = 0;
  Get(engine, name, type, static_cast<int64_t>(room), count, notes.data());
  notes.resize(std::min(room, static_cast<size_t>(count)));
  return notes;
}

const char* NoteName(cudnnBackendNumericalNote_t note) {
  switch (note) {
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: return "it multiplies in tensor cores";
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS: return "it rounds its inputs";
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION: return "it sums in a short format";
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: return "its bits differ from run to run";
    default: return "its numerics are not accepted here";
  }
}

// The word at the front of `text`, taken off it.
std::string_view TakeWord(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(word.size());
  return word;
}

template <class T>
bool ParseNumber(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string EngineChoice::Text() const {
  std::string text = fmt::format("{} {}", kEngineWord, engine);
  for (const auto& [type, value] : knobs) text += fmt::format(" k{}={}", type, value);
  return text;
}

Result<EngineChoice> EngineChoice::Parse(std::string_view& text) {
  const std::string whole(text);
  EngineChoice choice;
  if (TakeWord(text) != kEngineWord || !ParseNumber(TakeWord(text), choice.engine) || choice.engine < 0)
    return Fail(ErrorCode::kInvalidInput, "\"{}\" is no choice of a cuDNN engine (\"engine 34 k2=1\")", whole);
  while (true) {
    std::string_view rest = text;
    const std::string_view word = TakeWord(rest);
    const size_t equals = word.find('=');
    if (word.empty() || word[0] != 'k' || equals == std::string_view::npos) return choice;
    auto& [type, value] = choice.knobs.emplace_back();
    if (!ParseNumber(word.substr(1, equals - 1), type) || !ParseNumber(word.substr(equals + 1), value))
      return Fail(ErrorCode::kInvalidInput, "\"{}\": \"{}\" is no knob's value (\"k2=1\")", whole, word);
    text = rest;
  }
}

std::vector<EngineChoice> OperationGraph::Candidates(cudnnBackendHeurMode_t mode, size_t limit) const {
  if (!parts_->graph) return {};
  BackendDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.SetChild(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, *parts_->graph);
  heuristics.Set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  if (target_.described) heuristics.SetChild(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target_.described);
  const cudnnStatus_t status = heuristics.Finalize();
  if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED) return {};
  Check(status, "engine heuristics");
  int64_t count = 0;
  Get(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, count, nullptr);
  std::vector<EngineChoice> choices;
  for (const BackendDescriptor& configuration :
       GetChildren(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                   std::min(limit, static_cast<size_t>(count))))
    choices.push_back(ReadConfiguration(configuration));
  return choices;
}

Result<BackendDescriptor> OperationGraph::Engine(const EngineChoice& choice) const {
  if (!parts_->graph) return Fail(ErrorCode::kUnsupported, "this cuDNN has no engine for the graph");
  BackendDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  engine.SetChild(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, *parts_->graph);
  if (target_.described) engine.SetChild(CUDNN_ATTR_ENGINE_DEVICEPROP, *target_.described);
  cudnnStatus_t status =
      cudnnBackendSetAttribute(engine.get(), CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &choice.engine);
  if (status == CUDNN_STATUS_SUCCESS) status = engine.Finalize();
  if (status != CUDNN_STATUS_SUCCESS)
    return Fail(ErrorCode::kUnsupported, "{}: no such engine: {}", choice.Text(), Describe(status));
  return engine;
}

bool OperationGraph::CompilesAtRunTime(const EngineChoice& choice) const {
  const Result<BackendDescriptor> engine = Engine(choice);
  if (!engine) return false;
  const auto notes = Notes<cudnnBackendBehaviorNote_t>(*engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                                       CUDNN_BEHAVIOR_NOTE_TYPE_COUNT);
  return std::find(notes.begin(), notes.end(), CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != notes.end();
}

Result<std::unique_ptr<ExecutionPlan>> OperationGraph::Build(const EngineChoice& choice, const EngineRules& rules) const {
  PLATEAU_ASSIGN(BackendDescriptor engine, Engine(choice));
  for (const auto note : Notes<cudnnBackendNumericalNote_t>(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                                            CUDNN_NUMERICAL_NOTE_TYPE_COUNT))
    if (std::find(rules.forbidden.begin(), rules.forbidden.end(), note) != rules.forbidden.end())
      return Fail(ErrorCode::kUnsupported, "{}: {}", choice.Text(), NoteName(note));

  std::unique_ptr<ExecutionPlan> plan(new ExecutionPlan(target_, real_ids_, parts_, std::move(engine)));
  const auto refused = [&](const char* what, cudnnStatus_t status) {
    return Fail(ErrorCode::kUnsupported, "{}: {}: {}", choice.Text(), what, Describe(status));
  };
  cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
  for (const auto& [type, value] : choice.knobs) {
    BackendDescriptor& knob = plan->knobs_.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    const auto cudnn_type = static_cast<cudnnBackendKnobType_t>(type);
    status = cudnnBackendSetAttribute(knob.get(), CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &cudnn_type);
    if (status == CUDNN_STATUS_SUCCESS)
      status = cudnnBackendSetAttribute(knob.get(), CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
    if (status == CUDNN_STATUS_SUCCESS) status = knob.Finalize();
    if (status != CUDNN_STATUS_SUCCESS) return refused("a knob is not known", status);
  }
  plan->configuration_.SetChild(CUDNN_ATTR_ENGINECFG_ENGINE, plan->engine_);
  if (!plan->knobs_.empty()) plan->configuration_.SetChildren(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, plan->knobs_);
  if ((status = plan->configuration_.Finalize()) != CUDNN_STATUS_SUCCESS) return refused("its configuration is refused", status);
  plan->plan_.SetChild(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, plan->configuration_);
  if ((status = plan->plan_.Finalize()) != CUDNN_STATUS_SUCCESS) return refused("it does not run this graph", status);
  plan->workspace_bytes_ =
      static_cast<size_t>(GetOne<int64_t>(plan->plan_, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64));
  if (plan->workspace_bytes_ > rules.workspace_limit)
    return Fail(ErrorCode::kUnavailable, "{}: it wants {} of workspace, and {} are allowed", choice.Text(),
                HumanBytes(plan->workspace_bytes_), HumanBytes(rules.workspace_limit));
  return plan;
}

ExecutionPlan::ExecutionPlan(CudnnTarget target, std::vector<int64_t> ids, std::shared_ptr<const GraphParts> graph,
                             BackendDescriptor engine)
    : target_(std::move(target)),
      ids_(std::move(ids)),
      graph_(std::move(graph)),
      engine_(std::move(engine)),
      configuration_(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
      plan_(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {}

void ExecutionPlan::Execute(std::span<void* const> pointers, void* workspace, const char* what) {
  PLATEAU_CHECK(pointers.size() == ids_.size(), "{} pointers for {} tensors", pointers.size(), ids_.size());
  for (const VariantPack& pack : packs_)
    if (pack.workspace == workspace && std::equal(pointers.begin(), pointers.end(), pack.pointers.begin()))
      return Check(cudnnBackendExecute(target_.handle, plan_.get(), pack.descriptor.get()), what);

  VariantPack pack{{pointers.begin(), pointers.end()}, workspace, BackendDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)};
  const auto count = static_cast<int64_t>(ids_.size());
  pack.descriptor.Set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pack.pointers.data());
  pack.descriptor.Set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids_.data());
  pack.descriptor.Set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  Check(pack.descriptor.Finalize(), "variant pack");
  const size_t place = packs_.size() < kMaxPacks ? packs_.size() : next_pack_++ % kMaxPacks;
  if (place == packs_.size())
    packs_.push_back(std::move(pack));
  else
    packs_[place] = std::move(pack);
  Check(cudnnBackendExecute(target_.handle, plan_.get(), packs_[place].descriptor.get()), what);
}

}  // namespace plateau::cuda
