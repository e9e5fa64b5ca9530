// Bad input to the running coordinator: each refused with the status, the field and the remedy, and no job left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/house.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

ClientResponse Post(const House& house, const std::string& body, const std::map<std::string, std::string>& headers) {
  ClientRequest request;
  request.method = "POST";
  request.target = "/v1/jobs";
  request.body = body;
  request.headers = headers;
  if (!request.headers.contains("Content-Type")) request.headers["Content-Type"] = "application/json";
  const auto answer = SendHttp(house.Api().endpoint(), request);
  EXPECT_TRUE(answer.has_value()) << answer.error().message;
  return answer ? *answer : ClientResponse{};
}

size_t JobCount(const House& house) { return (*house.Api().Get("/v1/jobs"))["jobs"].size(); }

TEST(Refusals, BadSpecificationsNameTheFieldAndTheRemedy) {
  House house;
  const Json good = house.Spec("bad");
  struct Case {
    const char* pointer;
    Json value;
    const char* expected;
  };
  const std::vector<Case> cases{{"/model/network", "vgg-b9", "vgg-"},
                                {"/data/crop", 64, "train_scale"},
                                {"/data/store", house.folder() + "/nowhere", "nowhere"},
                                {"/training/momentun", 0.9, "momentum"},
                                {"/training/momentum", 1.5, "momentum"},
                                {"/lr/policy", "staircase", "policy"},
                                {"/resources/workers", 17, "workers"},
                                {"/checkpoint/every", "3 apples", "every"},
                                {"/version", 2, "version"}};
  for (const auto& bad : cases) {
    Json spec = good;
    spec[Json::json_pointer(bad.pointer)] = bad.value;
    const ClientResponse answer = Post(house, spec.dump(), {});
    EXPECT_EQ(answer.status, 422) << bad.pointer << ": " << answer.body;
    EXPECT_EQ(answer.headers.at("content-type"), "application/problem+json");
    const Json problem = Json::parse(answer.body, nullptr, false);
    ASSERT_TRUE(problem.is_object()) << answer.body;
    EXPECT_EQ(problem["status"], 422);
    EXPECT_THAT(problem.value("detail", ""), HasSubstr(bad.expected));
  }
  EXPECT_EQ(JobCount(house), 0u);
}

TEST(Refusals, DivergingCombinationNeedsForce) {
  House house;
  Json spec = house.Spec("forced");
  spec["data"]["normalize"] = "mean";
  spec["training"]["max_steps"] = 1;
  EXPECT_EQ(Post(house, spec.dump(), {}).status, 422);
  EXPECT_NE(house.Submit(spec, true), "");
}

TEST(Refusals, MalformedRequestsAreClientErrors) {
  House house;
  EXPECT_EQ(Post(house, "{\"version\":", {}).status, 400);
  EXPECT_EQ(Post(house, "", {}).status, 400);
  EXPECT_EQ(house.Api().GetRaw("/v1/jobs/nobody-1")->status, 404);
  EXPECT_EQ(house.Api().GetRaw("/v1/nothing")->status, 404);
  EXPECT_EQ(JobCount(house), 0u);
}

TEST(Refusals, IdempotencyKeyGivesTheFirstJobAgainAndRefusesAnotherBody) {
  House house;
  Json spec = house.Spec("once");
  spec["training"]["max_steps"] = 2;
  const ClientResponse first = Post(house, spec.dump(), {{"Idempotency-Key", "k-1"}});
  EXPECT_EQ(first.status, 201) << first.body;
  EXPECT_EQ(first.headers.at("location"), "/v1/jobs/once-1");
  const ClientResponse again = Post(house, spec.dump(), {{"Idempotency-Key", "k-1"}});
  EXPECT_EQ(again.status, 200) << again.body;
  EXPECT_EQ(Json::parse(again.body)["id"], "once-1");
  spec["training"]["max_steps"] = 3;
  const ClientResponse other = Post(house, spec.dump(), {{"Idempotency-Key", "k-1"}});
  EXPECT_EQ(other.status, 422) << other.body;
  EXPECT_THAT(other.body, HasSubstr("Idempotency-Key"));
  EXPECT_EQ(JobCount(house), 1u);
  EXPECT_EQ(house.AwaitEnd("once-1")["state"], "COMPLETED");
}

TEST(Refusals, YamlIsTakenAsItIs) {
  House house;
  const std::string yaml = "version: 1\nkind: train\nname: yaml\noutput: " + house.runs() +
                           "\nmodel: {network: vgg-a, width: 0.05}\ndata: {store: " + house.store() +
                           ", train_scale: 36, crop: 32}\ntraining: {global_batch: 16, max_epochs: 1, max_steps: 2}\n" +
                           "validation: {scale: 36}\nresources: {workers: 1, device: cpu}\n";
  const ClientResponse answer = Post(house, yaml, {{"Content-Type", "application/yaml"}});
  EXPECT_EQ(answer.status, 201) << answer.body;
  EXPECT_EQ(house.AwaitEnd("yaml-1")["state"], "COMPLETED");
}

}  // namespace
}  // namespace plateau::test
