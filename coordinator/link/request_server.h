// REST over ZeroMQ: a ROUTER whose messages are requests, answered by whoever answers HTTP. coordinator/API.md, "ZeroMQ".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/error.h"
#include "coordinator/http/api_message.h"

namespace plateau {

struct RequestServerOptions {
  std::string address = "127.0.0.1:7082";  // HOST:PORT or tcp://HOST:PORT; port 0: any free one
  size_t max_body_bytes = 1 << 20;         // beyond it 413
  int64_t max_message_bytes = 4 << 20;     // beyond it the peer is disconnected; a body grows when it is quoted in JSON
  size_t max_in_flight = 2'048;            // requests that are not answered yet, long polls among them; beyond it 503
  int max_answers_per_peer = 64;           // handed to ZeroMQ for a peer that reads slowly
  size_t max_held_bytes = 64 << 20;        // of further answers, held until their peers read; more are dropped
};

class RequestServer {
 public:
  using Handler = std::function<void(ApiRequest, ApiRespond)>;
  // Listens and serves. `handler` is called from the server's thread and must not block; it answers from any thread, once.
  // kConflict: the address is in use. kInvalidInput: it is no HOST:PORT.
  static Result<std::unique_ptr<RequestServer>> Start(const RequestServerOptions& options, Handler handler);
  ~RequestServer();  // stops the thread; answers that come later are dropped

  const std::string& endpoint() const;  // "tcp://127.0.0.1:7082"

 private:
  class Impl;
  explicit RequestServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace plateau
