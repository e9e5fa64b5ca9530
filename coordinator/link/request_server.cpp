// Requests in, answers out; an answer finds its way back by what stood in front of the request.
#include "coordinator/link/request_server.h"

#include <atomic>
#include <mutex>

#include "coordinator/link/request_frame.h"
#include "coordinator/link/router_socket.h"

namespace plateau {

// Shared with the answers that are still to come: one that comes after the end finds nobody to send it and is dropped.
class RequestServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(const RequestServerOptions& options, Handler handler) : options_(options), handler_(std::move(handler)) {}

  Status Start() {
    const RouterOptions router{.address = options_.address,
                               .name = "zmq",
                               .max_waiting_per_peer = options_.max_answers_per_peer,
                               .max_held_bytes = options_.max_held_bytes,
                               .max_frame_bytes = options_.max_message_bytes};
    PLATEAU_ASSIGN(socket_, RouterSocket::Bind(router, [this](std::string identity, std::vector<std::string> frames) {
                     Handle(std::move(identity), std::move(frames));
                   }));
    socket_->Run();
    return {};
  }
  void Stop() {
    std::unique_ptr<RouterSocket> socket;
    {
      const std::lock_guard lock(mutex_);
      socket = std::move(socket_);
    }
    socket.reset();  // not under the lock: its thread may be answering
  }
  const std::string& endpoint() const { return socket_->endpoint(); }

 private:
  // One request that is being answered. Whoever forgets to answer gives its place back all the same.
  struct Open {
    std::weak_ptr<Impl> server;
    std::string identity, id;
    bool empty_frame = false;  // a REQ socket's: its answer begins with one too
    bool head = false;
    ~Open() {
      if (const auto alive = server.lock()) alive->in_flight_ -= 1;
    }
  };

  void Handle(std::string identity, std::vector<std::string> frames) {
    auto open = std::make_shared<Open>();
    open->server = weak_from_this();
    open->identity = std::move(identity);
    open->empty_frame = frames.size() == 2 && frames[0].empty();
    const bool over = in_flight_.fetch_add(1) >= options_.max_in_flight;
    const bool one_text = frames.size() == (open->empty_frame ? 2u : 1u);
    auto read = ReadRequestFrame(one_text ? frames.back() : std::string(), options_.max_body_bytes);
    if (auto* broken = std::get_if<BrokenRequest>(&read)) {
      open->id = broken->id;
      return Answer(*open, broken->answer);
    }
    auto& framed = std::get<FramedRequest>(read);
    open->id = framed.id;
    open->head = framed.head;
    if (over)
      return Answer(*open, Problem(503, "too many requests wait for their answers; ask again later", framed.request.target));
    handler_(std::move(framed.request), [open = std::move(open)](const ApiResponse& response) {
      if (const auto alive = open->server.lock()) alive->Answer(*open, response);
    });
  }

  void Answer(const Open& open, const ApiResponse& response) {
    std::vector<std::string> frames(open.empty_frame ? 1 : 0);
    frames.push_back(WriteAnswerFrame(open.id, response, open.head));
    const std::lock_guard lock(mutex_);
    if (socket_ != nullptr) socket_->Send(open.identity, std::move(frames));
  }

  RequestServerOptions options_;
  Handler handler_;
  std::atomic<size_t> in_flight_{0};
  std::mutex mutex_;
  std::unique_ptr<RouterSocket> socket_;
};

RequestServer::RequestServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
RequestServer::~RequestServer() { impl_->Stop(); }

Result<std::unique_ptr<RequestServer>> RequestServer::Start(const RequestServerOptions& options, Handler handler) {
  auto impl = std::make_shared<Impl>(options, std::move(handler));
  PLATEAU_TRY(impl->Start());
  return std::unique_ptr<RequestServer>(new RequestServer(std::move(impl)));
}

const std::string& RequestServer::endpoint() const { return impl_->endpoint(); }

}  // namespace plateau
