// The HTTP server over real loopback sockets: limits, timeouts, kept connections, answers that come late.
#include "coordinator/http/http_server.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/http/origin.h"
#include "tests/support/raw_http.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

// Answers with what it was asked; targets that begin with /late are answered when the test says.
class HttpServerTest : public ::testing::Test {
 protected:
  void Listen(HttpServerOptions options) {
    options.address = "127.0.0.1:0";
    auto server = HttpServer::Listen(options, [this](ApiRequest request, ApiRespond respond) {
      if (request.target.starts_with("/late")) {
        late_.push_back(std::move(respond));
        return;
      }
      ApiResponse response;
      response.content_type = "text/plain";
      response.body =
          request.method + " " + request.target + " " + request.content_type + " " + request.idempotency_key + " " + request.body;
      respond(std::move(response));
    });
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
    server_->Run();
  }

  std::vector<ApiRespond> late_;  // the server's thread's own
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, ServesManyRequestsOnOneConnection) {
  Listen({});
  RawHttp client(server_->endpoint());
  for (int i = 0; i < 50; ++i) {
    const auto answer = client.Ask("POST", "/x", "Content-Type: Application/JSON; charset=utf-8\r\nIdempotency-Key: k\r\n",
                                   "body " + std::to_string(i));
    ASSERT_EQ(answer.status, 200);
    ASSERT_EQ(answer.body, "POST /x application/json k body " + std::to_string(i));
  }
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  Listen({});
  RawHttp client(server_->endpoint());
  client.Send("GET /1 HTTP/1.1\r\nHost: t\r\n\r\nGET /2 HTTP/1.1\r\nHost: t\r\n\r\n");
  EXPECT_THAT(client.Receive().body, HasSubstr("/1"));
  EXPECT_THAT(client.Receive().body, HasSubstr("/2"));
}

TEST_F(HttpServerTest, HeadHasTheLengthAndNoBody) {
  Listen({});
  RawHttp client(server_->endpoint());
  const auto head = client.Ask("HEAD", "/abc");
  EXPECT_EQ(head.status, 200);
  EXPECT_TRUE(head.Has("Content-Length: 11"));  // "GET /abc" and three spaces
  EXPECT_THAT(client.Ask("GET", "/next").body, HasSubstr("GET /next")) << "the connection is still in step";
}

