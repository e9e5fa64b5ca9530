// What a job takes from others: their weights, their checkpoints to test, and their ends to wait for.
#include <algorithm>

#include "common/spec_sections.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;

// `job` or `checkpoint`, exactly one of them, and which of the job's checkpoints.
void ReadSource(SpecReader& reader, std::string& job, std::string& checkpoint, CheckpointPick& pick) {
  reader.Text("job", job);
  reader.Text("checkpoint", checkpoint);
  if (job.empty() == checkpoint.empty())
    reader.Refuse("job", "give exactly one of job (a job's id) and checkpoint (a folder)");
  std::string which = "final";
  reader.Choice("pick", {"final", "best"}, which);
  pick = which == "best" ? CheckpointPick::kBest : CheckpointPick::kFinal;
  if (job.empty() && reader.Value("pick") != nullptr) reader.Refuse("pick", "belongs to job; a checkpoint is one already");
  if (!checkpoint.empty()) checkpoint = Absolute(checkpoint);
}

void AddSource(Json& out, const std::string& job, const std::string& checkpoint, CheckpointPick pick) {
  if (job.empty()) out["checkpoint"] = checkpoint;
  else out.update({{"job", job}, {"pick", CheckpointPickName(pick)}});
}

// "conv1_1", ["conv1_1", "fc6"], "all" or "vgg-first4-fc3".
void ReadLayers(SpecReader& reader, std::vector<std::string>& layers) {
  const auto* value = reader.Value("layers");
  if (value == nullptr) return;
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  const auto named = [](const nlohmann::json& name) { return name.is_string() && !name.get<std::string>().empty(); };
  if (list.empty() || !std::all_of(list.begin(), list.end(), named))
    return reader.Refuse("layers", value->dump() + " is neither all, nor vgg-first4-fc3, nor a list of layer names");
  layers = list.get<std::vector<std::string>>();
  for (const char* group : {"all", "vgg-first4-fc3"})
    if (layers.size() > 1 && std::find(layers.begin(), layers.end(), group) != layers.end())
      reader.Refuse("layers", fmt::format("\"{}\" stands for a group of layers and goes alone, without other names", group));
}

}  // namespace

Result<JobSpec::InitFrom> ReadInitFrom(SpecReader reader) {
  JobSpec::InitFrom from;
  ReadSource(reader, from.job, from.checkpoint, from.pick);
  ReadLayers(reader, from.layers);
  reader.Choice("on_mismatch", {"refuse", "skip"}, from.on_mismatch);
  PLATEAU_TRY(reader.Finish());
  return from;
}

Json InitFromToJson(const JobSpec::InitFrom& from) {
  Json out = Json::object();
  AddSource(out, from.job, from.checkpoint, from.pick);
  out["layers"] = from.layers.size() == 1 ? Json(from.layers[0]) : Json(from.layers);
  out["on_mismatch"] = from.on_mismatch;
  return out;
}

Result<Evaluation> ReadEvaluation(SpecReader reader) {
  Evaluation out;
  ReadSource(reader, out.job, out.checkpoint, out.pick);
  reader.Text("store", out.store, true);
  reader.Text("split", out.split);
  if (const auto* scales = reader.Value("scales")) {
    const auto list = scales->is_array() ? *scales : nlohmann::json::array({*scales});
    out.scales.clear();
    for (const auto& scale : list) {
      if (!scale.is_number_integer() || scale < 1 || scale > 16384)
        reader.Refuse("scales", scales->dump() + " is not a list of whole numbers from 1 to 16384");
      else
        out.scales.push_back(scale);
    }
    std::sort(out.scales.begin(), out.scales.end());
    const bool twice = std::adjacent_find(out.scales.begin(), out.scales.end()) != out.scales.end();
    if (list.empty() || twice) reader.Refuse("scales", scales->dump() + (twice ? " holds a scale twice" : " holds no scale"));
  }
  std::string mode = "dense";
  reader.Choice("mode", {"dense", "multicrop", "both", "center"}, mode);
  out.mode = *ParseEvaluationMode(mode, "mode");
  reader.Boolean("flip", out.flip);
  reader.Boolean("posteriors", out.posteriors);
  reader.Boolean("per_class", out.per_class);
  if (const auto* batch = reader.Value("batch"); batch != nullptr && *batch != "auto") reader.Integer("batch", 1, 65536, out.batch);
  ReadPrecision(reader, out.precision);
  PLATEAU_TRY(reader.Finish());
  out.store = Absolute(out.store);
  return out;
}

Json EvaluationToJson(const Evaluation& e) {
  Json out = Json::object();
  AddSource(out, e.job, e.checkpoint, e.pick);
  out.update({{"store", e.store},
              {"split", e.split},
              {"scales", e.scales},
              {"mode", EvaluationModeName(e.mode)},
              {"flip", e.flip},
              {"posteriors", e.posteriors},
              {"per_class", e.per_class},
              {"batch", e.batch > 0 ? Json(e.batch) : Json("auto")},
              {"precision", PrecisionText(e.precision)}});
  return out;
}

Result<std::vector<Dependency>> ReadDependencies(SpecReader& root) {
  std::vector<Dependency> out;
  const auto* list = root.Value("depends_on");
  if (list == nullptr) return out;
  if (!list->is_array()) root.Refuse("depends_on", list->dump() + " is not a list; write [{job: NAME, condition: completed}] or [NAME]");
  for (size_t i = 0; list->is_array() && i < list->size(); ++i) {
    const nlohmann::json& item = (*list)[i];
    const nlohmann::json section = item.is_string() ? nlohmann::json{{"job", item}} : item;
    SpecReader reader(&section, root.where(), fmt::format("depends_on[{}]", i));
    Dependency dependency;
    std::string condition = "completed";
    reader.Text("job", dependency.job, true);
    reader.Choice("condition", {"completed", "ended", "failed"}, condition);
    if (condition == "ended") dependency.condition = DependencyCondition::kEnded;
    if (condition == "failed") dependency.condition = DependencyCondition::kFailed;
    for (const auto& other : out)
      if (other.job == dependency.job) reader.Refuse("job", "\"" + other.job + "\" stands twice in depends_on");
    PLATEAU_TRY(reader.Finish());
    out.push_back(dependency);
  }
  PLATEAU_TRY(root.Finish());
  return out;
}

Json DependenciesToJson(const std::vector<Dependency>& dependencies) {
  Json out = Json::array();
  for (const auto& one : dependencies) out.push_back({{"job", one.job}, {"condition", DependencyConditionName(one.condition)}});
  return out;
}

}  // namespace plateau
