// ROUTER socket, its thread and the bounded queue of replies.
#include "coordinator/link/link_server.h"

#include <cstring>
#include <deque>
#include <mutex>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

#include <zmq.hpp>

#include "common/log.h"

namespace plateau {
namespace {

constexpr int64_t kBadMessageLogMs = 1'000;  // at most one line about bad messages in this time

}  // namespace

class LinkServer::Router {
 public:
  Router(const LinkServerOptions& options, const Clock& clock, std::function<bool(LinkMessage)> sink)
      : options_(options),
        clock_(clock),
        sink_(std::move(sink)),
        context_(1),
        socket_(context_, zmq::socket_type::router),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  ~Router() {
    if (thread_.joinable()) {
      {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
      }
      Wake();
      thread_.join();
    }
    ::close(wake_);
  }

  Status Bind() {
    const auto colon = options_.address.rfind(':');
    if (colon == std::string::npos)
      return Fail(ErrorCode::kInvalidInput, "link address '{}': write HOST:PORT, such as 127.0.0.1:7081", options_.address);
    std::string address = options_.address;
    if (address.substr(colon + 1) == "0") address = address.substr(0, colon) + ":*";
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::maxmsgsize, options_.max_message_bytes);
    try {
      socket_.bind("tcp://" + address);
    } catch (const zmq::error_t& error) {
      return Fail(error.num() == EADDRINUSE ? ErrorCode::kConflict : ErrorCode::kInvalidInput,
                  "link address {}: cannot listen: {}; choose another with --link", options_.address, error.what());
    }
    endpoint_ = socket_.get(zmq::sockopt::last_endpoint);
    thread_ = std::thread([this] { Run(); });
    return {};
  }

  void Push(std::string identity, std::string text) {
    {
      const std::lock_guard lock(mutex_);
      if (replies_.size() >= options_.max_replies) {
        replies_.pop_front();
        dropped_ += 1;
      }
      replies_.emplace_back(std::move(identity), std::move(text));
    }
    Wake();
  }

  const std::string& endpoint() const { return endpoint_; }

 private:
  void Wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
  }

  void Run() {
    for (;;) {
      zmq::pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, wake_, ZMQ_POLLIN, 0}};
      zmq::poll(items, 2, std::chrono::milliseconds(-1));
      uint64_t count = 0;
      [[maybe_unused]] const auto got = ::read(wake_, &count, sizeof count);
      if (!SendReplies()) return;
      Receive();
    }
  }

  // False: the server is stopping.
  bool SendReplies() {
    std::deque<std::pair<std::string, std::string>> replies;
    size_t dropped = 0;
    bool stopping = false;
    {
      const std::lock_guard lock(mutex_);
      replies.swap(replies_);
      dropped = std::exchange(dropped_, 0);
      stopping = stopping_;
    }
    if (dropped > 0) LogWarning("worker link: {} replies were dropped, more than {} were waiting", dropped, options_.max_replies);
    for (auto& [identity, text] : replies) {
      // A peer that is gone or does not read is not waited for: it asks again.
      if (socket_.send(zmq::buffer(identity), zmq::send_flags::sndmore | zmq::send_flags::dontwait))
        (void)socket_.send(zmq::buffer(text), zmq::send_flags::dontwait);
    }
    return !stopping;
  }

  void Receive() {
    for (int i = 0; i < 1'000; ++i) {  // then the replies get their turn
      zmq::message_t identity, body;
      if (!socket_.recv(identity, zmq::recv_flags::dontwait)) return;
      bool single = identity.more();
      if (single) (void)socket_.recv(body, zmq::recv_flags::none);
      while (body.more()) {
        single = false;
        (void)socket_.recv(body, zmq::recv_flags::none);
      }
      Handle(identity.to_string(), single ? body.to_string_view() : std::string_view());
    }
  }

  void Handle(std::string identity, std::string_view text) {
    auto decoded = DecodeWorkerMessage(text);
    if (!decoded) {
      const int64_t now_ms = clock_.MonotonicMs();
      if (now_ms >= next_log_ms_) LogWarning("worker link: a message was refused: {}", decoded.error().message);
      next_log_ms_ = std::max(next_log_ms_, now_ms + kBadMessageLogMs);
      return Push(std::move(identity), EncodeReply(0, Refused{decoded.error().message}));
    }
    LinkMessage message{std::move(identity), std::move(decoded->first), std::move(decoded->second), clock_.MonotonicMs()};
    if (!sink_(std::move(message))) LogWarning("worker link: a message was dropped, the control loop's queue is full");
  }

  LinkServerOptions options_;
  const Clock& clock_;
  std::function<bool(LinkMessage)> sink_;
  zmq::context_t context_;
  zmq::socket_t socket_;  // the thread's own once it runs
  int wake_;
  std::string endpoint_;
  std::mutex mutex_;
  std::deque<std::pair<std::string, std::string>> replies_;  // guarded by mutex_
  size_t dropped_ = 0;                                       // guarded by mutex_
  bool stopping_ = false;                                    // guarded by mutex_
  int64_t next_log_ms_ = 0;
  std::thread thread_;
};

LinkServer::LinkServer(std::unique_ptr<Router> router) : router_(std::move(router)) {}
LinkServer::~LinkServer() = default;

Result<std::unique_ptr<LinkServer>> LinkServer::Start(const LinkServerOptions& options, const Clock& clock,
                                                      std::function<bool(LinkMessage)> sink) {
  auto router = std::make_unique<Router>(options, clock, std::move(sink));
  PLATEAU_TRY(router->Bind());
  return std::unique_ptr<LinkServer>(new LinkServer(std::move(router)));
}

const std::string& LinkServer::endpoint() const { return router_->endpoint(); }

void LinkServer::Reply(const std::string& identity, uint64_t request, const CoordinatorReply& reply) {
  router_->Push(identity, EncodeReply(request, reply));
}

}  // namespace plateau
