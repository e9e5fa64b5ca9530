// Pipelines over REST: submitted once, run in order, held by a failure, and found again after a restart.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/coordinator_daemon.h"

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

json Document(const CoordinatorHome& home) {
  json train = home.Spec();
  return {{"version", 1},
          {"kind", "pipeline"},
          {"name", "p"},
          {"output", train.at("output")},
          {"data", train.at("data")},
          {"resources", {{"workers", 1}}},
          {"fault", {{"max_restarts", 0}}},
          {"evaluate", {{"posteriors", true}}},
          {"jobs",
           {{"a", {{"model", {{"network", "vgg-a"}}}}},
            {"b", {{"model", {{"network", "vgg-b"}, {"init_from", {{"job", "a"}, {"layers", "vgg-first4-fc3"}}}}}}},
            {"t", {{"kind", "evaluate"}, {"evaluate", {{"job", "b"}, {"scales", {256}}}}, {"report", {{"table", 3}, {"row", {"B"}}}}}}}}};
}

std::vector<std::string> States(const Daemon& daemon, const std::string& id) {
  std::vector<std::string> states;
  const json pipeline = GetJson(daemon, "/v1/pipelines/" + id);
  for (const auto& job : pipeline.at("jobs")) states.push_back(job.at("name").get<std::string>() + " " + job.at("state").get<std::string>());
  return states;
}

// Each attempt of mpirun waits for the file <job>-go and leaves with the code in it.
void ScriptJobs(CoordinatorHome& home) {
  home.Script("mpirun",
              "job=; while [ $# -gt 0 ]; do [ \"$1\" = --job ] && job=$2; shift; done\n"
              "while [ ! -s " + home.path("") + "$job-go ]; do sleep 0.02; done\nexit $(cat " + home.path("") + "$job-go)");
}

void Complete(CoordinatorHome& home, const Daemon& daemon, const std::string& job, int attempt, const Finished& finished) {
  FakeRank rank(home, daemon, job, attempt);
  rank.Ask(Heartbeat{.step = 1, .phase = "data"});
  if (finished.result.empty()) {
    const std::string path = fmt::format("attempt-{}/step-000000020", attempt);
    home.Write("runs/" + job + "/" + path + "/manifest.json", "{}");
    rank.Ask(CheckpointReport{.step = 20, .path = path, .bytes = 2, .final = true});
  }
  rank.Ask(finished);
  home.Write(job + "-go", "0");
}

TEST(PipelineDaemon, RunsItsJobsInOrderEachWithWhatTheOneBeforeLeft) {
  CoordinatorHome home;
  ScriptJobs(home);
  const auto daemon = home.Start();
  const auto created = PostJson(*daemon, "/v1/pipelines", Document(home).dump(), "Idempotency-Key: k\r\n");
  ASSERT_EQ(created.status, 201) << created.body;
  EXPECT_TRUE(created.Has("Location: /v1/pipelines/p-1"));
  EXPECT_TRUE(ReachesState(*daemon, "p-1.a", "STARTING"));
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/p-1.b").at("reason"), "WAITING_FOR_JOBS");
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/p-1.b").at("pipeline"), "p-1");
  Complete(home, *daemon, "p-1.a", 1, {20, "MAX_EPOCHS"});
  EXPECT_TRUE(ReachesState(*daemon, "p-1.b", "STARTING"));
  const json spec = home.WaitForJson("state/jobs/p-1.b/attempt-1/spec.json");
  EXPECT_EQ(spec.at("model").at("init_from").at("checkpoint"), home.path("runs/p-1.a/attempt-1/step-000000020"));
  Complete(home, *daemon, "p-1.b", 1, {20, "PLATEAU"});
  EXPECT_TRUE(ReachesState(*daemon, "p-1.t", "STARTING"));
  const json launch = home.WaitForJson("state/jobs/p-1.t/attempt-1/launch.json");
  EXPECT_THAT(launch.at("arguments").get<std::vector<std::string>>(), ::testing::IsSupersetOf({"evaluate", "--spec"}));
  Complete(home, *daemon, "p-1.t", 1, {0, "EVALUATED", R"({"images":10,"top1_error":0.5,"top5_error":0.2,"network":"vgg-b"})"});
  EXPECT_TRUE(Eventually([&] { return GetJson(*daemon, "/v1/pipelines/p-1").at("state") == "COMPLETED"; }));
  const json test = GetJson(*daemon, "/v1/jobs/p-1.t");
  EXPECT_EQ(test.at("result").at("top1_error"), 0.5);
  EXPECT_EQ(test.at("network"), "vgg-b");
  EXPECT_EQ(test.at("reason"), "EVALUATED");
  const json list = GetJson(*daemon, "/v1/pipelines");
  EXPECT_EQ(list.at("pipelines")[0].at("counts").at("COMPLETED"), 3);
  EXPECT_EQ(GetJson(*daemon, "/v1/pipelines/p-1").at("jobs")[2].at("report").at("table"), 3);
}

