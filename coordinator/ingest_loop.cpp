// Events in, records to the store, actions out.
#include "coordinator/ingest_loop.h"

#include <algorithm>
#include <chrono>

#include "common/log.h"
#include "coordinator/ingest_rows.h"
#include "coordinator/launch/ingest_command.h"

namespace plateau {

IngestLoop::IngestLoop(IngestLoopOptions options, Store& store, FileSystem& files, const Clock& clock)
    : options_(std::move(options)), store_(store), files_(files), clock_(clock) {}

IngestLoop::~IngestLoop() {
  Stop();
  desks_.clear();  // their last results find the queue still there
}

Status IngestLoop::Recover(IngestLoopHands hands, std::string link_endpoint) {
  hands_ = hands;
  link_endpoint_ = std::move(link_endpoint);
  PLATEAU_ASSIGN(auto datasets, LoadDatasets(store_));
  for (auto& dataset : datasets) {
    order_.push_back(dataset.id);
    Show(std::make_shared<const Dataset>(std::move(dataset)));
  }
  for (const auto& id : order_) {
    const auto dataset = FindDataset(id);
    bool alive = false;
    for (const auto& slot : dataset->slots) {
      if (!slot.alive) continue;
      alive = true;  // first, so that a kill decided by the recovery finds it
      if (hands_.launcher != nullptr)
        hands_.launcher->Adopt(IngestLaunchName(id, slot.number), slot.attempt, WorkerFolder(id, slot.number, slot.attempt));
    }
    if (alive || !IsEnded(dataset->state)) PLATEAU_TRY(Apply(id, Recovered{}, Now()));
  }
  return {};
}

void IngestLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

void IngestLoop::Stop() {
  {
    const std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  queue_ready_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void IngestLoop::Run() {
  Turn();  // what recovery left due has no event of its own
  for (;;) {
    WaitForWork();
    {
      const std::lock_guard lock(queue_mutex_);
      if (stopping_) return;
    }
    Turn();
  }
}

void IngestLoop::Turn() {
  std::deque<Item> items;
  {
    const std::lock_guard lock(queue_mutex_);
    items.swap(queue_);
  }
  for (auto& item : items) std::visit([this](auto& one) { Handle(one); }, item);
  FireTimers();
  ServeWaiters();
}

void IngestLoop::WaitForWork() {
  std::optional<int64_t> wake_ms;
  const auto consider = [&wake_ms](int64_t at_ms) { wake_ms = wake_ms ? std::min(*wake_ms, at_ms) : at_ms; };
  for (const auto& [id, dataset] : datasets_) {
    const auto retry = timer_retries_.find(id);
    const int64_t not_before_ms = retry == timer_retries_.end() ? 0 : retry->second;
    if (const auto at_ms = NextDeadline(*dataset)) consider(std::max(*at_ms, not_before_ms));
  }
  for (const auto& [at_ms, news] : retries_) consider(at_ms);
  std::unique_lock lock(queue_mutex_);
  const auto ready = [this] { return stopping_ || !queue_.empty(); };
  if (!wake_ms) return queue_ready_.wait(lock, ready);
  queue_ready_.wait_for(lock, std::chrono::milliseconds(std::max<int64_t>(0, *wake_ms - clock_.MonotonicMs())), ready);
}

void IngestLoop::Push(Item item) {
  {
    const std::lock_guard lock(queue_mutex_);
    queue_.push_back(std::move(item));
  }
  queue_ready_.notify_one();
}

bool IngestLoop::Post(IngestLinkMessage message) {
  {
    const std::lock_guard lock(queue_mutex_);
    if (queue_.size() >= kMaxQueued) return false;
  }
  Push(std::move(message));
  return true;
}

bool IngestLoop::Post(const ExitNotice& notice) {
  std::string dataset;
  int slot = 0;
  if (!ParseIngestLaunchName(notice.job, dataset, slot)) return false;
  Push(News{dataset, IngestWorkerExited{slot, notice.attempt, notice.message}});
  return true;
}

void IngestLoop::Handle(IngestLinkMessage& message) {
  const Peer peer{message.identity, message.sender.request};
  if (message.sender.token != options_.token)
    return Reply(peer,
                 IngestRefused{"the token is not this coordinator's: give the file <state>/join-token of the coordinator with --token"});
  if (std::holds_alternative<AskTask>(message.message)) {
    if (Assign(message)) return (void)waiters_.erase(message.sender.worker);
    Reply(peer, KeepWaiting{});
    if (waiters_.size() >= kMaxWaiters) return;  // it asks again
    const std::string worker = message.sender.worker;
    waiters_[worker] = {std::move(message), clock_.MonotonicMs()};
    return;
  }
  std::string id;
  int64_t lease = 0;
  std::visit(
      [&](const auto& one) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(one)>, AskTask>) id = one.dataset, lease = one.lease;
      },
      message.message);
  if (FindDataset(id) == nullptr)
    return Reply(peer, LeaseOver{lease, fmt::format("ingest {} is not known to this coordinator", id)});
  if (std::holds_alternative<ShardBuilt>(message.message)) built_askers_[{id, lease}] = peer;
  const IngestSaid said{std::move(message.sender), std::move(message.message)};
  // An error leaves the message unanswered: the worker asks again.
  if (auto applied = Apply(id, said, Now(), &peer); !applied) LogError("ingest {}: {}", id, applied.error().message);
}

bool IngestLoop::Assign(const IngestLinkMessage& message) {
  const Peer peer{message.identity, message.sender.request};
  const IngestSender& sender = message.sender;
  const bool only = !sender.dataset.empty();
  bool unfinished = std::get<AskTask>(message.message).stay && !only;
  std::vector<std::string> candidates = only ? std::vector{sender.dataset} : order_;
  for (const auto& id : candidates) {
    const auto dataset = FindDataset(id);
    if (dataset == nullptr) {
      Reply(peer, IngestRefused{fmt::format("ingest {} is not known to this coordinator", id)});
      return true;
    }
    if (!only && dataset->state > DatasetState::kRunning) continue;
    bool no_work = false;
    auto applied = Apply(id, IngestSaid{sender, message.message}, Now(), &peer, nullptr, &no_work);
    if (!applied) {
      LogError("ingest {}: {}", id, applied.error().message);
      return true;  // unanswered: it asks again
    }
    if (!no_work) return true;
    unfinished = true;
  }
  if (unfinished) return false;
  Reply(peer, NoTask{});
  return true;
}

void IngestLoop::ServeWaiters() {
  if (!std::exchange(changed_, false)) return;
  const int64_t oldest_ms = clock_.MonotonicMs() - kWaiterMs;
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();)
    waiter = waiter->second.heard_ms < oldest_ms || Assign(waiter->second.message) ? waiters_.erase(waiter) : std::next(waiter);
}

