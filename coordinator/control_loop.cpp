// Events in, records to the store, actions out.
#include "coordinator/control_loop.h"

#include <algorithm>
#include <chrono>

#include "common/log.h"

namespace plateau {
namespace {

JobEvent EventOf(JobCommand command) {
  switch (command) {
    case JobCommand::kResume: return ResumeRequested{};
    case JobCommand::kCheckpoint: return CheckpointRequested{};
    case JobCommand::kPause: return StopRequested{StopTarget::kPause};
    case JobCommand::kCancel: break;
  }
  return StopRequested{StopTarget::kCancel};
}

}  // namespace

ControlLoop::ControlLoop(ControlLoopOptions options, Store& store, FileSystem& files, const Clock& clock)
    : options_(std::move(options)), store_(store), files_(files), clock_(clock), registry_(options_.registry) {}

Status ControlLoop::Recover(ControlLoopHands hands, std::string link_endpoint, std::string remote_link_endpoint) {
  hands_ = hands;
  options_.link_endpoint = std::move(link_endpoint);
  options_.remote_link_endpoint = std::move(remote_link_endpoint);
  PLATEAU_TRY(RecoverNodes());
  PLATEAU_TRY(RecoverPipelines());
  PLATEAU_ASSIGN(auto jobs, store_.LoadJobs());
  SortAsSubmitted(jobs);
  for (auto& job : jobs) {
    order_.push_back(job.id);
    Show(std::make_shared<const Job>(std::move(job)));
  }
  for (const auto& id : order_) {
    const auto job = Find(id);
    const bool running = HasProcesses(job->state);
    if (running && !job->Current()->external && hands_.launcher != nullptr) {  // first, so that a kill decided by the recovery finds it
      const int attempt = job->Current()->number;
      hands_.launcher->Adopt(id, attempt, AttemptFolder(id, attempt));
    }
    if (running || job->publish_pending || !job->removals_pending.empty()) PLATEAU_TRY(Apply(id, Recovered{}, Now()));
  }
  return {};
}

void ControlLoop::Run() {
  Turn();  // what recovery left due, waiting jobs above all, has no event of its own
  for (;;) {
    WaitForWork();
    {
      const std::lock_guard lock(queue_mutex_);
      if (stopping_) return;
    }
    Turn();
  }
}

void ControlLoop::Stop() {
  {
    const std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  queue_ready_.notify_all();
}

void ControlLoop::Turn() {
  const int64_t taken_ms = clock_.MonotonicMs();
  HandleAll(Take());
  FireTimers(taken_ms);
  ProbeNodes();
  Schedule();
  HandleAll({});
}

void ControlLoop::WaitForWork() {
  const auto wake_ms = NextWakeMs();
  std::unique_lock lock(queue_mutex_);
  const auto ready = [this] { return stopping_ || !queue_.empty(); };
  if (!wake_ms) return queue_ready_.wait(lock, ready);
  const int64_t wait_ms = std::max<int64_t>(0, *wake_ms - clock_.MonotonicMs());
  queue_ready_.wait_for(lock, std::chrono::milliseconds(wait_ms), ready);
}

std::optional<int64_t> ControlLoop::NextWakeMs() const {
  std::optional<int64_t> next;
  const auto consider = [&next](int64_t at_ms) { next = next ? std::min(*next, at_ms) : at_ms; };
  for (const auto& [id, job] : jobs_) {
    const auto retry = timer_retries_.find(id);
    const int64_t not_before_ms = retry == timer_retries_.end() ? 0 : retry->second;
    if (const auto at_ms = NextDeadline(*job, options_.limits)) consider(std::max(*at_ms, not_before_ms));
  }
  for (const auto& [at_ms, news] : retries_) consider(at_ms);
  if (schedule_again_ms_ > 0) consider(schedule_again_ms_);
  if (const auto at_ms = registry_.NextProbeMs()) consider(*at_ms);
  return next;
}

void ControlLoop::Push(Item item) {
  {
    const std::lock_guard lock(queue_mutex_);
    queue_.push_back({std::move(item), clock_.MonotonicMs()});
  }
  queue_ready_.notify_one();
}

bool ControlLoop::Post(LinkMessage message) {
  {
    const std::lock_guard lock(queue_mutex_);
    if (queue_.size() >= kMaxQueued) return false;
  }
  Push(std::move(message));
  return true;
}

void ControlLoop::Post(const ExitNotice& notice) {
  if (!notice.launched) return Post(notice.job, LaunchFailed{notice.attempt, notice.message});
  Post(notice.job, AttemptExited{notice.attempt, notice.exit_code, notice.signal, notice.message});
}

void ControlLoop::Post(const std::string& job, JobEvent event) { Push(JobNews{job, std::move(event)}); }

std::deque<ControlLoop::Queued> ControlLoop::Take() {
  const std::lock_guard lock(queue_mutex_);
  return std::exchange(queue_, {});
}

void ControlLoop::HandleAll(std::deque<Queued> items) {
  const auto follow = [this] {
    while (!follow_ups_.empty()) {
      JobNews news = std::move(follow_ups_.front());
      follow_ups_.pop_front();
      Handle(news);
    }
  };
  follow();
  for (auto& queued : items) {
    std::visit([this](auto& one) { Handle(one); }, queued.item);
    follow();
  }
}

void ControlLoop::Handle(LinkMessage& message) {
  const Peer peer{message.identity, message.sender.request};
  if (const auto* run = std::get_if<Register>(&message.message)) {
    const auto registered = RegisterRun(message, *run, peer);
    if (!registered) LogWarning("a run on {} was not registered: {}", message.sender.host, registered.error().message);
    if (!registered && hands_.link != nullptr)
      hands_.link->Reply(peer.identity, peer.request, Refused{registered.error().message});
    return;
  }
  if (Find(message.sender.job) == nullptr) {
    if (hands_.link != nullptr)
      hands_.link->Reply(peer.identity, peer.request,
                         Refused{fmt::format("job {} is not known to this coordinator", message.sender.job)});
    return;
  }
  if (const auto* report = std::get_if<CheckpointReport>(&message.message))
    checkpoint_askers_[{message.sender.job, report->path}] = peer;
  const std::string job = message.sender.job;
  const WorkerSaid said{std::move(message.sender), std::move(message.message)};
  // An error leaves the message unanswered: the worker asks again.
  if (auto applied = Apply(job, said, {clock_.NowMs(), message.heard_ms}, &peer); !applied)
    LogError("job {}: {}", job, applied.error().message);
}

void ControlLoop::Handle(JobNews& news) {
  if (std::holds_alternative<AttemptExited>(news.event))
    std::erase_if(checkpoint_askers_, [&](const auto& one) { return one.first.first == news.job; });
  ApplyOrRetry(news.job, news.event);
}

void ControlLoop::ApplyOrRetry(const std::string& id, const JobEvent& event) {
  if (Find(id) == nullptr) return;
  auto applied = Apply(id, event, Now());
  if (applied) return;
  LogError("job {}: {}; tried again in {} ms", id, applied.error().message, kStoreRetryMs);
  retries_.emplace_back(clock_.MonotonicMs() + kStoreRetryMs, JobNews{id, event});
}

void ControlLoop::Handle(CommandRequest& request) {
  if (Find(request.job) == nullptr) return request.answer(Fail(ErrorCode::kNotFound, "there is no job {}", request.job));
  auto applied = Apply(request.job, EventOf(request.command), Now());
  if (!applied) return request.answer(Fail(std::move(applied.error())));
  request.answer(Find(request.job));
}

// As of the moment when the queue was taken: what came while it was worked off (a disk may be slow) has not been heard yet, and a
// rank must not count as silent for it.
void ControlLoop::FireTimers(int64_t now_ms) {
  const auto due = std::partition(retries_.begin(), retries_.end(), [now_ms](const auto& one) { return one.first > now_ms; });
  std::vector<std::pair<int64_t, JobNews>> ready(std::make_move_iterator(due), std::make_move_iterator(retries_.end()));
  retries_.erase(due, retries_.end());
  for (auto& [at_ms, news] : ready) ApplyOrRetry(news.job, news.event);
  for (const auto& job : All()) {
    const auto deadline_ms = NextDeadline(*job, options_.limits);
    if (!deadline_ms || *deadline_ms > now_ms) continue;
    if (const auto retry = timer_retries_.find(job->id); retry != timer_retries_.end() && retry->second > now_ms) continue;
    timer_retries_.erase(job->id);
    auto applied = Apply(job->id, TimerFired{}, {clock_.NowMs(), now_ms});
    if (applied) continue;
    LogError("job {}: {}; tried again in {} ms", job->id, applied.error().message, kStoreRetryMs);
    timer_retries_[job->id] = now_ms + kStoreRetryMs;
  }
}

Status ControlLoop::Apply(const std::string& id, const JobEvent& event, Moment now, const Peer* peer,
                          const IdempotencyRecord* key) {
  const auto before = Find(id);
  Job input;
  if (before != nullptr) {
    input = *before;
  }
  Outcome outcome = Advance(std::move(input), event, now, options_.limits);
  if (!outcome.refusal.empty()) return Fail(ErrorCode::kConflict, "{}", outcome.refusal);
  if (outcome.durable || outcome.point || key != nullptr) {
    Commit commit{&outcome.job, outcome.events, outcome.validation.get(), outcome.point ? &*outcome.point : nullptr,
                  key,          outcome.durable};
    PLATEAU_TRY(store_.Write(commit));
  }
  for (const auto& row : outcome.events) LogInfo("job {}: {}: {}", id, row.type, row.message);
  const auto shown = std::make_shared<const Job>(std::move(outcome.job));
  Show(shown);
  if (!outcome.events.empty() && notice_) notice_(id);
  for (const auto& action : outcome.actions) Act(*shown, action, peer);
  return {};
}

void ControlLoop::Show(std::shared_ptr<const Job> job) {
  const std::lock_guard lock(jobs_mutex_);
  jobs_[job->id] = std::move(job);
}

std::shared_ptr<const Job> ControlLoop::Find(const std::string& id) const {
  const std::lock_guard lock(jobs_mutex_);
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<const Job>> ControlLoop::All() const {
  const std::lock_guard lock(jobs_mutex_);
  std::vector<std::shared_ptr<const Job>> all;
  for (auto it = order_.rbegin(); it != order_.rend(); ++it) all.push_back(jobs_.at(*it));
  return all;
}

void ControlLoop::Submit(Submission submission, std::function<void(Result<SubmissionAnswer>)> answer) {
  Push(SubmitRequest{std::move(submission), std::move(answer)});
}

void ControlLoop::Command(const std::string& id, JobCommand command,
                          std::function<void(Result<std::shared_ptr<const Job>>)> answer) {
  Push(CommandRequest{id, command, std::move(answer)});
}

Result<std::vector<std::string>> ControlLoop::Events(const std::string& id, int64_t after, size_t limit) const {
  return store_.Events(id, after, limit);
}

Result<std::vector<std::string>> ControlLoop::Points(const std::string& id, int64_t after_step) const {
  return store_.Points(id, after_step);
}

std::string ControlLoop::AttemptFolder(const std::string& id, int attempt) const {
  return fmt::format("{}/jobs/{}/attempt-{}", options_.state_folder, id, attempt);
}

std::string ControlLoop::LogFolder(const std::string& id, int attempt) const { return AttemptFolder(id, attempt) + "/logs"; }

Health ControlLoop::CheckHealth() const {
  Health health;
  for (const auto& job : All()) {
    health.jobs += 1;
    health.running += HasProcesses(job->state) ? 1 : 0;
    health.queued += job->state == JobState::kQueued ? 1 : 0;
  }
  const std::lock_guard lock(queue_mutex_);
  if (!queue_.empty()) health.oldest_event_s = static_cast<double>(clock_.MonotonicMs() - queue_.front().posted_ms) / 1000.0;
  health.ok = health.oldest_event_s < 10;
  return health;
}

}  // namespace plateau