TEST(PipelineDaemon, AFailedJobHoldsItsDependantsAndAResumeReleasesThem) {
  CoordinatorHome home;
  ScriptJobs(home);
  const auto daemon = home.Start();
  ASSERT_EQ(PostJson(*daemon, "/v1/pipelines", Document(home).dump()).status, 201);
  EXPECT_TRUE(ReachesState(*daemon, "p-1.a", "STARTING"));
  home.Write("p-1.a-go", "2");
  EXPECT_TRUE(ReachesState(*daemon, "p-1.t", "HELD"));
  EXPECT_THAT(States(*daemon, "p-1"), ElementsAre("a FAILED", "b HELD", "t HELD"));
  EXPECT_THAT(GetJson(*daemon, "/v1/jobs/p-1.b").at("message").get<std::string>(), HasSubstr("job p-1.a, which is FAILED"));
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/p-1.t").at("reason"), "DEPENDENCY_HELD");
  EXPECT_EQ(GetJson(*daemon, "/v1/pipelines/p-1").at("state"), "FAILED");
  std::filesystem::remove(home.path("p-1.a-go"));
  ASSERT_EQ(PostJson(*daemon, "/v1/pipelines/p-1/resume").status, 202);
  EXPECT_TRUE(ReachesState(*daemon, "p-1.a", "STARTING"));
  EXPECT_THAT(States(*daemon, "p-1"), ElementsAre("a STARTING", "b QUEUED", "t QUEUED"));
  Complete(home, *daemon, "p-1.a", 2, {20, "MAX_EPOCHS"});
  EXPECT_TRUE(ReachesState(*daemon, "p-1.b", "STARTING"));
  ASSERT_EQ(PostJson(*daemon, "/v1/pipelines/p-1/cancel").status, 202);
  EXPECT_TRUE(ReachesState(*daemon, "p-1.t", "CANCELLED"));
  home.Write("p-1.b-go", "0");
  EXPECT_TRUE(ReachesState(*daemon, "p-1.b", "CANCELLED"));
  EXPECT_EQ(GetJson(*daemon, "/v1/pipelines/p-1").at("state"), "CANCELLED");
  EXPECT_EQ(PostJson(*daemon, "/v1/pipelines/p-1/cancel").status, 409);
}

TEST(PipelineDaemon, ARestartedCoordinatorGoesOnWithItAndKnowsTheKey) {
  CoordinatorHome home;
  ScriptJobs(home);
  home.PinPorts();
  const std::string body = Document(home).dump(), key = "Idempotency-Key: night-7\r\n";
  {
    const auto daemon = home.Start();
    ASSERT_EQ(PostJson(*daemon, "/v1/pipelines", body, key).status, 201);
  }
  {
    const auto daemon = home.Start();
    const auto again = PostJson(*daemon, "/v1/pipelines", body, key);
    EXPECT_EQ(again.status, 200) << again.body;
    EXPECT_EQ(json::parse(again.body).at("id"), "p-1");
    EXPECT_EQ(GetJson(*daemon, "/v1/jobs").at("jobs").size(), 3u) << "each job once";
    json other = Document(home);
    other["name"] = "q";
    EXPECT_EQ(PostJson(*daemon, "/v1/pipelines", other.dump(), key).status, 422);
    EXPECT_TRUE(ReachesState(*daemon, "p-1.a", "STARTING"));
    Complete(home, *daemon, "p-1.a", 1, {20, "MAX_EPOCHS"});
    EXPECT_TRUE(ReachesState(*daemon, "p-1.a", "COMPLETED"));
  }
  const auto daemon = home.Start();
  EXPECT_TRUE(ReachesState(*daemon, "p-1.b", "STARTING"));
  EXPECT_THAT(States(*daemon, "p-1"), ElementsAre("a COMPLETED", "b STARTING", "t QUEUED"));
}

TEST(PipelineDaemon, WhatAKilledSubmissionLeftIsNotTakenOver) {
  CoordinatorHome home;
  std::filesystem::create_directories(home.path("runs/p-1.b"));  // the coordinator died before it stored anything
  const auto daemon = home.Start();
  const auto created = PostJson(*daemon, "/v1/pipelines", Document(home).dump());
  ASSERT_EQ(created.status, 201) << created.body;
  EXPECT_EQ(json::parse(created.body).at("id"), "p-2");
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs").at("jobs").size(), 3u);
}

TEST(PipelineDaemon, RefusalsNameTheJobAndTheField) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  const auto refused = [&](const std::string& route, const json& document, const std::string& field, const std::string& detail) {
    const auto answer = PostJson(*daemon, route, document.dump());
    EXPECT_EQ(answer.status, 422) << answer.body;
    const json problem = json::parse(answer.body, nullptr, false);
    EXPECT_EQ(problem.value("field", ""), field) << answer.body;
    EXPECT_THAT(problem.at("detail").get<std::string>(), HasSubstr(detail));
  };
  json document = Document(home);
  document["jobs"]["b"]["lr"] = {{"initial", -1}};
  refused("/v1/pipelines", document, "jobs.b.lr.initial", "-1");
  document = Document(home);
  document["jobs"]["a"]["depends_on"] = {"t"};
  refused("/v1/pipelines", document, "jobs.a.depends_on", "a -> t -> b -> a");
  document = Document(home);
  document["data"]["store"] = home.path("absent");
  refused("/v1/pipelines", document, "jobs.a.data.store", "does not exist");
  refused("/v1/jobs", Document(home), "kind", "a pipeline is many jobs");
  json train = home.Spec();
  train["model"]["init_from"] = {{"job", "small-7"}};
  refused("/v1/jobs", train, "model.init_from.job", "there is no job \"small-7\"");
  train = home.Spec();
  train["depends_on"] = {"absent-1"};
  refused("/v1/jobs", train, "depends_on", "absent-1");
  EXPECT_EQ(PostJson(*daemon, "/v1/pipelines/absent-1/cancel").status, 404);
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs").at("jobs").size(), 0u);
  EXPECT_EQ(GetJson(*daemon, "/v1/pipelines").at("pipelines").size(), 0u);
}

}  // namespace
}  // namespace plateau::test
