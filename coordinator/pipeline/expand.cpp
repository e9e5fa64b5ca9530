// Defaults, overrides, scaling and references of a pipeline's jobs.
#include "coordinator/pipeline/expand.h"

#include <algorithm>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "common/spec_reader.h"
#include "common/text.h"
#include "coordinator/pipeline/scale.h"

namespace plateau {
namespace {

using nlohmann::json;

constexpr size_t kMostJobs = 1'000;
constexpr size_t kLongestName = 40;
const std::vector<const char*> kTrainSections{"model", "data", "training", "lr", "validation", "checkpoint"};
const std::vector<const char*> kSharedSections{"resources", "fault", "reproducibility"};

// Fields of `over` win; sections are merged.
void Merge(json& into, const json& over) {
  if (!into.is_object() || !over.is_object()) {
    into = over;
    return;
  }
  for (const auto& [key, value] : over.items()) {
    if (into.contains(key)) Merge(into[key], value);
    else into[key] = value;
  }
}

Status CheckAbsolute(const json& spec, const std::string& where) {
  static const std::vector<std::vector<std::string>> kPaths{
      {"output"}, {"data", "store"}, {"evaluate", "store"}, {"evaluate", "checkpoint"}, {"model", "init_from", "checkpoint"}};
  for (const auto& path : kPaths) {
    const json* at = &spec;
    for (const auto& part : path) at = at != nullptr && at->is_object() && at->contains(part) ? &at->at(part) : nullptr;
    if (at == nullptr || !at->is_string() || at->get<std::string>().starts_with("/")) continue;
    return Fail(ErrorCode::kInvalidInput, "{}: {}: \"{}\" is not an absolute path; give one that begins with / and means the same on every node",
                where, fmt::format("{}", fmt::join(path, ".")), at->get<std::string>());
  }
  return {};
}

Status CheckName(const std::string& name, const std::string& where, const char* what) {
  const bool plain = !name.empty() && name.size() <= kLongestName && name[0] != '-' &&
                     name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == std::string::npos;
  if (plain) return {};
  return Fail(ErrorCode::kInvalidInput, "{}: \"{}\" is no name of a {}: use letters, digits, '_' and '-' (at most {}, not beginning with '-')",
              where, name, what, kLongestName);
}

// {table: 3, row: [D, "256", "256"]}, {baseline: true}, or a list of such.
Status CheckReport(const json& report, const std::string& where) {
  if (report.is_null()) return {};
  const json list = report.is_array() ? report : json::array({report});
  for (const json& one : list) {
    SpecReader reader(&one, where, "report");
    std::optional<int64_t> table;
    bool baseline = false;
    reader.Integer64("table", 3, 7, table);
    reader.Boolean("baseline", baseline);
    const json* row = reader.Value("row");
    if (table.has_value() != (row != nullptr)) reader.Refuse("row", "table and row go together: {table: 3, row: [D, \"256\", \"256\"]}");
    if (row != nullptr && !row->is_string() && !row->is_array()) reader.Refuse("row", row->dump() + " is neither a text nor a list of texts");
    if (!table && !baseline) reader.Refuse("table", "missing; give table and row, or baseline: true");
    PLATEAU_TRY(reader.Finish());
  }
  return {};
}

// Everything that Expand carries from step to step.
struct Expansion {
  const json& document;
  const std::string& where;
  bool force;
  PipelinePlan plan;
  std::vector<std::string> names;  // of all jobs

