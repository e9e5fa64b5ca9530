// `plateau node` against a fake coordinator: what is sent, what is printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/fake_http_server.h"
#include "tests/support/house.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

constexpr const char* kNode = R"({"name":"n1","cores":16,"used_cores":4,"state":"LOST","message":"no route to n1","jobs":[]})";

TEST(NodeCommand, AddSendsNameAndCores) {
  FakeHttpServer server([](const FakeRequest&) { return FakeAnswer{201, kNode, ""}; });
  const Ran run = RunPlateau("node add n1 --cores 16 --endpoint " + server.Url());
  EXPECT_EQ(run.code, 0) << run.out;
  EXPECT_THAT(run.out, HasSubstr("node n1 is LOST: no route to n1"));
  EXPECT_EQ(RunPlateau("node add n2 --endpoint " + server.Url()).code, 0);
  const auto requests = server.Requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].method + " " + requests[0].target, "POST /v1/nodes");
  EXPECT_EQ(Json::parse(requests[0].body), Json::parse(R"({"name":"n1","cores":16})"));
  EXPECT_EQ(Json::parse(requests[1].body), Json::parse(R"({"name":"n2"})")) << "as many as the host has";
}

TEST(NodeCommand, ListShowsStateCoresAndWhy) {
  FakeHttpServer server([](const FakeRequest&) { return FakeAnswer{200, std::string(R"({"nodes":[)") + kNode + "]}", ""}; });
  const Ran run = RunPlateau("node list --endpoint " + server.Url());
  EXPECT_EQ(run.code, 0) << run.out;
  EXPECT_THAT(run.out, HasSubstr("n1    LOST"));
  EXPECT_THAT(run.out, HasSubstr("4 of 16"));
  EXPECT_THAT(run.out, HasSubstr("no route to n1"));
  EXPECT_EQ(Json::parse(RunPlateau("node list --json --endpoint " + server.Url()).out)["nodes"][0]["name"], "n1");
}

TEST(NodeCommand, RemoveSendsDelete) {
  FakeHttpServer server([](const FakeRequest&) { return FakeAnswer{200, kNode, ""}; });
  const Ran run = RunPlateau("node remove n1 --endpoint " + server.Url());
  EXPECT_EQ(run.code, 0) << run.out;
  EXPECT_THAT(run.out, HasSubstr("node n1 is removed"));
  EXPECT_EQ(server.Requests()[0].method + " " + server.Requests()[0].target, "DELETE /v1/nodes/n1");
}

TEST(NodeCommand, ARefusalIsShownAsItCame) {
  FakeHttpServer server([](const FakeRequest&) { return FakeAnswer{409, R"({"detail":"the worker link listens on loopback"})", ""}; });
  const Ran run = RunPlateau("node add n1 --endpoint " + server.Url());
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.out, HasSubstr("the worker link listens on loopback"));
}

}  // namespace
}  // namespace plateau::test
