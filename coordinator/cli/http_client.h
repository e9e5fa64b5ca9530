// A small blocking HTTP/1.1 client: one request, one answer, with a deadline.
#pragma once

#include <map>
#include <string>

#include "common/error.h"

namespace plateau {

struct ClientRequest {
  std::string method = "GET";
  std::string target;                          // "/v1/jobs?x=y", already escaped
  std::map<std::string, std::string> headers;  // besides Host, User-Agent and Content-Length
  std::string body;
  int timeout_ms = 30'000;  // for the whole exchange, connecting included
};

struct ClientResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // at most kMaxBodyBytes
};

inline constexpr size_t kMaxBodyBytes = size_t{256} << 20;

// Where a coordinator is: "http://127.0.0.1:7080", or "tcp://127.0.0.1:7082" for the same requests over ZeroMQ. A value.
struct Endpoint {
  std::string host;
  std::string port;
  bool zmq = false;
  std::string Url() const;
};

// Accepts "http://host:port", "host:port", "http://[::1]:7080" and "tcp://host:port"; a missing port is 7080, and 7082 with tcp://.
// kInvalidInput says what is wrong.
Result<Endpoint> ParseEndpoint(const std::string& url);

// Sends one request over a connection of its own and waits for the answer. kUnavailable when nobody listens or the peer goes
// away, with a message that names the URL; any HTTP status is an answer, not an error. Thread-safe, blocks up to timeout_ms.
Result<ClientResponse> SendHttp(const Endpoint& endpoint, const ClientRequest& request);

// Percent-escapes everything but letters, digits, '-', '.', '_' and '~'.
std::string EscapeUrl(const std::string& text);

}  // namespace plateau