  std::string Where(const std::string& job) const { return where + ": jobs." + job; }
};

// The specification of a job as a document: defaults, its own fields, scaled.
Result<json> Merged(const Expansion& e, const std::string& name, const json& entry) {
  SpecReader reader(&entry, e.Where(name), "");
  std::string kind = "train";
  reader.Choice("kind", {"train", "evaluate"}, kind);
  json spec{{"version", 1}, {"kind", kind}, {"name", name}, {"output", e.plan.output}};
  std::vector<const char*> sections = kSharedSections;
  if (kind == "train") sections.insert(sections.end(), kTrainSections.begin(), kTrainSections.end());
  else sections.push_back("evaluate");
  for (const char* section : sections) {
    json merged = e.document.value(section, json::object());
    if (const json* own = reader.Value(section)) Merge(merged, *own);
    if (!merged.is_object() || !merged.empty()) spec[section] = std::move(merged);
  }
  if (const json* depends_on = reader.Value("depends_on")) spec["depends_on"] = *depends_on;
  const json* report = reader.Value("report");
  PLATEAU_TRY(reader.Finish());
  PLATEAU_TRY(CheckReport(report == nullptr ? json() : *report, e.Where(name)));
  if (kind == "evaluate" && spec.contains("evaluate") && spec["evaluate"].is_object() && !spec["evaluate"].contains("store")) {
    const json data = e.document.value("data", json::object());
    if (data.is_object() && data.contains("store")) spec["evaluate"]["store"] = data.at("store");
  }
  if (e.plan.scale_factor != 1) ScaleSizes(spec, e.plan.scale_factor);
  PLATEAU_TRY(CheckAbsolute(spec, e.Where(name)));
  return spec;
}

Status ReadJobs(Expansion& e, const json* jobs) {
  if (jobs == nullptr || !jobs->is_object() || jobs->empty())
    return Fail(ErrorCode::kInvalidInput, "{}: jobs: {}; write a section with an entry for each job: jobs: {{a: {{model: ...}}, b: ...}}", e.where,
                jobs == nullptr ? "missing" : "is not a section of jobs");
  if (jobs->size() > kMostJobs)
    return Fail(ErrorCode::kInvalidInput, "{}: jobs: {} jobs are more than {}; cut the pipeline in two", e.where, jobs->size(), kMostJobs);
  for (const auto& [name, entry] : jobs->items()) {
    PLATEAU_TRY(CheckName(name, e.where + ": jobs", "job"));
    e.names.push_back(name);
    PLATEAU_ASSIGN(const json spec, Merged(e, name, entry));
    PLATEAU_ASSIGN(JobSpec parsed, ParseJobSpecJson(spec, e.Where(name), e.force));
    const json report = entry.is_object() ? entry.value("report", json()) : json();
    e.plan.jobs.push_back({name, std::move(parsed), report.dump()});
  }
  return {};
}

Status UnknownName(const Expansion& e, const std::string& where, const std::string& field, const std::string& name) {
  const std::string nearest = NearestName(name, e.names);
  return Fail(ErrorCode::kInvalidInput, "{}: {}: there is no job \"{}\" in this pipeline{}", where, field, name,
              nearest.empty() ? "; it has " + JoinNames(e.names) : ", did you mean \"" + nearest + "\"?");
}

bool IsBaseline(const std::string& report_text) {
  const json report = json::parse(report_text);
  const json list = report.is_array() ? report : json::array({report});
  return std::any_of(list.begin(), list.end(), [](const json& one) { return one.is_object() && one.value("baseline", false); });
}

// Checkpoints come from trainings, and speed-up is measured against a training by one worker.
Status CheckKinds(const Expansion& e) {
  const auto tests = [&](const std::string& name) {
    return std::any_of(e.plan.jobs.begin(), e.plan.jobs.end(),
                       [&](const auto& job) { return job.name == name && job.spec.kind != "train"; });
  };
  for (const auto& job : e.plan.jobs) {
    const auto& from = job.spec.model.init_from;
    if (from && tests(from->job))
      return Fail(ErrorCode::kInvalidInput, "{}: model.init_from.job: {} is an evaluation and has no checkpoint; name a training",
                  e.Where(job.name), from->job);
    if (tests(job.spec.evaluate.job))
      return Fail(ErrorCode::kInvalidInput, "{}: evaluate.job: {} is an evaluation and has no checkpoint; name the training that it tests",
                  e.Where(job.name), job.spec.evaluate.job);
    if (IsBaseline(job.report) && (job.spec.kind != "train" || job.spec.resources.workers != 1))
      return Fail(ErrorCode::kInvalidInput, "{}: report.baseline: a baseline of speed is a training by one worker; set resources.workers to 1",
                  e.Where(job.name));
  }
  return {};
}

Status CheckReferences(const Expansion& e) {
  const auto known = [&](const std::string& name) { return std::find(e.names.begin(), e.names.end(), name) != e.names.end(); };
  for (const auto& job : e.plan.jobs) {
    const auto& from = job.spec.model.init_from;
    if (from && !from->job.empty() && !known(from->job)) return UnknownName(e, e.Where(job.name), "model.init_from.job", from->job);
    if (!job.spec.evaluate.job.empty() && !known(job.spec.evaluate.job))
      return UnknownName(e, e.Where(job.name), "evaluate.job", job.spec.evaluate.job);
    for (const auto& one : job.spec.depends_on)
      if (!known(one.job)) return UnknownName(e, e.Where(job.name), "depends_on", one.job);
  }
  return CheckKinds(e);
}

// Puts the jobs into an order in which each stands behind those it depends on; a circle is an error that names it.
Status Order(Expansion& e) {
  std::map<std::string, PipelinePlan::Member> left;
  for (auto& job : e.plan.jobs) left.emplace(job.name, std::move(job));
  e.plan.jobs.clear();
  std::set<std::string> placed;
  const auto missing = [&](const PipelinePlan::Member& job) -> std::string {
    for (const auto& one : AllDependencies(job.spec))
      if (!placed.contains(one.job)) return one.job;
    return {};
  };
  while (!left.empty()) {
    const auto next = std::find_if(left.begin(), left.end(), [&](const auto& one) { return missing(one.second).empty(); });
    if (next != left.end()) {
      placed.insert(next->first);
      e.plan.jobs.push_back(std::move(left.extract(next).mapped()));
      continue;
    }
    std::vector<std::string> path{left.begin()->first};
    while (std::count(path.begin(), path.end(), path.back()) < 2) path.push_back(missing(left.at(path.back())));
    path.erase(path.begin(), std::find(path.begin(), path.end(), path.back()));
    return Fail(ErrorCode::kInvalidInput, "{}: depends_on: it waits for itself: {}; take one of these dependencies out", e.Where(path.front()),
                fmt::join(path, " -> "));
  }
  return {};
}

Status ReadFusions(Expansion& e, const json* fusions) {
  if (fusions == nullptr) return {};
  if (!fusions->is_object()) return Fail(ErrorCode::kInvalidInput, "{}: fusions: is not a section; write fusions: {{NAME: {{of: [...]}}}}", e.where);
  for (const auto& [name, entry] : fusions->items()) {
    const std::string where = e.where + ": fusions." + name;
    PLATEAU_TRY(CheckName(name, e.where + ": fusions", "fusion"));
    SpecReader reader(&entry, where, "");
    const json* of = reader.Value("of");
    const json* report = reader.Value("report");
    const auto text = [](const json& one) { return one.is_string(); };
    if (of == nullptr || !of->is_array() || of->size() < 2 || !std::all_of(of->begin(), of->end(), text))
      reader.Refuse("of", "give a list of at least two evaluations");
    PLATEAU_TRY(reader.Finish());
    PLATEAU_TRY(CheckReport(report == nullptr ? json() : *report, where));
    Fusion fusion{name, of->get<std::vector<std::string>>(), (report == nullptr ? json() : *report).dump()};
    for (const auto& one : fusion.of) {
      if (std::count(fusion.of.begin(), fusion.of.end(), one) > 1)
        return Fail(ErrorCode::kInvalidInput, "{}: of: \"{}\" stands twice; name each evaluation once, all count alike", where, one);
      const auto job = std::find_if(e.plan.jobs.begin(), e.plan.jobs.end(), [&](const auto& candidate) { return candidate.name == one; });
      if (job == e.plan.jobs.end()) return UnknownName(e, where, "of", one);
      if (!job->spec.evaluate.posteriors)
        return Fail(ErrorCode::kInvalidInput, "{}: of: {} keeps no posteriors; only an evaluation with posteriors: true can be averaged", where, one);
    }
    e.plan.fusions.push_back(std::move(fusion));
  }
  return {};
}

}  // namespace

Result<PipelinePlan> ExpandPipeline(const json& document, const std::string& where, bool force) {
  Expansion e{document, where, force, {}, {}};
  SpecReader root(&document, where, "");
  int version = 1;
  std::string kind;
  root.Integer("version", 1, 1, version, true);
  root.Choice("kind", {"pipeline"}, kind);
  root.Text("name", e.plan.name, true);
  root.Text("output", e.plan.output, true);
  const json* factor = root.Value("scale_factor");
  for (const auto* list : {&kTrainSections, &kSharedSections})
    for (const char* section : *list) root.Value(section);
  root.Value("evaluate");
  const json* jobs = root.Value("jobs");
  const json* fusions = root.Value("fusions");
  PLATEAU_TRY(root.Finish());
  PLATEAU_TRY(CheckName(e.plan.name, where + ": name", "pipeline"));
  PLATEAU_ASSIGN(e.plan.scale_factor, ReadFactor(factor, where));
  PLATEAU_TRY(ReadJobs(e, jobs));
  PLATEAU_TRY(CheckReferences(e));
  PLATEAU_TRY(Order(e));
  PLATEAU_TRY(ReadFusions(e, fusions));
  e.plan.output = e.plan.jobs.front().spec.output;  // normalised
  e.plan.document = document.dump();
  return std::move(e.plan);
}

}  // namespace plateau
