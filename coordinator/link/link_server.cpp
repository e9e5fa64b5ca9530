// Decoding what workers say, encoding what they are told.
#include "coordinator/link/link_server.h"

#include <algorithm>

#include "common/log.h"
#include "coordinator/link/router_socket.h"

namespace plateau {
namespace {

constexpr int64_t kBadMessageLogMs = 1'000;  // at most one line about bad messages in this time

}  // namespace

class LinkServer::Door {
 public:
  Door(const Clock& clock, std::function<bool(LinkMessage)> sink, std::function<bool(IngestLinkMessage)> ingest_sink)
      : clock_(clock), sink_(std::move(sink)), ingest_sink_(std::move(ingest_sink)) {}

  Status Open(const LinkServerOptions& options) {
    const RouterOptions router{.address = options.address,
                               .name = "link",
                               .max_waiting = options.max_replies,
                               .max_frame_bytes = options.max_message_bytes};
    PLATEAU_ASSIGN(socket_, RouterSocket::Bind(router, [this](std::string identity, std::vector<std::string> frames) {
                     Handle(std::move(identity), frames.size() == 1 ? frames[0] : std::string());
                   }));
    socket_->Run();
    return {};
  }
  void Send(const std::string& identity, std::string text) { socket_->Send(identity, {std::move(text)}); }
  const std::string& endpoint() const { return socket_->endpoint(); }

 private:
  void Handle(std::string identity, const std::string& text) {
    if (ingest_sink_ && IsIngestMessage(text)) return HandleIngest(std::move(identity), text);
    auto decoded = DecodeWorkerMessage(text);
    if (!decoded) return Refuse(identity, decoded.error().message);
    LinkMessage message{std::move(identity), std::move(decoded->first), std::move(decoded->second), clock_.MonotonicMs()};
    if (!sink_(std::move(message))) LogWarning("worker link: a message was dropped, the control loop's queue is full");
  }

  void HandleIngest(std::string identity, const std::string& text) {
    auto decoded = DecodeIngestMessage(text);
    if (!decoded) return Refuse(identity, decoded.error().message);
    if (!ingest_sink_({std::move(identity), std::move(decoded->first), std::move(decoded->second)}))
      LogWarning("worker link: a message was dropped, the ingest loop's queue is full");
  }

  void Refuse(const std::string& identity, const std::string& why) {
    const int64_t now_ms = clock_.MonotonicMs();
    if (now_ms >= next_log_ms_) LogWarning("worker link: a message was refused: {}", why);
    next_log_ms_ = std::max(next_log_ms_, now_ms + kBadMessageLogMs);
    Send(identity, EncodeReply(0, Refused{why}));
  }

  const Clock& clock_;
  std::function<bool(LinkMessage)> sink_;
  std::function<bool(IngestLinkMessage)> ingest_sink_;
  int64_t next_log_ms_ = 0;               // the socket's thread's own
  std::unique_ptr<RouterSocket> socket_;  // last: its thread uses the others
};

LinkServer::LinkServer(std::unique_ptr<Door> door) : door_(std::move(door)) {}
LinkServer::~LinkServer() = default;

Result<std::unique_ptr<LinkServer>> LinkServer::Start(const LinkServerOptions& options, const Clock& clock,
                                                      std::function<bool(LinkMessage)> sink,
                                                      std::function<bool(IngestLinkMessage)> ingest_sink) {
  auto door = std::make_unique<Door>(clock, std::move(sink), std::move(ingest_sink));
  PLATEAU_TRY(door->Open(options));
  return std::unique_ptr<LinkServer>(new LinkServer(std::move(door)));
}

const std::string& LinkServer::endpoint() const { return door_->endpoint(); }

void LinkServer::Reply(const std::string& identity, uint64_t request, const CoordinatorReply& reply) {
  door_->Send(identity, EncodeReply(request, reply));
}

void LinkServer::Reply(const std::string& identity, uint64_t request, const IngestReply& reply) {
  door_->Send(identity, EncodeIngestReply(request, reply));
}

}  // namespace plateau
