// A DEALER that is watched while it connects, so that an absent coordinator is known at once and not after the deadline.
#include "coordinator/cli/zmq_client.h"

#include <chrono>
#include <cstring>

#include <zmq.hpp>

#include "coordinator/link/request_frame.h"

namespace plateau {
namespace {

constexpr int64_t kRequestId = 1;
constexpr int kHandshakeMs = 10'000;
constexpr const char* kMonitorAddress = "inproc://monitor";
constexpr int kWatched = ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                         ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                         ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

class Exchange {
 public:
  Exchange(const Endpoint& endpoint, int timeout_ms)
      : url_(endpoint.Url()),
        deadline_(std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms)),
        socket_(context_, zmq::socket_type::dealer),
        monitor_(context_, zmq::socket_type::pair) {}

  Result<ClientResponse> Run(const std::string& frame) {
    try {
      PLATEAU_TRY(Connect());
      socket_.send(zmq::buffer(frame), zmq::send_flags::none);
      return Receive();
    } catch (const zmq::error_t& error) {
      return Fail(ErrorCode::kUnavailable, "{}: {}", url_, error.what());
    }
  }

 private:
  Status Connect() {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::ipv6, 1);
    socket_.set(zmq::sockopt::reconnect_ivl, -1);  // one connection: when it is lost, the request is
    socket_.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
    socket_.set(zmq::sockopt::heartbeat_ivl, 5'000);
    socket_.set(zmq::sockopt::heartbeat_timeout, 15'000);
    socket_.set(zmq::sockopt::maxmsgsize, static_cast<int64_t>(kMaxBodyBytes));
    if (zmq_socket_monitor(socket_.handle(), kMonitorAddress, kWatched) != 0)
      return Fail(ErrorCode::kInternal, "{}: cannot watch the connection: {}", url_, zmq_strerror(zmq_errno()));
    monitor_.set(zmq::sockopt::linger, 0);
    monitor_.connect(kMonitorAddress);
    socket_.connect(url_);
    return {};
  }

  Result<ClientResponse> Receive() {
    while (true) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - std::chrono::steady_clock::now());
      zmq::pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {monitor_.handle(), 0, ZMQ_POLLIN, 0}};
      if (left.count() <= 0 || zmq::poll(items, 2, left) == 0)
        return Fail(ErrorCode::kUnavailable, "{}: no answer in time; is the coordinator overloaded or stopped?", url_);
      zmq::message_t text;
      if (socket_.recv(text, zmq::recv_flags::dontwait)) {
        if (text.more()) return Fail(ErrorCode::kInternal, "{}: the answer has several frames; is it a Plateau coordinator?", url_);
        return Read(text.to_string_view());
      }
      if ((items[1].revents & ZMQ_POLLIN) != 0) PLATEAU_TRY(Watch());
    }
  }

  Result<ClientResponse> Read(std::string_view text) const {
    auto answer = ReadAnswerFrame(text);
    if (!answer)
      return Fail(
          ErrorCode::kInternal,
          "{}: the answer is not one to a request; requests go to the address that `plateau up` prints behind \"ZeroMQ\" (port "
          "7082), not to the workers' link",
          url_);
    return ClientResponse{answer->status, std::move(answer->headers), std::move(answer->body)};
  }

  // An event of the connection; an error when it is lost.
  Status Watch() {
    zmq::message_t event, address;
    if (!monitor_.recv(event, zmq::recv_flags::dontwait)) return {};
    (void)monitor_.recv(address, zmq::recv_flags::none);
    uint16_t what = 0;
    std::memcpy(&what, event.data(), sizeof what);
    if (what == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      spoke_ = true;
      return {};
    }
    if (spoke_)
      return Fail(ErrorCode::kUnavailable,
                  "{}: the coordinator closed the connection; is it being stopped, or is the request too large?", url_);
    if (what == ZMQ_EVENT_CLOSED) return Fail(ErrorCode::kUnavailable, "no coordinator at {}; start one with `plateau up`", url_);
    return Fail(ErrorCode::kUnavailable, "{}: what listens there does not speak ZeroMQ; is it the coordinator's http address?",
                url_);
  }

  const std::string url_;
  const std::chrono::steady_clock::time_point deadline_;
  zmq::context_t context_;
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
  bool spoke_ = false;  // a ZeroMQ peer has answered the handshake
};

}  // namespace

Result<ClientResponse> SendZmq(const Endpoint& endpoint, const ClientRequest& request) {
  return Exchange(endpoint, request.timeout_ms)
      .Run(WriteRequestFrame(kRequestId, request.method, request.target, request.headers, request.body));
}

}  // namespace plateau
