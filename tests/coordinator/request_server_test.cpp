// REST's requests over real ZeroMQ sockets: frames, broken frames, limits, answers that come late.
#include "coordinator/link/request_server.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/link/request_frame.h"
#include "tests/support/zmq_client.h"

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

FramedRequest Read(const json& request) {
  auto read = ReadRequestFrame(request.dump(), 1'000);
  EXPECT_TRUE(std::holds_alternative<FramedRequest>(read)) << request.dump();
  return std::holds_alternative<FramedRequest>(read) ? std::get<FramedRequest>(read) : FramedRequest{};
}

BrokenRequest Broken(const std::string& text) {
  auto read = ReadRequestFrame(text, 1'000);
  EXPECT_TRUE(std::holds_alternative<BrokenRequest>(read)) << text.substr(0, 100);
  return std::holds_alternative<BrokenRequest>(read) ? std::get<BrokenRequest>(read) : BrokenRequest{};
}

TEST(RequestFrame, IsTheRequestThatHttpWouldBring) {
  const auto plain =
      Read({{"id", 7}, {"path", "/v1/jobs/a%2Fb/events?after=3&wait=0"}, {"query", {{"wait", 30}, {"force", true}}}});
  EXPECT_EQ(plain.id, "7");
  EXPECT_EQ(plain.request.method, "GET");
  EXPECT_THAT(plain.request.path, ::testing::ElementsAre("v1", "jobs", "a/b", "events"));
  EXPECT_EQ(plain.request.query.at("after"), "3");
  EXPECT_EQ(plain.request.query.at("wait"), "30") << "the object goes before what stands in the path";
  EXPECT_EQ(plain.request.query.at("force"), "true");
  const auto yaml = Read({{"id", "x\n"},
                          {"method", "POST"},
                          {"path", "/v1/jobs"},
                          {"headers", {{"content-TYPE", "Application/YAML; charset=utf-8"}, {"IDEMPOTENCY-KEY", "k"}}},
                          {"body", "version: 1\n"}});
  EXPECT_EQ(yaml.id, "\"x\\n\"");
  EXPECT_EQ(yaml.request.content_type, "application/yaml");
  EXPECT_EQ(yaml.request.idempotency_key, "k");
  EXPECT_EQ(yaml.request.body, "version: 1\n");
  const auto value = Read({{"path", "/v1/jobs"}, {"method", "POST"}, {"body", {{"version", 1}}}});
  EXPECT_EQ(value.id, "null");
  EXPECT_EQ(value.request.content_type, "application/json");
  EXPECT_EQ(value.request.body, R"({"version":1})");
  EXPECT_TRUE(Read({{"method", "HEAD"}, {"path", "/healthz"}, {"body", nullptr}, {"query", nullptr}}).head);
}

TEST(RequestFrame, WhatIsNoRequestIsExplained) {
  for (const auto& [text, status, detail] : {std::tuple(std::string(), 400, "one frame of JSON"),
                                             {"[1]", 400, "one frame of JSON"},
                                             {"{\"path\":", 400, "one frame of JSON"},
                                             {"{}", 400, "path"},
                                             {R"({"path":"v1"})", 400, "path"},
                                             {R"({"path":"/%zz"})", 400, "path"},
                                             {R"({"path":1})", 400, "not text"},
                                             {R"({"path":"/","methud":"GET"})", 400, "methud"},
                                             {R"({"path":"/","query":[1]})", 400, "query"},
                                             {R"({"path":"/","headers":{"a":{}}})", 400, "headers"},
                                             {R"({"path":"/","id":[1]})", 400, "id"},
                                             {R"({"path":"/","body":")" + std::string(1'001, 'a') + "\"}", 413, "larger"},
                                             {std::string(100'000, '[') + std::string(100'000, ']'), 400, "nested"}}) {
    const auto broken = Broken(text);
    EXPECT_EQ(broken.answer.status, status) << text.substr(0, 50);
    EXPECT_EQ(broken.answer.content_type, "application/problem+json");
    EXPECT_THAT(json::parse(broken.answer.body).at("detail").get<std::string>(), HasSubstr(detail)) << text.substr(0, 50);
  }
  EXPECT_EQ(Broken(R"({"id":5,"path":1})").id, "5") << "the asker knows which of its requests it was";
}

TEST(AnswerFrame, CarriesEveryKindOfBodyUnchanged) {
  std::string bytes;
  for (int i = 0; i < 700; ++i) bytes += static_cast<char>(i * 7);
  for (const auto& [type, body] : {std::pair<std::string, std::string>("application/json", R"({"b":[1,2.5,null],"a":"ü"})"),
                                   {"application/problem+json", R"({"detail":"no"})"},
                                   {"text/plain; charset=utf-8", "line \"one\"\nzwei ü\t"},
                                   {"text/plain; charset=utf-8", "\xbc the second half of a character"},
                                   {"text/plain", bytes},
                                   {"text/plain", bytes + "1"},
                                   {"text/plain", bytes + "12"},
                                   {"text/plain", ""}}) {
    const std::string frame =
        WriteAnswerFrame("1", {.status = 200, .content_type = type, .headers = {{"Plateau-Attempt", "2"}}, .body = body}, false);
    EXPECT_TRUE(json::accept(frame)) << frame;
    const auto answer = ReadAnswerFrame(frame);
    ASSERT_TRUE(answer.has_value()) << answer.error().message;
    EXPECT_EQ(answer->id, 1);
    EXPECT_EQ(answer->body, body);
    EXPECT_EQ(answer->headers.at("plateau-attempt"), "2");
    EXPECT_EQ(answer->headers.at("content-type"), type);
    EXPECT_EQ(json::parse(WriteAnswerFrame("1", {.content_type = type, .body = body}, true)).contains("body"), false);
  }
  EXPECT_TRUE(json::parse(WriteAnswerFrame("null", {.body = "{\"a\":1}"}, false)).at("body").is_object());
  EXPECT_FALSE(ReadAnswerFrame("{}").has_value());
  EXPECT_FALSE(ReadAnswerFrame("HTTP/1.1 400").has_value());
}

// Answers with what it was asked; paths below /late are answered when the test says.
class RequestServerTest : public ::testing::Test {
 protected:
  void Start(RequestServerOptions options = {}) {
    options.address = "tcp://127.0.0.1:0";
    auto server = RequestServer::Start(options, [this](ApiRequest request, ApiRespond respond) {
      if (request.target.starts_with("/late")) {
        const std::lock_guard lock(mutex_);
        late_.push_back(std::move(respond));
        came_.notify_all();
        return;
      }
      respond({.body = json{{"asked", request.method + " " + request.target + " " + request.body}}.dump()});
    });
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
  }
  void AwaitLate(size_t count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(came_.wait_for(lock, std::chrono::seconds(30), [&] { return late_.size() >= count; }));
  }
  static json Get(const std::string& path, int id = 1) { return {{"id", id}, {"path", path}}; }

  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<ApiRespond> late_;  // guarded by mutex_
  std::unique_ptr<RequestServer> server_;
};

TEST_F(RequestServerTest, ADealerAsksManyThingsAtOnceAndMatchesAnswersById) {
  Start();
  RawZmq client(server_->endpoint());
  for (int i = 0; i < 50; ++i) client.Send(Get("/x", i));
  for (int i = 0; i < 50; ++i) {
    const auto answer = client.Receive();
    EXPECT_EQ(answer.at("id"), i);
    EXPECT_EQ(answer.at("status"), 200);
    EXPECT_EQ(answer.at("headers").at("Content-Type"), "application/json");
    EXPECT_EQ(answer.at("body").at("asked"), "GET /x ");
  }
}

TEST_F(RequestServerTest, AReqSocketIsAnsweredWithItsEmptyFrame) {
  Start();
  RawZmq client(server_->endpoint(), zmq::socket_type::req);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Ask(Get("/x", i)).at("id"), i);
}

TEST_F(RequestServerTest, BrokenMessagesAreAnsweredAndTheServerGoesOn) {
  Start();
  RawZmq client(server_->endpoint());
  for (const std::vector<std::string>& frames : {std::vector<std::string>{""},
                                                 {"nonsense"},
                                                 {"{}", "{}"},
                                                 {"", "{}", "{}"},
                                                 {"1", "2", "3", "4", "5", "6"},
                                                 {std::string(200'000, '[')},
                                                 {"\xff\xfe"}}) {
    client.SendFrames(frames);
    const auto answer = client.Receive();
    EXPECT_EQ(answer.at("status"), 400);
    EXPECT_TRUE(answer.at("id").is_null());
    EXPECT_TRUE(answer.at("body").at("detail").is_string());
  }
  EXPECT_EQ(client.Ask(Get("/x")).at("status"), 200);
}

TEST_F(RequestServerTest, AHugeMessageIsRefusedAndOthersAreServed) {
  Start({.max_body_bytes = 1'000, .max_message_bytes = 100'000});
  RawZmq large(server_->endpoint()), other(server_->endpoint());
  EXPECT_EQ(large.Ask({{"path", "/x"}, {"body", std::string(2'000, 'a')}}).at("status"), 413);
  large.socket().set(zmq::sockopt::rcvtimeo, 300);
  large.SendFrames({std::string(200'000, 'a')});
  zmq::message_t none;
  EXPECT_FALSE(large.socket().recv(none).has_value()) << "its connection was closed";
  EXPECT_EQ(other.Ask(Get("/x")).at("status"), 200);
}

TEST_F(RequestServerTest, LateAnswersHoldNobodyUpAndFindTheirWay) {
  Start();
  RawZmq waiting(server_->endpoint()), other(server_->endpoint());
  for (int i = 0; i < 20; ++i) waiting.Send(Get("/late", i));
  AwaitLate(20);
  EXPECT_EQ(other.Ask(Get("/x")).at("status"), 200);
  EXPECT_EQ(waiting.Ask(Get("/x", 99)).at("id"), 99) << "also on the same socket";
  std::thread([this] {
    for (auto& respond : late_) respond({.body = "{}"});
  }).join();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(waiting.Receive().at("id"), i);
}

TEST_F(RequestServerTest, TooManyOpenRequestsAreTurnedAwayUntilOneIsAnsweredOrForgotten) {
  Start({.max_in_flight = 3});
  RawZmq client(server_->endpoint());
  for (int i = 0; i < 3; ++i) client.Send(Get("/late", i));
  AwaitLate(3);
  EXPECT_EQ(client.Ask(Get("/x")).at("status"), 503);
  {
    const std::lock_guard lock(mutex_);
    late_[0]({.body = "{}"});
    late_.clear();  // two are never answered
  }
  EXPECT_EQ(client.Receive().at("id"), 0);
  EXPECT_EQ(client.Ask(Get("/x")).at("status"), 200);
}

TEST_F(RequestServerTest, AClientThatReadsSlowlyGetsEveryAnswerInOrder) {
  Start({.max_answers_per_peer = 2});
  RawZmq slow(server_->endpoint()), other(server_->endpoint());
  slow.socket().set(zmq::sockopt::rcvhwm, 1);  // holds for connections made from now on
  slow.socket().disconnect(server_->endpoint());
  slow.socket().connect(server_->endpoint());
  const std::string long_path = "/" + std::string(10'000, 'x');
  constexpr int kRequests = 1'500;
  for (int i = 0; i < kRequests; ++i) slow.Send(Get(long_path, i));
  EXPECT_EQ(other.Ask(Get("/x")).at("status"), 200) << "others are served meanwhile";
  for (int i = 0; i < kRequests; ++i) ASSERT_EQ(slow.Receive().at("id"), i);
}

TEST_F(RequestServerTest, OfAClientThatNeverReadsABoundedAmountIsHeld) {
  Start({.max_answers_per_peer = 2, .max_held_bytes = 100'000});
  RawZmq never(server_->endpoint()), other(server_->endpoint());
  const std::string long_path = "/" + std::string(100'000, 'x');
  for (int i = 0; i < 2'000; ++i) never.Send(Get(long_path, i));  // 200 MB of answers, more than any buffer on the way
  for (int i = 0; i < 10; ++i) EXPECT_EQ(other.Ask(Get("/x")).at("status"), 200);
  int received = 0;
  never.socket().set(zmq::sockopt::rcvtimeo, 2'000);
  for (zmq::message_t text; never.socket().recv(text);) ++received;
  EXPECT_LT(received, 2'000);
}

TEST_F(RequestServerTest, AnAnswerAfterTheEndIsDropped) {
  Start();
  RawZmq client(server_->endpoint());
  client.Send(Get("/late"));
  AwaitLate(1);
  server_.reset();
  late_[0]({.body = "{}"});
}

TEST_F(RequestServerTest, ATakenAddressIsNamed) {
  Start();
  const auto second = RequestServer::Start({.address = server_->endpoint()}, [](ApiRequest, ApiRespond) {});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr("--zmq"));
  for (const char* address : {"nowhere", "127.0.0.1:", "tcp://no.such.host.example:1"})
    EXPECT_FALSE(RequestServer::Start({.address = address}, [](ApiRequest, ApiRespond) {}).has_value()) << address;
}

}  // namespace
}  // namespace plateau::test
