// ROUTER socket, its thread and the bounded queue of what is to be sent.
#include "coordinator/link/router_socket.h"

#include <deque>
#include <map>
#include <mutex>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

#include <zmq.hpp>

#include "common/log.h"

namespace plateau {
namespace {

constexpr std::chrono::milliseconds kHeldRetry{5};  // how often peers that were full are looked at: nothing tells when they read

}  // namespace

class RouterSocket::Impl {
 public:
  Impl(const RouterOptions& options, Sink sink)
      : options_(options),
        sink_(std::move(sink)),
        context_(1),
        socket_(context_, zmq::socket_type::router),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  ~Impl() {
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
    constexpr std::string_view kScheme = "tcp://";
    std::string address = options_.address.starts_with(kScheme) ? options_.address.substr(kScheme.size()) : options_.address;
    const auto colon = address.rfind(':');
    if (colon == std::string::npos || colon + 1 == address.size())
      return Fail(ErrorCode::kInvalidInput, "{} address '{}': write HOST:PORT, such as 127.0.0.1:7081", options_.name,
                  options_.address);
    if (address.substr(colon + 1) == "0") address = address.substr(0, colon) + ":*";
    if (address.starts_with("localhost:")) address = "127.0.0.1" + address.substr(address.find(':'));
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::ipv6, address.starts_with("[") ? 1 : 0);
    socket_.set(zmq::sockopt::maxmsgsize, options_.max_frame_bytes);
    socket_.set(zmq::sockopt::sndhwm, options_.max_waiting_per_peer);
    socket_.set(zmq::sockopt::router_mandatory, 1);  // a peer that is full and one that is gone are told apart
    try {
      socket_.bind(std::string(kScheme) + address);
    } catch (const zmq::error_t& error) {
      return Fail(error.num() == EADDRINUSE ? ErrorCode::kConflict : ErrorCode::kInvalidInput,
                  "{} address {}: cannot listen: {}; choose another with --{}", options_.name, options_.address, error.what(),
                  options_.name);
    }
    endpoint_ = socket_.get(zmq::sockopt::last_endpoint);
    return {};
  }

  void Run() {
    thread_ = std::thread([this] { Serve(); });
  }

  void Send(std::string identity, std::vector<std::string> frames) {
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.size() >= options_.max_waiting) {
        waiting_.pop_front();
        dropped_ += 1;
      }
      waiting_.emplace_back(std::move(identity), std::move(frames));
    }
    Wake();
  }

  const std::string& endpoint() const { return endpoint_; }

 private:
  using Message = std::pair<std::string, std::vector<std::string>>;

  void Wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
  }

  void Serve() {
    for (;;) {
      zmq::pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, wake_, ZMQ_POLLIN, 0}};
      zmq::poll(items, 2, held_.empty() ? std::chrono::milliseconds(-1) : kHeldRetry);
      uint64_t count = 0;
      [[maybe_unused]] const auto got = ::read(wake_, &count, sizeof count);
      if (!SendWaiting()) return;
      Receive();
    }
  }

  // False: the socket is stopping.
  bool SendWaiting() {
    std::deque<Message> waiting;
    size_t dropped = 0;
    bool stopping = false;
    {
      const std::lock_guard lock(mutex_);
      waiting.swap(waiting_);
      dropped = std::exchange(dropped_, 0);
      stopping = stopping_;
    }
    for (auto peer = held_.begin(); peer != held_.end();) {
      auto& queue = peer->second;
      for (; !queue.empty() && Hand(peer->first, queue.front()); queue.pop_front()) held_bytes_ -= Bytes(queue.front());
      peer = queue.empty() ? held_.erase(peer) : std::next(peer);
    }
    for (auto& [identity, frames] : waiting) {
      if (!held_.contains(identity) && Hand(identity, frames)) continue;
      if (held_bytes_ + Bytes(frames) > options_.max_held_bytes) {
        dropped += 1;
        continue;
      }
      held_bytes_ += Bytes(frames);
      held_[identity].push_back(std::move(frames));
    }
    if (dropped > 0) LogWarning("{}: {} messages were dropped, their peers do not read", options_.name, dropped);
    return !stopping;
  }

  // False: the peer has no room now. One that is gone needs nothing more: it asks again when it is back.
  bool Hand(const std::string& identity, const std::vector<std::string>& frames) {
    try {
      if (!socket_.send(zmq::buffer(identity), zmq::send_flags::sndmore | zmq::send_flags::dontwait)) return false;
    } catch (const zmq::error_t&) {
      return true;
    }
    for (size_t i = 0; i < frames.size(); ++i)
      (void)socket_.send(zmq::buffer(frames[i]),
                         zmq::send_flags::dontwait | (i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none));
    return true;
  }

  static size_t Bytes(const std::vector<std::string>& frames) {
    size_t bytes = 0;
    for (const auto& frame : frames) bytes += frame.size();
    return bytes;
  }

  void Receive() {
    for (int i = 0; i < 1'000; ++i) {  // then what is to be sent gets its turn
      zmq::message_t identity, part;
      if (!socket_.recv(identity, zmq::recv_flags::dontwait)) return;
      std::vector<std::string> frames;
      for (bool more = identity.more(); more; more = part.more()) {
        (void)socket_.recv(part, zmq::recv_flags::none);
        if (frames.size() < kMaxFrames)
          frames.push_back(part.to_string());
        else if (frames.size() == kMaxFrames)
          frames.assign(kMaxFrames + 1, std::string());
      }
      sink_(identity.to_string(), std::move(frames));
    }
  }

  RouterOptions options_;
  Sink sink_;
  zmq::context_t context_;
  zmq::socket_t socket_;  // the thread's own once it runs
  int wake_;
  std::string endpoint_;
  std::mutex mutex_;
  std::deque<Message> waiting_;                                       // guarded by mutex_
  size_t dropped_ = 0;                                                // guarded by mutex_
  bool stopping_ = false;                                             // guarded by mutex_
  std::map<std::string, std::deque<std::vector<std::string>>> held_;  // by peer; the thread's own
  size_t held_bytes_ = 0;                                             // the thread's own
  std::thread thread_;
};

RouterSocket::RouterSocket(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RouterSocket::~RouterSocket() = default;

Result<std::unique_ptr<RouterSocket>> RouterSocket::Bind(const RouterOptions& options, Sink sink) {
  auto impl = std::make_unique<Impl>(options, std::move(sink));
  PLATEAU_TRY(impl->Bind());
  return std::unique_ptr<RouterSocket>(new RouterSocket(std::move(impl)));
}

const std::string& RouterSocket::endpoint() const { return impl_->endpoint(); }
void RouterSocket::Run() { impl_->Run(); }
void RouterSocket::Send(std::string identity, std::vector<std::string> frames) {
  impl_->Send(std::move(identity), std::move(frames));
}

}  // namespace plateau
