// Cancelling and ordering checkpoints against a fake coordinator that changes its mind between two answers.
#include "coordinator/cli/control_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/fake_http_server.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;

std::string Job(const std::string& state, int last_event = 3) {
  return nlohmann::json{{"id", "a-1"},
                        {"state", state},
                        {"output", "/runs/a-1"},
                        {"checkpoint", {{"path", "attempt-1/step-000000007"}, {"step", 7}}},
                        {"checkpoint_order", {{"number", 2}, {"open", true}}},
                        {"last_event", last_event}}
      .dump();
}

ApiClient Client(const FakeHttpServer& server) { return ApiClient(ParseEndpoint(server.Url()).value()); }

TEST(CancelAndWait, AJobThatEndedMeanwhileIsDone) {
  FakeHttpServer server([](const FakeRequest& request) {
    if (request.method == "POST") return FakeAnswer{409, R"({"detail":"job a-1 is already COMPLETED"})", ""};
    return FakeAnswer{200, Job("COMPLETED"), ""};
  });
  const auto done = CancelAndWait(Client(server), "a-1");
  EXPECT_TRUE(done.has_value()) << done.error().message;
  EXPECT_EQ(server.Requests().size(), 2u);
}

TEST(CancelAndWait, WaitsForTheEndEventByEvent) {
  int polls = 0;
  FakeHttpServer server([&](const FakeRequest& request) {
    if (request.method == "POST") return FakeAnswer{202, Job("STOPPING"), ""};
    if (request.target.find("/events?after=3") == std::string::npos)
      return FakeAnswer{200, Job(polls < 2 ? "STOPPING" : "CANCELLED"), ""};
    ++polls;
    return FakeAnswer{200, R"({"events":[],"last":3})", ""};
  });
  EXPECT_TRUE(CancelAndWait(Client(server), "a-1").has_value());
  EXPECT_EQ(polls, 2);
}

TEST(CancelAndWait, OtherRefusalsAreErrors) {
  FakeHttpServer server([](const FakeRequest&) { return FakeAnswer{404, R"({"detail":"there is no job a-1"})", ""}; });
  EXPECT_FALSE(CancelAndWait(Client(server), "a-1").has_value());
}

TEST(OrderCheckpoint, AnswersWithThePublicationThatObeysTheOrder) {
  FakeHttpServer server([](const FakeRequest& request) {
    if (request.method == "POST") return FakeAnswer{202, Job("RUNNING"), ""};
    const auto event = [](int seq, int order) {
      return fmt::format(R"({{"seq":{},"type":"published","path":"attempt-1/step-{}","order":{}}})", seq, seq, order);
    };
    if (request.target.find("after=3") != std::string::npos)
      return FakeAnswer{200, R"({"events":[)" + event(4, 1) + R"(],"last":4})", ""};
    if (request.target.find("after=4") != std::string::npos)
      return FakeAnswer{200, R"({"events":[)" + event(5, 2) + R"(],"last":5})", ""};
    return FakeAnswer{200, Job("RUNNING"), ""};
  });
  const auto published = OrderCheckpoint(Client(server), "a-1");
  ASSERT_TRUE(published.has_value()) << published.error().message;
  EXPECT_EQ(published->at("path"), "attempt-1/step-5");
}

TEST(OrderCheckpoint, AJobThatStopsBeforeIsAnErrorThatNamesItsNewestCheckpoint) {
  FakeHttpServer server([](const FakeRequest& request) {
    if (request.method == "POST") return FakeAnswer{202, Job("RUNNING"), ""};
    if (request.target.find("/events") != std::string::npos) return FakeAnswer{200, R"({"events":[],"last":3})", ""};
    return FakeAnswer{200, Job("PAUSED"), ""};
  });
  const auto published = OrderCheckpoint(Client(server), "a-1");
  ASSERT_FALSE(published.has_value());
  EXPECT_EQ(published.error().code, ErrorCode::kConflict);
  EXPECT_THAT(published.error().message, HasSubstr("/runs/a-1/attempt-1/step-000000007"));
}

}  // namespace
}  // namespace plateau