void IngestLoop::Handle(News& news) { ApplyOrRetry(news.dataset, news.event); }

void IngestLoop::Handle(DeskClosed& closed) { desks_.erase(closed.dataset); }

void IngestLoop::ApplyOrRetry(const std::string& id, const DatasetEvent& event) {
  if (FindDataset(id) == nullptr) return;
  auto applied = Apply(id, event, Now());
  if (applied) return;
  LogError("ingest {}: {}; tried again in {} ms", id, applied.error().message, kStoreRetryMs);
  retries_.emplace_back(clock_.MonotonicMs() + kStoreRetryMs, News{id, event});
}

void IngestLoop::FireTimers() {
  const int64_t now_ms = clock_.MonotonicMs();
  const auto due = std::partition(retries_.begin(), retries_.end(), [now_ms](const auto& one) { return one.first > now_ms; });
  std::vector<std::pair<int64_t, News>> ready(std::make_move_iterator(due), std::make_move_iterator(retries_.end()));
  retries_.erase(due, retries_.end());
  for (auto& [at_ms, news] : ready) ApplyOrRetry(news.dataset, news.event);
  for (const auto& dataset : AllDatasets()) {
    const auto deadline_ms = NextDeadline(*dataset);
    if (!deadline_ms || *deadline_ms > now_ms) continue;
    if (const auto retry = timer_retries_.find(dataset->id); retry != timer_retries_.end() && retry->second > now_ms) continue;
    timer_retries_.erase(dataset->id);
    if (auto applied = Apply(dataset->id, TimerFired{}, Now()); !applied) {
      LogError("ingest {}: {}; tried again in {} ms", dataset->id, applied.error().message, kStoreRetryMs);
      timer_retries_[dataset->id] = now_ms + kStoreRetryMs;
    }
  }
}

Status IngestLoop::Apply(const std::string& id, const DatasetEvent& event, Moment now, const Peer* peer, const DatasetKey* key,
                         bool* no_work) {
  const auto before = FindDataset(id);
  DatasetOutcome outcome = Advance(*before, event, now, options_.limits);
  if (no_work != nullptr) *no_work = outcome.no_work;
  if (!outcome.refusal.empty()) return Fail(ErrorCode::kConflict, "{}", outcome.refusal);
  if (outcome.durable || !outcome.changed_tasks.empty() || key != nullptr) {
    PLATEAU_TRY(SaveDataset(store_, outcome, key));
    changed_ = true;
  }
  for (const auto& row : outcome.events) LogInfo("ingest {}: {}: {}", id, row.type, row.message);
  const auto shown = std::make_shared<const Dataset>(std::move(outcome.dataset));
  Show(shown);
  if (!outcome.events.empty() && notice_) notice_(id);
  for (const auto& action : outcome.actions) Act(*shown, action, peer);
  return {};
}

void IngestLoop::Show(std::shared_ptr<const Dataset> dataset) {
  const std::lock_guard lock(datasets_mutex_);
  datasets_[dataset->id] = std::move(dataset);
}

std::shared_ptr<const Dataset> IngestLoop::FindDataset(const std::string& id) const {
  const std::lock_guard lock(datasets_mutex_);
  const auto found = datasets_.find(id);
  return found == datasets_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<const Dataset>> IngestLoop::AllDatasets() const {
  const std::lock_guard lock(datasets_mutex_);
  std::vector<std::shared_ptr<const Dataset>> all;
  for (auto it = order_.rbegin(); it != order_.rend(); ++it) all.push_back(datasets_.at(*it));
  return all;
}

void IngestLoop::SubmitDataset(DatasetSubmission submission, std::function<void(Result<DatasetAnswer>)> answer) {
  Push(SubmitRequest{std::move(submission), std::move(answer)});
}

void IngestLoop::CancelDataset(const std::string& id, std::function<void(Result<std::shared_ptr<const Dataset>>)> answer) {
  Push(CancelRequest{id, std::move(answer)});
}

Result<std::vector<std::string>> IngestLoop::DatasetEventTexts(const std::string& id, int64_t after, size_t limit) const {
  return DatasetEvents(store_, id, after, limit);
}

std::string IngestLoop::WorkerFolder(const std::string& id, int slot, int attempt) const {
  return fmt::format("{}/datasets/{}/worker-{}/attempt-{}", options_.state_folder, id, slot, attempt);
}

}  // namespace plateau
