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

TEST(NodeCommand, AddSendsWhichGpusAreOffered) {
  FakeHttpServer server([](const FakeRequest&) { return FakeAnswer{201, kNode, ""}; });
  const auto sent = [&](const std::string& gpus) {
    EXPECT_EQ(RunPlateau("node add n1 --gpus " + gpus + " --endpoint " + server.Url()).code, 0) << gpus;
    return Json::parse(server.Requests().back().body)["gpus"];
  };
  EXPECT_EQ(sent("2"), 2);
  EXPECT_EQ(sent("0"), 0);
  EXPECT_EQ(sent("0,3"), Json::parse(R"(["0","3"])"));
  EXPECT_EQ(sent("3,"), Json::parse(R"(["3"])"));
  const size_t before = server.Requests().size();
  const Ran run = RunPlateau("node add n1 --gpus 1,1 --endpoint " + server.Url());
  EXPECT_EQ(run.code, 2) << run.out;
  EXPECT_THAT(run.out, HasSubstr("--gpus: \"1,1\" names GPU 1 twice"));
  EXPECT_EQ(server.Requests().size(), before) << "nothing was asked";
}

TEST(NodeCommand, ListShowsGpusTheirJobsOrWhyThereAreNone) {
  const std::string gpus =
      R"({"nodes":[{"name":"n1","cores":8,"used_cores":1,"state":"READY","message":"","jobs":["a-1"],"used_gpus":1,
    "gpus":[{"id":"0","name":"NVIDIA H200","memory_bytes":150000000000,"job":"a-1"},{"id":"3","name":"","memory_bytes":0,"job":null}]},
    {"name":"n2","cores":8,"used_cores":0,"state":"READY","message":"it answers","jobs":[],"used_gpus":0,"gpus":[],"no_gpus_why":"no CUDA driver"}]})";
  FakeHttpServer server([&](const FakeRequest&) { return FakeAnswer{200, gpus, ""}; });
  const Ran run = RunPlateau("node list --endpoint " + server.Url());
  EXPECT_EQ(run.code, 0) << run.out;
  EXPECT_THAT(run.out, HasSubstr("GPUs 1 of 2 in use: 0 NVIDIA H200 139.7 GiB (a-1), 3\n"));
  EXPECT_THAT(run.out, HasSubstr("GPUs none: no CUDA driver\n"));
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
