// A rank's line to the coordinator, served by a thread of its own.
#include "worker/train/coordinator_link.h"

#include <csignal>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include <zmq.hpp>

#include "common/clock.h"
#include "common/log.h"

namespace plateau {
namespace {

constexpr int kQueueMessages = 64;  // bound of ZeroMQ's own queue
constexpr int kLingerMs = 2000;
constexpr int64_t kAwayAfterMs = 10'000;  // no answer for this long: the coordinator counts as away
constexpr auto kStopCheck = std::chrono::milliseconds(200);
constexpr int64_t kFailedWaitMs = 1000;
constexpr int kUnsentMs = 100;  // until a message is tried again that could not leave

// A message that is repeated until its answer comes.
struct Unanswered {
  std::string text;
  int64_t next_send_ms = 0;
};

class ZmqLink final : public CoordinatorLink {
 public:
  ZmqLink(const LinkOptions& options, const Pulse& pulse, StopFlag& stop, std::function<void(const std::string&)> on_refused)
      : options_(options),
        pulse_(pulse),
        stop_(stop),
        on_refused_(std::move(on_refused)),
        socket_(context_, zmq::socket_type::dealer) {
    sender_.job = options.job;
    sender_.attempt = options.attempt;
    sender_.token = options.token;
    sender_.rank = options.rank;
    sender_.pid = ::getpid();
    char host[256] = {};
    ::gethostname(host, sizeof(host) - 1);
    sender_.host = host;
  }

  Status Connect() {
    try {
      socket_.set(zmq::sockopt::linger, kLingerMs);
      socket_.set(zmq::sockopt::sndhwm, kQueueMessages);
      socket_.set(zmq::sockopt::immediate, 1);  // nothing piles up for a coordinator that is away
      socket_.set(zmq::sockopt::reconnect_ivl, 200);
      socket_.set(zmq::sockopt::reconnect_ivl_max, 2000);
      socket_.set(zmq::sockopt::heartbeat_ivl, 2000);
      socket_.set(zmq::sockopt::heartbeat_timeout, 6000);
      socket_.connect(options_.address);
    } catch (const zmq::error_t& fault) {
      return plateau::Fail(ErrorCode::kInvalidInput, "--coordinator {}: {}; give tcp://HOST:PORT", options_.address, fault.what());
    }
    wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) return plateau::Fail(ErrorCode::kIo, "eventfd failed; raise the limit on open files");
    StartThread();
    return {};
  }

