// Boost.Beast behind a blocking call; no other file of the command line includes it.
#include "coordinator/cli/http_client.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <utility>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace plateau {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

// One exchange in flight: each operation is started asynchronously, so that the stream's deadline can end it, and waited for.
class Exchange {
 public:
  Exchange(const Endpoint& endpoint, int timeout_ms) : endpoint_(endpoint), stream_(context_) {
    deadline_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  }

  Status Connect() {
    asio::ip::tcp::resolver resolver(context_);
    error_code code;
    const auto addresses = resolver.resolve(endpoint_.host, endpoint_.port, code);
    if (code) return Fail(ErrorCode::kUnavailable, "{}: cannot find this host: {}", endpoint_.Url(), code.message());
    Run(
        [&](error_code& result) {
          stream_.async_connect(addresses, [&result](error_code e, const asio::ip::tcp::endpoint&) { result = e; });
        },
        code);
    if (code == asio::error::connection_refused)
      return Fail(ErrorCode::kUnavailable, "no coordinator at {}; start one with `plateau up`", endpoint_.Url());
    return Check(code, "connect");
  }

  Status Send(const http::request<http::string_body>& request) {
    error_code code;
    Run([&](error_code& result) { http::async_write(stream_, request, [&result](error_code e, size_t) { result = e; }); }, code);
    return Check(code, "send");
  }

  Result<http::response<http::string_body>> Receive() {
    http::response_parser<http::string_body> parser;
    parser.body_limit(kMaxBodyBytes);
    beast::flat_buffer buffer;
    error_code code;
    Run([&](error_code& result) { http::async_read(stream_, buffer, parser, [&result](error_code e, size_t) { result = e; }); },
        code);
    PLATEAU_TRY(Check(code, "receive"));
    return parser.release();
  }

 private:
  template <typename Start>
  void Run(Start&& start, error_code& result) {
    stream_.expires_at(deadline_);
    start(result);
    context_.restart();
    context_.run();
  }

  Status Check(const error_code& code, const char* what) const {
    if (!code) return {};
    if (code == beast::error::timeout)
      return Fail(ErrorCode::kUnavailable, "{}: no answer in time; is the coordinator overloaded or stopped?", endpoint_.Url());
    if (code == http::error::end_of_stream || code == asio::error::connection_reset || code == asio::error::eof)
      return Fail(ErrorCode::kUnavailable, "{}: the coordinator closed the connection; is it being stopped?", endpoint_.Url());
    if (code == asio::error::host_not_found || code == asio::error::host_not_found_try_again)
      return Fail(ErrorCode::kUnavailable, "{}: there is no host {}; give the coordinator's with --endpoint or $PLATEAU_ENDPOINT",
                  endpoint_.Url(), endpoint_.host);
    if (code == http::error::bad_version)
      return Fail(ErrorCode::kUnavailable, "{}: what listens there does not speak HTTP; for ZeroMQ write tcp://{}:{}",
                  endpoint_.Url(), endpoint_.host, endpoint_.port);
    return Fail(ErrorCode::kUnavailable, "{}: cannot {}: {}", endpoint_.Url(), what, code.message());
  }

  const Endpoint endpoint_;
  asio::io_context context_;
  beast::tcp_stream stream_;
  std::chrono::steady_clock::time_point deadline_;
};

}  // namespace

Result<ClientResponse> SendHttp(const Endpoint& endpoint, const ClientRequest& request) {
  http::request<http::string_body> wire(http::string_to_verb(request.method), request.target, 11);
  wire.set(http::field::host, endpoint.host + ":" + endpoint.port);
  wire.set(http::field::user_agent, "plateau");
  wire.set(http::field::connection, "close");
  for (const auto& [name, value] : request.headers) wire.set(name, value);
  wire.body() = request.body;
  wire.prepare_payload();
  Exchange exchange(endpoint, request.timeout_ms);
  PLATEAU_TRY(exchange.Connect());
  PLATEAU_TRY(exchange.Send(wire));
  PLATEAU_ASSIGN(auto answer, exchange.Receive());
  ClientResponse response;
  response.status = answer.result_int();
  for (const auto& field : answer) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    response.headers[name] = std::string(field.value());
  }
  response.body = std::move(answer.body());
  return response;
}

std::string Endpoint::Url() const {
  const bool v6 = host.find(':') != std::string::npos;
  return std::string(zmq ? "tcp://" : "http://") + (v6 ? "[" + host + "]" : host) + ":" + port;
}

Result<Endpoint> ParseEndpoint(const std::string& url) {
  constexpr std::string_view kHttp = "http://", kTcp = "tcp://";
  const bool zmq = url.starts_with(kTcp);
  std::string rest = zmq ? url.substr(kTcp.size()) : url.starts_with(kHttp) ? url.substr(kHttp.size()) : url;
  while (!rest.empty() && rest.back() == '/') rest.pop_back();
  const auto refuse = [&](const char* why) {
    return Fail(ErrorCode::kInvalidInput, "endpoint \"{}\": {}; write it as http://127.0.0.1:7080 or tcp://127.0.0.1:7082", url,
                why);
  };
  if (rest.find("://") != std::string::npos) return refuse("only http:// and tcp:// (ZeroMQ) are spoken");
  Endpoint endpoint;
  endpoint.zmq = zmq;
  const bool bracketed = rest.starts_with("[");
  const size_t host_end = bracketed ? rest.find(']') : rest.find(':');
  if (bracketed && host_end == std::string::npos) return refuse("the bracket is not closed");
  endpoint.host = bracketed ? rest.substr(1, host_end - 1) : rest.substr(0, host_end);
  std::string tail = host_end == std::string::npos ? "" : rest.substr(host_end + (bracketed ? 1 : 0));
  endpoint.port = tail.empty() ? (zmq ? "7082" : "7080") : tail.substr(1);
  const bool digits = !endpoint.port.empty() && endpoint.port.size() <= 5 &&
                      std::all_of(endpoint.port.begin(), endpoint.port.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (endpoint.host.empty() || endpoint.host.find('/') != std::string::npos) return refuse("there is no host in it");
  if (!digits || std::stoi(endpoint.port) > 65535 || (!tail.empty() && tail[0] != ':'))
    return refuse("the port is not a number up to 65535");
  return endpoint;
}

std::string EscapeUrl(const std::string& text) {
  std::string out;
  for (const unsigned char c : text) {
    const bool plain =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_' || c == '~';
    out += plain ? std::string(1, static_cast<char>(c)) : fmt::format("%{:02X}", c);
  }
  return out;
}

}  // namespace plateau
