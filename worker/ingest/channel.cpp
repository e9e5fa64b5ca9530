// A DEALER socket used as question and answer.
#include "worker/ingest/channel.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include <zmq.hpp>

#include "common/clock.h"
#include "common/log.h"

namespace plateau {
namespace {

constexpr int kQueueMessages = 16;        // bound of ZeroMQ's own queue
constexpr int64_t kAwayAfterMs = 10'000;  // said once

class ZmqChannel final : public IngestChannel {
 public:
  ZmqChannel(const ChannelOptions& options, const IngestSender& sender, const StopSignal& stop)
      : options_(options), sender_(sender), stop_(stop), socket_(context_, zmq::socket_type::dealer) {}

  Status Connect() {
    try {
      socket_.set(zmq::sockopt::linger, 0);
      socket_.set(zmq::sockopt::sndhwm, kQueueMessages);
      socket_.set(zmq::sockopt::immediate, 1);  // nothing piles up for a coordinator that is away
      socket_.set(zmq::sockopt::reconnect_ivl, 200);
      socket_.set(zmq::sockopt::reconnect_ivl_max, 2000);
      socket_.set(zmq::sockopt::heartbeat_ivl, 2000);
      socket_.set(zmq::sockopt::heartbeat_timeout, 6000);
      socket_.connect(options_.address);
    } catch (const zmq::error_t& fault) {
      return Fail(ErrorCode::kInvalidInput, "--coordinator {}: {}; give tcp://HOST:PORT", options_.address, fault.what());
    }
    heard_ms_ = clock_.MonotonicMs();
    return {};
  }

  Result<IngestReply> Ask(const IngestMessage& message, const std::string& worker) override {
    return Ask(message, worker, std::nullopt);
  }
  Result<IngestReply> AskBounded(const IngestMessage& message, int64_t bound_ms) override {
    return Ask(message, {}, clock_.MonotonicMs() + bound_ms);
  }

 private:
  Result<IngestReply> Ask(const IngestMessage& message, const std::string& worker, std::optional<int64_t> end_ms) {
    IngestSender sender = sender_;
    sender.request = ++request_;
    if (!worker.empty()) sender.worker = worker;
    const std::string text = EncodeIngestMessage(sender, message);
    heard_ms_ = std::max(heard_ms_, clock_.MonotonicMs() - kAwayAfterMs / 2);  // an idle channel has heard nothing either
    int64_t send_ms = 0;
    for (;;) {
      const int64_t now_ms = clock_.MonotonicMs();
      if (!end_ms && stop_.raised()) return Fail(ErrorCode::kUnavailable, "told to stop");
      if (end_ms && now_ms >= *end_ms)
        return Fail(ErrorCode::kUnavailable, "the coordinator at {} did not answer in time", options_.address);
      PLATEAU_TRY(NoticeAbsence(now_ms));
      if (now_ms >= send_ms) {
        const bool sent = socket_.send(zmq::buffer(text), zmq::send_flags::dontwait).has_value();
        send_ms = now_ms + (sent ? options_.repeat_ms : kConnectWaitMs);
      }
      WaitUntil(end_ms ? std::min(send_ms, *end_ms) : send_ms, !end_ms);
      if (auto reply = Receive(sender.request)) {
        if (const auto* refused = std::get_if<IngestRefused>(&*reply))
          return Fail(ErrorCode::kInvalidInput, "the coordinator at {} refuses this worker: {}", options_.address, refused->reason);
        return std::move(*reply);
      }
    }
  }

  void WaitUntil(int64_t due_ms, bool until_stop) {
    zmq::pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, stop_.fd(), ZMQ_POLLIN, 0}};
    const auto wait = std::chrono::milliseconds(std::max<int64_t>(0, due_ms - clock_.MonotonicMs()));
    try {
      zmq::poll(items, until_stop ? 2 : 1, wait);
    } catch (const zmq::error_t& fault) {
      if (fault.num() != EINTR) throw;
    }
  }

  // The reply to this request; older ones are answers to questions that were asked twice. A refusal to read the message has number
  // 0.
  std::optional<IngestReply> Receive(uint64_t request) {
    zmq::message_t message;
    while (socket_.recv(message, zmq::recv_flags::dontwait)) {
      heard_ms_ = clock_.MonotonicMs();
      if (std::exchange(away_, false)) LogInfo("the coordinator at {} is back", options_.address);
      auto reply = DecodeIngestReply(message.to_string_view());
      if (!reply) {
        LogWarning("a reply of the coordinator at {} was not understood: {}", options_.address, reply.error().message);
        continue;
      }
      if (std::holds_alternative<KeepWaiting>(reply->second)) continue;
      if (reply->first == request || reply->first == 0) return std::move(reply->second);
    }
    return std::nullopt;
  }

  Status NoticeAbsence(int64_t now_ms) {
    const int64_t silent_ms = now_ms - heard_ms_;
    if (silent_ms > options_.patience_ms)
      return Fail(ErrorCode::kUnavailable, "the coordinator at {} has not answered for {} s; start it again, then this worker",
                  options_.address, silent_ms / 1000);
    if (away_ || silent_ms < kAwayAfterMs) return {};
    away_ = true;
    LogInfo("no answer from the coordinator at {} for {} s; asking on for {} s", options_.address, silent_ms / 1000,
            options_.patience_ms / 1000);
    return {};
  }

  static constexpr int64_t kConnectWaitMs = 100;

  ChannelOptions options_;
  IngestSender sender_;
  const StopSignal& stop_;
  SystemClock clock_;
  zmq::context_t context_;
  zmq::socket_t socket_;
  uint64_t request_ = 0;
  int64_t heard_ms_ = 0;
  bool away_ = false;
};

}  // namespace

Result<std::unique_ptr<IngestChannel>> IngestChannel::Open(const ChannelOptions& options, const IngestSender& sender,
                                                           const StopSignal& stop) {
  auto channel = std::make_unique<ZmqChannel>(options, sender, stop);
  PLATEAU_TRY(channel->Connect());
  return std::unique_ptr<IngestChannel>(std::move(channel));
}

}  // namespace plateau