  // Signals go to the training thread: one that interrupted the poll here would end the rank.
  void StartThread() {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { Serve(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~ZmqLink() override {
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    Wake();
    if (thread_.joinable()) thread_.join();
    if (wake_ >= 0) ::close(wake_);
  }

  void Send(const Metrics& metrics) override { Enqueue(metrics); }

  Result<LrDecision> Ask(const ValidationReport& report) override {
    const uint64_t request = OpenQuestion(report);
    const int64_t patient_until_ms = clock_.MonotonicMs() + 2 * options_.repeat_ms;
    bool told = false;
    std::unique_lock lock(mutex_);
    while (!decision_ || decision_->validation != report.number) {
      if (!told && clock_.MonotonicMs() >= patient_until_ms) {
        LogInfo("no decision on validation {} yet; the coordinator at {} is asked every {} ms", report.number, options_.address,
                options_.repeat_ms);
        told = true;
      }
      if (stop_.raised()) {
        open_.erase(request);
        return plateau::Fail(ErrorCode::kUnavailable, "asked to stop while waiting for the decision on validation {}",
                             report.number);
      }
      answered_.wait_for(lock, kStopCheck);  // a signal handler cannot notify
    }
    return *std::exchange(decision_, std::nullopt);
  }

  int64_t CheckpointOrder() const override { return checkpoint_order_.load(); }

  void Report(const CheckpointReport& report) override { OpenQuestion(report); }

  Status Finish(const Finished& finished, int64_t bound_ms) override {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(bound_ms);
    const auto all_answered = [&] {
      std::unique_lock lock(mutex_);
      return answered_.wait_until(lock, deadline, [this] { return open_.empty(); });
    };
    const bool reported = all_answered();
    if (reported) OpenQuestion(finished);
    if (reported && all_answered()) return {};
    return plateau::Fail(ErrorCode::kUnavailable, "the coordinator at {} did not acknowledge the end of the run within {} s",
                         options_.address, bound_ms / 1000);
  }

  void Fail(const Failed& failed) override {
    Enqueue(failed);
    std::unique_lock lock(mutex_);
    answered_.wait_for(lock, std::chrono::milliseconds(kFailedWaitMs), [this] { return outbox_.empty(); });
  }

 private:
  std::string Encode(const WorkerMessage& message, uint64_t request) {
    Sender sender = sender_;
    sender.request = request;
    return EncodeWorkerMessage(sender, message);
  }
  void Enqueue(const WorkerMessage& message) {
    {
      std::lock_guard lock(mutex_);
      outbox_.push_back(Encode(message, next_request_++));
      if (outbox_.size() > static_cast<size_t>(kQueueMessages)) outbox_.pop_front();
    }
    Wake();
  }
  uint64_t OpenQuestion(const WorkerMessage& message) {
    std::unique_lock lock(mutex_);
    const uint64_t request = next_request_++;
    open_[request] = {Encode(message, request), 0};
    lock.unlock();
    Wake();
    return request;
  }
  void Wake() {
    const uint64_t one = 1;
    if (::write(wake_, &one, sizeof(one)) < 0) return;  // already awake: the counter is full
  }

  void Serve() {
    int64_t next_heartbeat_ms = clock_.MonotonicMs();
    last_answer_ms_ = next_heartbeat_ms;
    while (true) {
      const int64_t now_ms = clock_.MonotonicMs();
      if (now_ms >= next_heartbeat_ms) {
        // The first one waits for the connection, and so does one after the coordinator's return.
        next_heartbeat_ms = now_ms + (SendText(HeartbeatText()) ? options_.heartbeat_ms : std::min(options_.heartbeat_ms, kUnsentMs));
        NoticeAbsence(now_ms);
      }
      int64_t due_ms = next_heartbeat_ms;
      {
        std::lock_guard lock(mutex_);
        SendDue(now_ms, due_ms);
        if (ending_) return;
      }
      zmq::pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, wake_, ZMQ_POLLIN, 0}};
      zmq::poll(items, 2, std::chrono::milliseconds(std::max<int64_t>(0, due_ms - clock_.MonotonicMs())));
      uint64_t drained = 0;
      if ((items[1].revents & ZMQ_POLLIN) != 0 && ::read(wake_, &drained, sizeof(drained)) < 0) drained = 0;
      zmq::message_t message;
      while (socket_.recv(message, zmq::recv_flags::dontwait)) Receive(message.to_string());
    }
  }

  std::string HeartbeatText() {
    std::lock_guard lock(mutex_);
    return Encode(Heartbeat{.step = pulse_.step.load(),
                            .phase = pulse_.phase.load(),
                            .progress = pulse_.progress.load(),
                            .collective = pulse_.collective.load()},
                  next_request_++);
  }

  // Called with the mutex held. Sends what waits; lowers `due_ms` to the next repetition.
  void SendDue(int64_t now_ms, int64_t& due_ms) {
    for (; !outbox_.empty() && SendText(outbox_.front()); outbox_.pop_front()) {
    }
    if (outbox_.empty())
      answered_.notify_all();
    else
      due_ms = std::min(due_ms, now_ms + kUnsentMs);
    for (auto& [request, open] : open_) {
      if (open.next_send_ms <= now_ms) open.next_send_ms = now_ms + (SendText(open.text) ? options_.repeat_ms : kUnsentMs);
      due_ms = std::min(due_ms, open.next_send_ms);
    }
  }

  bool SendText(const std::string& text) { return socket_.send(zmq::buffer(text), zmq::send_flags::dontwait).has_value(); }

  void Receive(const std::string& text) {
    const auto reply = DecodeReply(text);
    if (!reply) {
      LogWarning("a reply of the coordinator at {} was not understood: {}", options_.address, reply.error().message);
      return;
    }
    last_answer_ms_ = clock_.MonotonicMs();
    if (std::exchange(away_, false)) LogInfo("the coordinator at {} is back", options_.address);
    if (const auto* refused = std::get_if<Refused>(&reply->second)) {
      on_refused_(refused->reason);
      return;
    }
    if (const auto* heartbeat = std::get_if<HeartbeatReply>(&reply->second)) {
      if (heartbeat->command == WorkerCommand::kStop && !stop_.raised()) {
        LogInfo("the coordinator asks this attempt to stop");
        stop_.Raise();
      }
      if (heartbeat->command == WorkerCommand::kCheckpoint) checkpoint_order_.store(heartbeat->order);
      return;
    }
    std::lock_guard lock(mutex_);
    if (const auto* decision = std::get_if<DecisionReply>(&reply->second); decision != nullptr && open_.contains(reply->first))
      decision_ = decision->decision;
    open_.erase(reply->first);
    answered_.notify_all();
  }

  void NoticeAbsence(int64_t now_ms) {
    if (away_ || now_ms - last_answer_ms_ < kAwayAfterMs) return;
    away_ = true;
    LogWarning("the coordinator at {} has not answered for {} s: training goes on, the next validation waits for it",
               options_.address, kAwayAfterMs / 1000);
  }

  LinkOptions options_;
  const Pulse& pulse_;
  StopFlag& stop_;
  std::function<void(const std::string&)> on_refused_;
  Sender sender_;
  SystemClock clock_;
  zmq::context_t context_;
  zmq::socket_t socket_;  // the thread's, after Connect
  int wake_ = -1;
  std::thread thread_;
  int64_t last_answer_ms_ = 0;  // the thread's
  bool away_ = false;           // the thread's
  std::atomic<int64_t> checkpoint_order_{0};

  std::mutex mutex_;  // guards what follows
  std::condition_variable answered_;
  std::deque<std::string> outbox_;
  std::map<uint64_t, Unanswered> open_;
  std::optional<LrDecision> decision_;
  uint64_t next_request_ = 1;
  bool ending_ = false;
};

}  // namespace

Result<std::unique_ptr<CoordinatorLink>> CoordinatorLink::Open(const LinkOptions& options, const Pulse& pulse, StopFlag& stop,
                                                               std::function<void(const std::string&)> on_refused) {
  auto link = std::make_unique<ZmqLink>(options, pulse, stop, std::move(on_refused));
  PLATEAU_TRY(link->Connect());
  return std::unique_ptr<CoordinatorLink>(std::move(link));
}

}  // namespace plateau
