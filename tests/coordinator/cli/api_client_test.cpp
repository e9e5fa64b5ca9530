// The HTTP client, problem documents and abbreviated job names.
#include "coordinator/cli/api_client.h"

#include <atomic>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/fake_http_server.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;

ApiClient ClientOf(const FakeHttpServer& server) { return ApiClient(ParseEndpoint(server.Url()).value()); }

TEST(Endpoint, ReadsHostAndPortAndRefusesTheRest) {
  EXPECT_EQ(ParseEndpoint("http://node7:81/")->Url(), "http://node7:81");
  EXPECT_EQ(ParseEndpoint("127.0.0.1:7080")->port, "7080");
  EXPECT_EQ(ParseEndpoint("http://node7")->port, "7080");
  EXPECT_EQ(ParseEndpoint("http://[::1]:99")->Url(), "http://[::1]:99");
  for (const char* bad : {"", "https://x", "http://:7080", "http://x:y", "http://x:99999", "http://x/path", "http://[::1"})
    EXPECT_FALSE(ParseEndpoint(bad).has_value()) << bad;
}

TEST(HttpClient, SendsBodyAndHeadersAndReadsTheAnswer) {
  FakeHttpServer server([](const FakeRequest&) { return FakeAnswer{201, R"({"id":"a-1"})", "Location: /v1/jobs/a-1\r\n"}; });
  const auto answer = ClientOf(server).Post("/v1/jobs", "{\"x\":1}", {{"Idempotency-Key", "k"}});
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_EQ((*answer)["id"], "a-1");
  const auto requests = server.Requests();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].method, "POST");
  EXPECT_EQ(requests[0].body, "{\"x\":1}");
  EXPECT_EQ(requests[0].headers.at("Idempotency-Key"), "k");
}

TEST(HttpClient, SaysHowToStartACoordinatorWhenNobodyListens) {
  std::string url;
  {
    FakeHttpServer gone([](const FakeRequest&) { return FakeAnswer{}; });
    url = gone.Url();
  }
  const auto answer = ApiClient(ParseEndpoint(url).value()).Get("/v1/jobs");
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(answer.error().message, "no coordinator at " + url + "; start one with `plateau up`");
}

TEST(HttpClient, GivesUpAtItsDeadline) {
  std::atomic<bool> leave = false;
  FakeHttpServer server([&](const FakeRequest&) {
    leave.wait(false);
    return FakeAnswer{};
  });
  const auto answer = ClientOf(server).GetRaw("/slow", 200);
  leave = true;
  leave.notify_all();
  ASSERT_FALSE(answer.has_value());
  EXPECT_THAT(answer.error().message, HasSubstr("no answer in time"));
}

TEST(ApiClient, TurnsAProblemDocumentIntoAnErrorThatNamesTheField) {
  FakeHttpServer server([](const FakeRequest&) {
    return FakeAnswer{
        422, R"({"type":"about:blank","title":"bad","status":422,"detail":"1.5 is not below 1","field":"training.momentum"})", ""};
  });
  const auto answer = ClientOf(server).Post("/v1/jobs");
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kInvalidInput);
  EXPECT_EQ(answer.error().message, "training.momentum: 1.5 is not below 1");
}

TEST(ApiClient, MapsStatusesToKindsOfErrors) {
  const auto code = [](int status) { return ToStatus({status, {}, "{}"}, "/x").error().code; };
  EXPECT_EQ(code(404), ErrorCode::kNotFound);
  EXPECT_EQ(code(409), ErrorCode::kConflict);
  EXPECT_EQ(code(503), ErrorCode::kUnavailable);
  EXPECT_EQ(code(500), ErrorCode::kInternal);
  EXPECT_TRUE(ToStatus({202, {}, "{}"}, "/x").has_value());
}

TEST(ApiClient, RefusesAnAnswerThatIsNotJson) {
  FakeHttpServer server([](const FakeRequest&) { return FakeAnswer{200, "<html>", ""}; });
  EXPECT_THAT(ClientOf(server).Get("/v1/jobs").error().message, HasSubstr("not JSON"));
}

TEST(MatchJob, TakesIdsNamesAndUnambiguousBeginnings) {
  const std::vector<std::string> ids{"vgg-a-tiny-3", "vgg-a-tiny-2", "vgg-a-1", "alex-1"};
  EXPECT_EQ(*MatchJob("vgg-a-tiny-2", ids), "vgg-a-tiny-2");
  EXPECT_EQ(*MatchJob("last", ids), "vgg-a-tiny-3");
  EXPECT_EQ(*MatchJob("al", ids), "alex-1");
  EXPECT_EQ(*MatchJob("vgg-a", ids), "vgg-a-1");  // the only run of that name, though others begin with it
  EXPECT_THAT(MatchJob("vgg-a-tiny", ids).error().message, HasSubstr("vgg-a-tiny-3, vgg-a-tiny-2"));
  EXPECT_EQ(MatchJob("vgg", ids).error().code, ErrorCode::kInvalidInput);
  EXPECT_THAT(MatchJob("alez-1", ids).error().message, HasSubstr("did you mean alex-1"));
  EXPECT_EQ(MatchJob("last", {}).error().code, ErrorCode::kNotFound);
}

TEST(EscapeUrl, KeepsPlainCharactersOnly) { EXPECT_EQ(EscapeUrl("a-1._~ /é"), "a-1._~%20%2F%C3%A9"); }

}  // namespace
}  // namespace plateau
