// Pipelines in the control loop: one submission, many jobs, stored together; and the jobs that wait for others.
#include <algorithm>

#include "common/log.h"
#include "common/text.h"
#include "coordinator/control_loop.h"

namespace plateau {

Status ControlLoop::RecoverPipelines() {
  PLATEAU_ASSIGN(const auto rows, store_.Rows("pipeline/", "pipeline/", SIZE_MAX));
  std::vector<std::shared_ptr<const Pipeline>> loaded;
  for (const auto& row : rows) {
    PLATEAU_ASSIGN(Pipeline pipeline, ParsePipelineRecord(row.value));
    loaded.push_back(std::make_shared<const Pipeline>(std::move(pipeline)));
  }
  std::stable_sort(loaded.begin(), loaded.end(), [](const auto& a, const auto& b) { return a->created_ms < b->created_ms; });
  const std::lock_guard lock(jobs_mutex_);
  pipelines_ = std::move(loaded);
  return {};
}

// By creation; jobs of one pipeline, which are of one moment, in its order.
void ControlLoop::SortAsSubmitted(std::vector<Job>& jobs) const {
  std::map<std::string, size_t> places;
  for (const auto& pipeline : pipelines_)
    for (const auto& member : pipeline->jobs) places.emplace(member.id, places.size());
  const auto place = [&places](const Job& job) {
    const auto found = places.find(job.id);
    return found == places.end() ? 0 : found->second;
  };
  std::stable_sort(jobs.begin(), jobs.end(), [&](const Job& a, const Job& b) {
    return std::make_pair(a.created_ms, place(a)) < std::make_pair(b.created_ms, place(b));
  });
}

// "<name>-<n>", past every pipeline and every folder of that name, so that the ids of its jobs are free too.
Result<std::string> ControlLoop::ClaimPipelineId(const PipelinePlan& plan) {
  if (const auto made = files_.MakeDirectories(plan.output); !made) {
    return Fail(ErrorCode::kInvalidInput, "request body: output: {}; choose a folder that the coordinator and the workers can write",
                made.error().message);
  }
  for (int number = 1;; ++number) {
    const std::string id = fmt::format("{}-{}", plan.name, number);
    const auto taken = [&](const auto& job) {
      const std::string full = id + "." + job.name;
      return Find(full) != nullptr || files_.Exists(plan.output + "/" + full);
    };
    if (FindPipeline(id) || std::any_of(plan.jobs.begin(), plan.jobs.end(), taken)) continue;
    for (const auto& job : plan.jobs) PLATEAU_TRY(files_.MakeDirectories(plan.output + "/" + id + "." + job.name));
    return id;
  }
}

Result<PipelineView> ControlLoop::AddPipeline(const PipelineSubmission& submission) {
  PLATEAU_ASSIGN(const std::string id, ClaimPipelineId(*submission.plan));
  const Moment now = Now();
  PipelineInstance instance = Instantiate(*submission.plan, id, now.unix_ms);
  std::vector<Outcome> outcomes;
  for (const auto& spec : instance.specs) {
    Job job;
    job.id = spec->name;
    job.spec = spec;
    job.pipeline = id;
    outcomes.push_back(Advance(std::move(job), Submitted{}, now, options_.limits));
  }
  const IdempotencyRecord key{submission.idempotency_key, id, submission.body_digest};
  std::vector<Commit> commits;
  for (const auto& outcome : outcomes) commits.push_back({.job = &outcome.job, .events = outcome.events});
  if (!key.key.empty()) commits.front().idempotency = &key;
  const StoreRow row{"pipeline/" + id, PipelineRecordText(instance.pipeline)};
  PLATEAU_TRY(store_.WriteAll(commits, std::span(&row, 1)));
  LogInfo("pipeline {}: submitted with {} jobs", id, outcomes.size());
  {
    const std::lock_guard lock(jobs_mutex_);
    pipelines_.push_back(std::make_shared<const Pipeline>(std::move(instance.pipeline)));
    for (auto& outcome : outcomes) {
      const auto job = std::make_shared<const Job>(std::move(outcome.job));
      order_.push_back(job->id);
      jobs_[job->id] = job;
    }
  }
  if (notice_)
    for (const auto& spec : instance.specs) notice_(spec->name);
  return *FindPipeline(id);
}

void ControlLoop::Handle(PipelineRequest& request) {
  const PipelineSubmission& submission = request.submission;
  if (submission.plan == nullptr) return HandleCommand(request);
  const auto first = FirstOf(submission.idempotency_key, submission.body_digest);
  if (!first) return request.answer(Fail(first.error()));
  if (auto known = FindPipeline(*first); known) {
    known->repeated = true;
    return request.answer(std::move(*known));
  }
  request.answer(AddPipeline(submission));
}

void ControlLoop::HandleCommand(PipelineRequest& request) {
  auto found = FindPipeline(request.id);
  if (!found) return request.answer(Fail(ErrorCode::kNotFound, "there is no pipeline {}", request.id));
  const bool cancel = request.command == JobCommand::kCancel;
  int done = 0;
  // Backwards, so that none starts because those before it have gone.
  for (auto job = found->jobs.rbegin(); job != found->jobs.rend(); ++job) {
    const JobState state = (*job)->state;
    if (!cancel && IsNotNeeded(**job)) continue;
    if (cancel ? IsEnded(state) : state != JobState::kFailed && state != JobState::kCancelled && state != JobState::kPaused) continue;
    const JobEvent event = cancel ? JobEvent(StopRequested{StopTarget::kCancel}) : JobEvent(ResumeRequested{});
    if (const auto applied = Apply((*job)->id, event, Now()); !applied) return request.answer(Fail(applied.error()));
    ++done;
  }
  if (done == 0)
    return request.answer(Fail(ErrorCode::kConflict, "pipeline {} is {}; it has no job to {}", request.id, PipelineStateName(found->jobs),
                               cancel ? "cancel" : "resume"));
  request.answer(*FindPipeline(request.id));
}

void ControlLoop::SubmitPipeline(PipelineSubmission submission, PipelineService::Answer answer) {
  Push(PipelineRequest{{}, JobCommand::kCancel, std::move(submission), std::move(answer)});
}

void ControlLoop::CommandPipeline(const std::string& id, JobCommand command, PipelineService::Answer answer) {
  Push(PipelineRequest{id, command, {}, std::move(answer)});
}

std::optional<PipelineView> ControlLoop::FindPipeline(const std::string& id) const {
  const std::lock_guard lock(jobs_mutex_);
  for (const auto& pipeline : pipelines_)
    if (pipeline->id == id) return ViewOf(pipeline);
  return std::nullopt;
}

std::vector<PipelineView> ControlLoop::AllPipelines() const {
  const std::lock_guard lock(jobs_mutex_);
  std::vector<PipelineView> all;
  for (auto it = pipelines_.rbegin(); it != pipelines_.rend(); ++it) all.push_back(ViewOf(*it));
  return all;
}

// With jobs_mutex_ held.
PipelineView ControlLoop::ViewOf(const std::shared_ptr<const Pipeline>& pipeline) const {
  PipelineView view{pipeline, {}, false};
  for (const auto& member : pipeline->jobs)
    if (const auto found = jobs_.find(member.id); found != jobs_.end()) view.jobs.push_back(found->second);
  return view;
}

// Unknown jobs are refused when a job is submitted, not when it would start.
Status ControlLoop::CheckDependencies(const JobSpec& spec) const {
  std::vector<std::string> ids;
  for (const auto& dependency : AllDependencies(spec)) {
    if (Find(dependency.job) != nullptr) continue;
    if (ids.empty())
      for (const auto& job : All()) ids.push_back(job->id);
    const bool warm = spec.model.init_from && spec.model.init_from->job == dependency.job;
    const char* field = warm ? "model.init_from.job" : spec.evaluate.job == dependency.job ? "evaluate.job" : "depends_on";
    const std::string nearest = NearestName(dependency.job, ids);
    return Fail(ErrorCode::kInvalidInput, "request body: {}: there is no job \"{}\"{}; `plateau jobs` lists the ids", field, dependency.job,
                nearest.empty() ? "" : ", did you mean \"" + nearest + "\"?");
  }
  return {};
}

JobLookup ControlLoop::Lookup() const {
  return [this](const std::string& id) -> const Job* {  // the loop's thread alone replaces jobs
    const auto found = jobs_.find(id);
    return found == jobs_.end() ? nullptr : found->second.get();
  };
}

// Whether that changed the job.
bool ControlLoop::JudgeOne(const std::string& id) {
  const auto job = Find(id);
  if (job->state != JobState::kQueued && job->state != JobState::kHeld) return false;
  if (!job->attempts.empty() || AllDependencies(*job->spec).empty()) return false;  // once started, the others' ends were seen
  const DependencyVerdict verdict = JudgeDependencies(*job->spec, Lookup());
  const bool known = verdict.readiness == Readiness::kReady ? !IsDependencyReason(job->reason)
                                                            : job->reason == verdict.reason && job->message == verdict.message;
  if (known) return false;
  const auto applied = Apply(id, DependenciesJudged{verdict}, Now());
  if (applied) return true;
  LogError("job {}: {}", id, applied.error().message);
  schedule_again_ms_ = clock_.MonotonicMs() + kStoreRetryMs;
  return false;
}

// What is held holds its dependants: each pass may lead to another, as many as the longest chain has jobs.
void ControlLoop::JudgeWaiting() {
  for (bool changed = true; changed;) {
    changed = false;
    for (const auto& id : order_) changed = JudgeOne(id) || changed;
  }
}

}  // namespace plateau