TEST_F(HttpServerTest, AnHttp10ClientIsAnsweredAndLetGo) {
  Listen({});
  RawHttp client(server_->endpoint());
  client.Send("GET /old HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 200);
  EXPECT_TRUE(client.IsClosed());
}

TEST_F(HttpServerTest, ABodyOverTheLimitIs413) {
  Listen({.max_body_bytes = 1'000});
  RawHttp announced(server_->endpoint());
  EXPECT_EQ(announced.Ask("POST", "/x", {}, std::string(1'001, 'a')).status, 413);
  RawHttp chunked(server_->endpoint());
  chunked.Send("POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" + std::string(0x800, 'a') +
               "\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.Receive().status, 413);
  RawHttp fits(server_->endpoint());
  EXPECT_EQ(fits.Ask("POST", "/x", {}, std::string(1'000, 'a')).status, 200);
}

TEST_F(HttpServerTest, AHeaderOverTheLimitIs431) {
  Listen({});
  RawHttp client(server_->endpoint());
  EXPECT_EQ(client.Ask("GET", "/x", "X-Long: " + std::string(20'000, 'a') + "\r\n").status, 431);
}

TEST_F(HttpServerTest, WhatIsNoHttpIs400) {
  Listen({});
  for (const char* bytes : {"nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET noslash HTTP/1.1\r\nHost: t\r\n\r\n",
                            "GET /%zz HTTP/1.1\r\nHost: t\r\n\r\n"}) {
    RawHttp client(server_->endpoint());
    client.Send(bytes);
    const auto answer = client.Receive();
    EXPECT_EQ(answer.status, 400) << bytes;
    EXPECT_TRUE(answer.Has("application/problem+json"));
  }
}

TEST_F(HttpServerTest, ARequestThatDoesNotArriveEndsItsConnection) {
  Listen({.read_timeout_ms = 100});
  RawHttp client(server_->endpoint());
  client.Send("POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
  const auto answer = client.Receive();
  EXPECT_EQ(answer.status, 408);
  EXPECT_THAT(answer.body, HasSubstr("did not arrive in time"));
  EXPECT_TRUE(client.IsClosed());
  RawHttp header(server_->endpoint());
  header.Send("GET /x HTTP/1.1\r\nHos");
  EXPECT_EQ(header.Receive().status, 408);
  RawHttp silent(server_->endpoint());
  EXPECT_EQ(silent.Receive().status, 0) << "who says nothing is told nothing";
}

TEST_F(HttpServerTest, AStrangePageIsRefusedAndTheServersOwnIsNot) {
  Listen({.allowed_origins = {"https://plateau.example"}});
  RawHttp client(server_->endpoint());
  const auto from = [&](const std::string& origin) {
    return client.Ask("POST", "/x", "Origin: " + origin + "\r\nContent-Length: 0\r\n");
  };
  const auto refused = from("http://evil.example");
  EXPECT_EQ(refused.status, 403);
  EXPECT_TRUE(refused.Has("application/problem+json"));
  EXPECT_THAT(refused.body, HasSubstr("--allow-origin http://evil.example"));
  EXPECT_EQ(from("null").status, 403) << "a file, or a sandboxed frame";
  EXPECT_EQ(from("https://plateau.example").status, 200);
  EXPECT_EQ(client.Ask("POST", "/x", "Content-Length: 0\r\n").status, 200) << "no browser";
  RawHttp own(server_->endpoint());
  const std::string host = server_->endpoint().substr(7);
  own.Send("POST /x HTTP/1.1\r\nHost: " + host + "\r\nOrigin: http://" + host + "\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(own.Receive().status, 200);
}

TEST(IsOwnOrigin, KnowsAddressesAndTheMachinesNamesOnly) {
  const auto own = [](const std::string& origin, const std::string& host) { return IsOwnOrigin(origin, host, "node-1", {}); };
  for (const char* host : {"127.0.0.1:7080", "localhost:9999", "10.1.2.3", "[::1]:7080", "[::1]", "NODE-1:7080", "node-1.lab:7080"})
    EXPECT_TRUE(own(std::string("http://") + host, host)) << host;
  EXPECT_FALSE(own("http://127.0.0.1:8080", "127.0.0.1:7080")) << "another server's page";
  EXPECT_FALSE(own("https://127.0.0.1:7080", "127.0.0.1:7080"));
  EXPECT_FALSE(own("http://rebound.evil:7080", "rebound.evil:7080")) << "a name that was pointed here";
  EXPECT_FALSE(own("http://node-10:7080", "node-10:7080"));
  EXPECT_FALSE(own("http://", ""));
  EXPECT_FALSE(own("null", "127.0.0.1:7080"));
}

TEST_F(HttpServerTest, AnIdleConnectionIsClosedWithoutAWord) {
  Listen({.idle_timeout_ms = 100});
  RawHttp client(server_->endpoint());
  EXPECT_EQ(client.Ask("GET", "/x").status, 200);
  EXPECT_EQ(client.Receive().status, 0);
}

TEST_F(HttpServerTest, ContinueIsSaidToWhoWaitsForIt) {
  Listen({});
  RawHttp client(server_->endpoint());
  client.Send("POST /x HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 100);
  client.Send("abc");
  EXPECT_THAT(client.Receive().body, HasSubstr("abc"));
}

TEST_F(HttpServerTest, LateAnswersHoldNobodyUp) {
  Listen({});
  std::vector<std::unique_ptr<RawHttp>> waiting;
  for (int i = 0; i < 20; ++i) {
    waiting.push_back(std::make_unique<RawHttp>(server_->endpoint()));
    waiting.back()->Send("GET /late HTTP/1.1\r\nHost: t\r\n\r\n");
  }
  RawHttp other(server_->endpoint());
  EXPECT_EQ(other.Ask("GET", "/x").status, 200);
  // The answers come from another thread, through the server's.
  while (true) {
    std::atomic<size_t> count = 0;
    std::atomic<bool> counted = false;
    server_->io().Post([&] { count = late_.size(), counted = true, counted.notify_one(); });
    counted.wait(false);
    if (count == 20) break;
  }
  std::thread([this] {
    for (auto& respond : late_) respond(ApiResponse{.body = "{}"});
  }).join();
  for (auto& client : waiting) EXPECT_EQ(client->Receive().status, 200);
}

TEST_F(HttpServerTest, TooManyConnectionsAreTurnedAway) {
  Listen({.max_connections = 2});
  RawHttp first(server_->endpoint()), second(server_->endpoint());
  EXPECT_EQ(first.Ask("GET", "/x").status, 200);
  EXPECT_EQ(second.Ask("GET", "/x").status, 200);
  RawHttp third(server_->endpoint());
  EXPECT_EQ(third.Receive().status, 503);
  EXPECT_EQ(first.Ask("GET", "/x").status, 200);
}

TEST_F(HttpServerTest, ATakenAddressIsNamed) {
  Listen({});
  const std::string address = server_->endpoint().substr(7);
  const auto second = HttpServer::Listen({.address = address}, [](ApiRequest, ApiRespond) {});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr(address));
  EXPECT_FALSE(HttpServer::Listen({.address = "nowhere"}, [](ApiRequest, ApiRespond) {}).has_value());
}

TEST(ParseTarget, DecodesPathAndQuery) {
  std::vector<std::string> path;
  std::map<std::string, std::string> query;
  ASSERT_TRUE(ParseTarget("/v1/jobs/a%2Fb/logs?file=x+y&offset=5&list", path, query));
  EXPECT_THAT(path, ::testing::ElementsAre("v1", "jobs", "a/b", "logs"));
  EXPECT_EQ(query["file"], "x y");
  EXPECT_EQ(query["offset"], "5");
  EXPECT_TRUE(query.contains("list"));
}

}  // namespace
}  // namespace plateau::test
