// HTTP/1.1 over Boost.Beast: one thread, many connections, bounded in every direction. Knows nothing of jobs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "coordinator/http/api.h"
#include "coordinator/http/api_message.h"

namespace plateau {

struct HttpServerOptions {
  std::string address = "127.0.0.1:7080";    // HOST:PORT or [IPV6]:PORT; port 0: any free one
  uint64_t max_body_bytes = 1 << 20;         // beyond it 413
  uint32_t max_header_bytes = 16 << 10;      // beyond it 431
  int max_connections = 512;                 // beyond it a new one is answered 503 and closed
  int64_t read_timeout_ms = 30'000;          // for one request to arrive, then it is answered 408 and the connection closed
  int64_t idle_timeout_ms = 75'000;          // between requests of a connection
  int64_t write_timeout_ms = 60'000;         // for one response to be taken
  std::vector<std::string> allowed_origins;  // of web pages besides the server's own (coordinator/http/origin.h); others: 403
};

class HttpServer {
 public:
  using Handler = std::function<void(ApiRequest, ApiRespond)>;
  // Listens, and serves once Run is called. kConflict: the address is in use. kInvalidInput: it is no address.
  static Result<std::unique_ptr<HttpServer>> Listen(const HttpServerOptions& options, Handler handler);
  ~HttpServer();  // closes every connection and ends the thread; answers that come later are dropped

  const std::string& endpoint() const;  // "http://127.0.0.1:7080"
  IoThread& io();
  void Run();  // starts the thread; `handler` is called there

 private:
  class Impl;
  explicit HttpServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace plateau
