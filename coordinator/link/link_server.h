// The worker link: a ZeroMQ ROUTER in one thread of its own. Messages go to the control loop, replies come back through Reply.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/ingest_messages.h"
#include "common/messages.h"

namespace plateau {

struct LinkMessage {
  std::string identity;  // the ROUTER's name of the peer
  Sender sender;
  WorkerMessage message;
  int64_t heard_ms = 0;  // monotonic, when it arrived
};

struct IngestLinkMessage {
  std::string identity;
  IngestSender sender;
  IngestMessage message;
};

struct LinkServerOptions {
  std::string address = "127.0.0.1:7081";  // HOST:PORT; port 0: any free one
  size_t max_replies = 65'536;             // waiting to be sent; beyond it the oldest are dropped (workers ask again)
  int64_t max_message_bytes = 1 << 20;
};

class LinkServer {
 public:
  // `sink` and `ingest_sink` (what ingest workers say) are called from the link's thread; false means that there is no room, and
  // the message is dropped. kConflict: the address is in use. kInvalidInput: it is no HOST:PORT.
  static Result<std::unique_ptr<LinkServer>> Start(const LinkServerOptions& options, const Clock& clock,
                                                   std::function<bool(LinkMessage)> sink,
                                                   std::function<bool(IngestLinkMessage)> ingest_sink = {});
  ~LinkServer();  // stops the thread; unsent replies are dropped

  const std::string& endpoint() const;  // "tcp://127.0.0.1:7081"
  // Thread-safe, never blocks.
  void Reply(const std::string& identity, uint64_t request, const CoordinatorReply& reply);
  void Reply(const std::string& identity, uint64_t request, const IngestReply& reply);

 private:
  class Door;
  explicit LinkServer(std::unique_ptr<Door> door);
  std::unique_ptr<Door> door_;
};

}  // namespace plateau
