// Accepting, reading, answering; the only file with Boost.Beast in the coordinator.
#include "coordinator/http/http_server.h"

#include <utility>

#include <algorithm>
#include <fcntl.h>
#include <set>
#include <thread>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "common/log.h"
#include "coordinator/http/origin.h"

namespace plateau {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

std::string Text(beast::string_view view) { return std::string(view.data(), view.size()); }

std::string HostName() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

// Shared with the answers that are still to come: one that comes after Shutdown finds nothing to write to and is dropped.
class HttpServer::Impl final : public IoThread, public std::enable_shared_from_this<Impl> {
 public:
  Impl(const HttpServerOptions& options, Handler handler) : options_(options), handler_(std::move(handler)), acceptor_(context_) {}

  Status Listen();
  void Run();
  void Shutdown();
  void Post(std::function<void()> work) override { asio::post(context_, std::move(work)); }
  void After(int64_t delay_ms, std::function<void()> work) override;
  const std::string& endpoint() const { return endpoint_; }

 private:
  class Session;
  void Accept();

  HttpServerOptions options_;
  const std::string host_name_ = HostName();
  Handler handler_;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  std::string endpoint_;
  std::set<std::shared_ptr<Session>> sessions_;  // the io thread's own
  std::thread thread_;
};

// One connection, in the server's set until it ends.
class HttpServer::Impl::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Impl& server, tcp::socket socket) : server_(server), stream_(std::move(socket)), timer_(stream_.get_executor()) {}

  void Start(bool refused) {
    if (!refused) return ReadHeader(server_.options_.read_timeout_ms);
    keep_alive_ = false;
    Write(Problem(503, "too many connections; try again", "/"));
  }

 private:
  void ReadHeader(int64_t timeout_ms) {
    parser_.emplace();
    parser_->body_limit(server_.options_.max_body_bytes);
    parser_->header_limit(server_.options_.max_header_bytes);
    head_ = false;
    Await(timeout_ms);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](beast::error_code error, size_t) { self->OnHeader(error); });
  }

  // Gives the reading that begins now its time. The stream's own timeout would close the socket, and nothing could be said any
  // more.
  void Await(int64_t timeout_ms) {
    late_ = false;
    stream_.expires_never();
    timer_.expires_after(std::chrono::milliseconds(timeout_ms));
    timer_.async_wait([self = shared_from_this(), waited = ++waits_](beast::error_code error) {
      if (error || waited != self->waits_) return;
      self->late_ = true;
      self->stream_.cancel();
    });
  }

  // What was awaited has come.
  void Arrived() {
    ++waits_;
    timer_.cancel();
  }

  void OnHeader(beast::error_code error) {
    Arrived();
    if (error) return Broken(error);
    version_ = parser_->get().version();
    keep_alive_ = parser_->get().keep_alive();
    Await(server_.options_.read_timeout_ms);
    if (!beast::iequals(parser_->get()[http::field::expect], "100-continue")) return ReadBody();
    continue_ = {};
    continue_.version(11);
    continue_.result(http::status::continue_);
    http::async_write(stream_, continue_, [self = shared_from_this()](beast::error_code failed, size_t) {
      if (failed)
        self->Broken(failed);
      else
        self->ReadBody();
    });
  }

  void ReadBody() {
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](beast::error_code error, size_t) {
      self->Arrived();
      if (error)
        self->Broken(error);
      else
        self->Serve();
    });
  }

  // A request that cannot be read: the client is told, then the connection closes. An idle connection closes without a word.
  void Broken(beast::error_code error) {
    Arrived();
    keep_alive_ = false;
    if (late_ && (parser_->got_some() || buffer_.size() > 0))
      return Write(Problem(408, "the request did not arrive in time; send it again, all of it at once", "/"));
    if (error == http::error::body_limit)
      return Write(Problem(413, fmt::format("the body is larger than {} bytes", server_.options_.max_body_bytes), "/"));
    if (error == http::error::header_limit)
      return Write(Problem(431, fmt::format("the header is larger than {} bytes", server_.options_.max_header_bytes), "/"));
    const bool malformed = error.category() == http::make_error_code(http::error::bad_method).category() &&
                           error != http::error::end_of_stream && error != http::error::partial_message;
    if (malformed) return Write(Problem(400, "the request is no HTTP/1.1: " + error.message(), "/"));
    End();
  }

  void Serve() {
    auto message = parser_->release();
    ApiRequest request;
    request.method = Text(message.method_string());
    head_ = request.method == "HEAD";
    if (head_) request.method = "GET";
    request.target = Text(message.target());
    request.content_type = LowerMediaType(Text(message[http::field::content_type]));
    request.idempotency_key = Text(message["Idempotency-Key"]);
    request.body = std::move(message.body());
    const std::string target = request.target;
    if (const auto origin = message.find(http::field::origin);
        origin != message.end() &&
        !IsOwnOrigin(Text(origin->value()), Text(message[http::field::host]), server_.host_name_, server_.options_.allowed_origins))
      return Write(Problem(403,
                           fmt::format("the request comes from a web page of {}, which is not this coordinator's; start the "
                                       "coordinator with --allow-origin {} if that page may command it",
                                       Text(origin->value()), Text(origin->value())),
                           target));
    if (!ParseTarget(target, request.path, request.query)) return Write(Problem(400, "the request target cannot be read", target));
    auto respond = [session = weak_from_this(), server = server_.weak_from_this()](ApiResponse response) {
      const auto alive = server.lock();
      if (alive == nullptr) return;
      alive->Post([session, response = std::move(response)]() mutable {
        if (const auto self = session.lock()) self->Write(std::move(response));
      });
    };
    server_.handler_(std::move(request), std::move(respond));
  }

  void Write(ApiResponse response) {
    response_ = {};
    response_.version(version_);
    response_.result(static_cast<unsigned>(response.status));
    response_.set(http::field::server, "plateau");
    response_.set(http::field::content_type, response.content_type);
    response_.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : response.headers) response_.set(name, value);
    response_.keep_alive(keep_alive_);
    response_.content_length(response.body.size());
    if (!head_) response_.body() = std::move(response.body);
    serializer_.emplace(response_);
    stream_.expires_after(std::chrono::milliseconds(server_.options_.write_timeout_ms));
    const auto done = [self = shared_from_this()](beast::error_code error, size_t) {
      if (error || !self->keep_alive_) return self->Close();
      self->ReadHeader(self->server_.options_.idle_timeout_ms);
    };
    if (head_)
      http::async_write_header(stream_, *serializer_, done);
    else
      http::async_write(stream_, *serializer_, done);
  }

  void Close() {
    beast::error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    // What the client still sends is taken for a moment, so that a reset does not destroy the answer on its way.
    drain_left_ = 64;
    Drain();
  }

  void Drain() {
    if (drain_left_-- == 0) return End();
    stream_.expires_after(std::chrono::milliseconds(1'000));
    stream_.async_read_some(asio::buffer(drained_), [self = shared_from_this()](beast::error_code error, size_t) {
      if (error)
        self->End();
      else
        self->Drain();
    });
  }

  void End() {
    timer_.cancel();
    server_.sessions_.erase(shared_from_this());
  }

  Impl& server_;
  beast::tcp_stream stream_;
  asio::steady_timer timer_;
  uint64_t waits_ = 0;  // numbers the readings, so that a timer of an earlier one is not heeded
  bool late_ = false;   // the reading was ended by its timer
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::empty_body> continue_;
  http::response<http::string_body> response_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
  unsigned version_ = 11;
  bool keep_alive_ = true;
  bool head_ = false;
  int drain_left_ = 0;
  std::array<char, 16 << 10> drained_{};
};

Status HttpServer::Impl::Listen() {
  const auto colon = options_.address.rfind(':');
  unsigned port = 0;
  std::string host = options_.address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  beast::error_code error;
  const auto address = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
  if (colon == std::string::npos || error || std::sscanf(options_.address.c_str() + colon + 1, "%u", &port) != 1 || port > 65535)
    return Fail(ErrorCode::kInvalidInput, "http address '{}': write IP:PORT, such as 127.0.0.1:7080", options_.address);
  const tcp::endpoint endpoint(address, static_cast<unsigned short>(port));
  acceptor_.open(endpoint.protocol(), error);
  if (!error) ::fcntl(acceptor_.native_handle(), F_SETFD, FD_CLOEXEC);
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return Fail(error == asio::error::address_in_use ? ErrorCode::kConflict : ErrorCode::kIo,
                "http address {}: cannot listen: {}; choose another with --http", options_.address, error.message());
  }
  const auto bound = acceptor_.local_endpoint();
  endpoint_ =
      bound.address().is_v6() ? fmt::format("http://[{}]:{}", host, bound.port()) : fmt::format("http://{}:{}", host, bound.port());
  return {};
}

