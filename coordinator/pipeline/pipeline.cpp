// A pipeline's jobs under their ids, its state, and its JSON forms.
#include "coordinator/pipeline/pipeline.h"

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "common/clock.h"
#include "coordinator/job/dependencies.h"

namespace plateau {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kRecordVersion = 1;

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
Json Parsed(const std::string& text) { return Json::parse(text, nullptr, false); }

Json FusionsJson(const Pipeline& pipeline) {
  Json fusions = Json::array();
  for (const auto& one : pipeline.fusions) fusions.push_back({{"name", one.name}, {"of", one.of}, {"report", Parsed(one.report)}});
  return fusions;
}

Json MembersJson(const Pipeline& pipeline, std::span<const std::shared_ptr<const Job>> jobs) {
  Json members = Json::array();
  for (const auto& one : pipeline.jobs) {
    Json member{{"name", one.name}, {"id", one.id}, {"kind", one.kind}, {"report", Parsed(one.report)}};
    for (const auto& job : jobs)
      if (job->id == one.id)
        member.update({{"state", JobStateName(job->state)}, {"reason", job->reason}, {"message", job->message}});
    members.push_back(std::move(member));
  }
  return members;
}

bool CanStart(const Job& job) { return job.state == JobState::kQueued && !IsDependencyReason(job.reason); }
// For want of nodes, not because of another job.
bool IsTooLarge(const Job& job) { return job.state == JobState::kHeld && !IsDependencyReason(job.reason); }

}  // namespace

PipelineInstance Instantiate(const PipelinePlan& plan, const std::string& id, int64_t now_ms) {
  PipelineInstance out;
  out.pipeline = {.id = id,
                  .name = plan.name,
                  .output = plan.output,
                  .document = plan.document,
                  .scale_factor = plan.scale_factor,
                  .created_ms = now_ms};
  const auto full = [&id](const std::string& name) { return name.empty() ? name : id + "." + name; };
  for (const auto& job : plan.jobs) {
    auto spec = std::make_shared<JobSpec>(job.spec);
    spec->name = full(job.name);
    if (spec->model.init_from) spec->model.init_from->job = full(spec->model.init_from->job);
    spec->evaluate.job = full(spec->evaluate.job);
    for (auto& one : spec->depends_on) one.job = full(one.job);
    out.pipeline.jobs.push_back({job.name, spec->name, spec->kind, job.report});
    out.specs.push_back(std::move(spec));
  }
  for (Fusion fusion : plan.fusions) {
    for (auto& one : fusion.of) one = full(one);
    out.pipeline.fusions.push_back(std::move(fusion));
  }
  return out;
}

std::string PipelineStateName(std::span<const std::shared_ptr<const Job>> jobs) {
  const auto any = [&](auto holds) { return std::any_of(jobs.begin(), jobs.end(), [&](const auto& job) { return holds(*job); }); };
  const auto in = [](JobState state) { return [state](const Job& job) { return job.state == state && !IsNotNeeded(job); }; };
  if (!any([](const Job& job) { return job.state != JobState::kCompleted && !IsNotNeeded(job); })) return "COMPLETED";
  const bool begun = any([](const Job& job) { return !job.attempts.empty(); });
  if (any([](const Job& job) { return HasProcesses(job.state) || CanStart(job); })) return begun ? "RUNNING" : "QUEUED";
  // Between the end of a job and the next look at dependencies a job still waits that is to be released, or held.
  const bool failed = any(in(JobState::kFailed)) || any(in(JobState::kCancelled));
  const bool stuck = any(in(JobState::kPaused)) || (!failed && any(IsTooLarge));
  if (!stuck && any(in(JobState::kQueued))) return begun ? "RUNNING" : "QUEUED";
  for (const JobState state : {JobState::kFailed, JobState::kCancelled, JobState::kPaused, JobState::kHeld})
    if (any(in(state))) return JobStateName(state);
  return begun ? "RUNNING" : "QUEUED";
}

std::string PipelineRecordText(const Pipeline& pipeline) {
  Json members = Json::array();
  for (const auto& one : pipeline.jobs)
    members.push_back({{"name", one.name}, {"id", one.id}, {"kind", one.kind}, {"report", Parsed(one.report)}});
  return Dump({{"v", kRecordVersion},
               {"id", pipeline.id},
               {"name", pipeline.name},
               {"output", pipeline.output},
               {"scale_factor", pipeline.scale_factor},
               {"created_ms", pipeline.created_ms},
               {"jobs", members},
               {"fusions", FusionsJson(pipeline)},
               {"document", Parsed(pipeline.document)}});
}

Result<Pipeline> ParsePipelineRecord(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("v") != kRecordVersion)
      return Fail(ErrorCode::kCorrupt, "a pipeline record has version {}, this coordinator reads {}; use the coordinator that wrote this state",
                  json.at("v").dump(), kRecordVersion);
    Pipeline out{.id = json.at("id"),
                 .name = json.at("name"),
                 .output = json.at("output"),
                 .document = json.at("document").dump(),
                 .scale_factor = json.at("scale_factor"),
                 .created_ms = json.at("created_ms")};
    for (const auto& one : json.at("jobs")) out.jobs.push_back({one.at("name"), one.at("id"), one.at("kind"), one.at("report").dump()});
    for (const auto& one : json.at("fusions"))
      out.fusions.push_back({one.at("name"), one.at("of").get<std::vector<std::string>>(), one.at("report").dump()});
    return out;
  } catch (const nlohmann::json::exception& error) {
    return Fail(ErrorCode::kCorrupt, "a pipeline record in the state store cannot be read: {}", error.what());
  }
}

std::string PipelineViewText(const Pipeline& pipeline, std::span<const std::shared_ptr<const Job>> jobs, bool summary) {
  std::map<std::string, int> counts;
  int64_t ended_ms = 0;
  bool all_ended = !jobs.empty();
  for (const auto& job : jobs) {
    counts[JobStateName(job->state)] += 1;
    ended_ms = std::max(ended_ms, job->ended_ms);
    all_ended = all_ended && IsEnded(job->state);
  }
  Json out{{"id", pipeline.id},
           {"name", pipeline.name},
           {"state", PipelineStateName(jobs)},
           {"created", FormatUtc(pipeline.created_ms)},
           {"ended", all_ended ? Json(FormatUtc(ended_ms)) : Json(nullptr)},
           {"output", pipeline.output},
           {"scale_factor", pipeline.scale_factor},
           {"counts", counts}};
  if (summary) return Dump(out);
  out["jobs"] = MembersJson(pipeline, jobs);
  out["fusions"] = FusionsJson(pipeline);
  out["document"] = Parsed(pipeline.document);
  return Dump(out);
}

}  // namespace plateau