void HttpServer::Impl::Run() {
  Accept();
  thread_ = std::thread([this] { context_.run(); });
}

void HttpServer::Impl::Shutdown() {
  context_.stop();
  if (thread_.joinable()) thread_.join();
  sessions_.clear();
}

void HttpServer::Impl::After(int64_t delay_ms, std::function<void()> work) {
  auto timer = std::make_shared<asio::steady_timer>(context_, std::chrono::milliseconds(delay_ms));
  timer->async_wait([timer, work = std::move(work)](beast::error_code error) {
    if (!error) work();
  });
}

void HttpServer::Impl::Accept() {
  acceptor_.async_accept([this](beast::error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (!error) {
      ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC);
      const bool refused = sessions_.size() >= static_cast<size_t>(options_.max_connections);
      const auto session = std::make_shared<Session>(*this, std::move(socket));
      sessions_.insert(session);
      session->Start(refused);
      return Accept();
    }
    LogWarning("http: cannot accept a connection: {}", error.message());
    After(100, [this] { Accept(); });  // out of file descriptors: not in a tight loop
  });
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { impl_->Shutdown(); }

Result<std::unique_ptr<HttpServer>> HttpServer::Listen(const HttpServerOptions& options, Handler handler) {
  auto impl = std::make_shared<Impl>(options, std::move(handler));
  PLATEAU_TRY(impl->Listen());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

const std::string& HttpServer::endpoint() const { return impl_->endpoint(); }
IoThread& HttpServer::io() { return *impl_; }
void HttpServer::Run() { impl_->Run(); }

}  // namespace plateau
