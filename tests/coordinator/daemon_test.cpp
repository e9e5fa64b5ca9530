// The whole coordinator over its sockets: REST, worker link, supervisors, restarts.
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/launch/session.h"
#include "tests/support/coordinator_daemon.h"

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

const Heartbeat kBeat{.step = 1, .phase = "data"};

ValidationReport Report(int number, int64_t correct) {
  return {.number = number,
          .step = number * 10,
          .epoch = 1.0 * number,
          .images = 100,
          .top1_correct = correct,
          .top5_correct = 90,
          .loss = 1.25};
}

std::vector<std::string> EventTypes(const Daemon& daemon, const std::string& job) {
  std::vector<std::string> types;
  const json answer = GetJson(daemon, "/v1/jobs/" + job + "/events");
  for (const auto& event : answer.at("events")) types.push_back(event.at("type"));
  return types;
}

TEST(Daemon, AJobFromSubmissionToCompletion) {
  CoordinatorHome home;
  home.Script("mpirun", "while [ ! -e " + home.path("go") + " ]; do sleep 0.02; done");
  const auto daemon = home.Start();
  const auto created = PostJson(*daemon, "/v1/jobs", home.Spec(2).dump());
  ASSERT_EQ(created.status, 201) << created.body;
  EXPECT_TRUE(created.Has("Location: /v1/jobs/small-1"));
  FakeRank rank0(home, *daemon, "small-1", 1, 0), rank1(home, *daemon, "small-1", 1, 1);
  EXPECT_EQ(std::get<HeartbeatReply>(rank0.Ask(kBeat)).command, WorkerCommand::kContinue);
  rank1.Ask(kBeat);
  EXPECT_TRUE(ReachesState(*daemon, "small-1", "RUNNING"));
  rank0.Tell(Metrics{.step = 8, .epoch = 0.8, .loss = 2.5, .lr = 0.01, .images_per_s = 30});
  EXPECT_EQ(std::get<DecisionReply>(rank0.Ask(Report(1, 50))).decision.action, LrAction::kKeep);
  EXPECT_EQ(std::get<DecisionReply>(rank0.Ask(Report(2, 40))).decision.action, LrAction::kDecay);

  home.Write("runs/small-1/attempt-1/step-000000020/manifest.json", "{}");
  const CheckpointReport checkpoint{
      .step = 20, .validation = 2, .metric = 0.6, .path = "attempt-1/step-000000020", .bytes = 2, .final = true};
  EXPECT_EQ(std::get<Published>(rank0.Ask(checkpoint)).step, 20);
  EXPECT_EQ(json::parse(std::ifstream(home.path("runs/small-1/current.json"))).at("path"), "attempt-1/step-000000020");

  const auto job = GetJson(*daemon, "/v1/jobs/small-1");
  EXPECT_EQ(job.at("best").at("value"), 0.5);
  EXPECT_EQ(job.at("checkpoint").at("step"), 20);
  EXPECT_EQ(job.at("loss"), 2.5);
  EXPECT_EQ(job.at("workers").size(), 2u);
  EXPECT_EQ(job.at("workers")[1].at("phase"), "data");
  const auto history = GetJson(*daemon, "/v1/jobs/small-1/lr-history");
  EXPECT_EQ(history.at("decisions")[1].at("action"), "decay");
  EXPECT_THAT(history.at("decisions")[1].at("reason").get<std::string>(), HasSubstr("plateau"));
  const auto metrics = GetJson(*daemon, "/v1/jobs/small-1/metrics");
  EXPECT_EQ(metrics.at("points")[0].at("step"), 8);
  EXPECT_EQ(metrics.at("validations")[1].at("top1_error"), 0.6);

  EXPECT_TRUE(std::holds_alternative<Published>(rank0.Ask(Finished{20, "MAX_EPOCHS"})));
  home.Write("go", "");
  EXPECT_TRUE(ReachesState(*daemon, "small-1", "COMPLETED"));
  EXPECT_THAT(EventTypes(*daemon, "small-1"),
              ElementsAre("submitted", "starting", "launched", "running", "validation", "lr_decision", "validation", "lr_decision",
                          "checkpoint", "published", "finished", "attempt_ended", "completed"));
  EXPECT_TRUE(std::holds_alternative<Refused>(rank0.Ask(kBeat))) << "the attempt is over";
}

TEST(Daemon, BadRequestsAreExplained) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  const auto problem = [&](const RawAnswer& answer, int status, const std::string& detail) {
    EXPECT_EQ(answer.status, status) << answer.body;
    EXPECT_TRUE(answer.Has("Content-Type: application/problem+json"));
    const auto body = json::parse(answer.body, nullptr, false);
    ASSERT_TRUE(body.is_object()) << answer.body;
    EXPECT_EQ(body.at("status"), status);
    EXPECT_THAT(body.at("detail").get<std::string>(), HasSubstr(detail));
  };
  problem(PostJson(*daemon, "/v1/jobs", "{\"version\": 1,\n \"kind\": }"), 400, "line 2");
  problem(PostJson(*daemon, "/v1/jobs", "[]"), 422, "section");
  problem(PostJson(*daemon, "/v1/jobs", std::string(500'000, '[') + std::string(500'000, ']')), 400, "nested deeper");
  auto spec = home.Spec();
  spec["data"]["store"] = home.path("absent");
  const auto missing = PostJson(*daemon, "/v1/jobs", spec.dump());
  problem(missing, 422, "does not exist");
  EXPECT_EQ(json::parse(missing.body).at("field"), "data.store");
  std::filesystem::create_directories(home.path("unfinished"));
  spec["data"]["store"] = home.path("unfinished");
  problem(PostJson(*daemon, "/v1/jobs", spec.dump()), 422, "manifest.json");
  spec["data"]["store"] = "relative";
  problem(PostJson(*daemon, "/v1/jobs", spec.dump()), 422, "absolute");
  spec = home.Spec();
  spec["model"]["network"] = "vgg-aa";
  problem(PostJson(*daemon, "/v1/jobs", spec.dump()), 422, "vgg-a");
  spec = home.Spec();
  spec["trainnig"] = json::object();
  problem(PostJson(*daemon, "/v1/jobs", spec.dump()), 422, "training");
  spec = home.Spec();
  spec["data"]["normalize"] = "mean";
  problem(PostJson(*daemon, "/v1/jobs", spec.dump()), 422, "diverges");
  EXPECT_EQ(PostJson(*daemon, "/v1/jobs?force=true", spec.dump()).status, 201);
  RawHttp http(daemon->http_endpoint());
  problem(http.Ask("POST", "/v1/jobs", "Content-Type: text/plain\r\n", "x"), 415, "text/plain");
  problem(http.Ask("PUT", "/v1/jobs"), 405, "PUT");
  problem(http.Ask("GET", "/v1/jobs/absent-1"), 404, "absent-1");
  problem(http.Ask("GET", "/v1/jobs/small-1/events?after=x"), 400, "after");
  problem(http.Ask("GET", "/v1/jobs/small-1/events?wait=61"), 400, "60");
  problem(http.Ask("GET", "/v1/jobs/small-1/logs?file=../../etc/passwd"), 400, "file");
  problem(http.Ask("GET", "/v1/jobs/small-1/logs?attempt=9"), 400, "attempt");
  problem(http.Ask("GET", "/v1/nothing"), 404, "/v1/nothing");
  problem(http.Ask("POST", "/v1/jobs/small-1/resume", "Content-Length: 0\r\n"), 409, "FAILED, CANCELLED or PAUSED");
  problem(PostJson(*daemon, "/v1/jobs", std::string(2 << 20, ' ')), 413, "larger");
  spec = home.Spec();
  spec["output"] = "/proc/nowhere";
  const auto nowhere = PostJson(*daemon, "/v1/jobs", spec.dump());
  problem(nowhere, 422, "/proc/nowhere");
  EXPECT_EQ(json::parse(nowhere.body).at("field"), "output");
}

TEST(Daemon, YamlIsTakenAsWellAsJson) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  RawHttp http(daemon->http_endpoint());
  const std::string yaml = "version: 1\nkind: train\nname: from-yaml\noutput: " + home.path("runs") +
                           "\nmodel: {network: vgg-a}\ndata: {store: " + home.path("store") + "}\n";
  const auto answer = http.Ask("POST", "/v1/jobs", "Content-Type: application/yaml\r\n", yaml);
  ASSERT_EQ(answer.status, 201) << answer.body;
  EXPECT_EQ(json::parse(answer.body).at("id"), "from-yaml-1");
  EXPECT_EQ(http.Ask("POST", "/v1/jobs", "Content-Type: application/yaml\r\n", "a: [1").status, 400);
  std::string deep_lists, deep_maps;
  for (int i = 0; i < 400'000; ++i) deep_lists += "- ";
  for (int i = 0; i < 1'000; ++i) deep_maps += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  for (const auto& deep : {deep_lists, deep_maps, std::string(500'000, '['), std::string(500'000, '{')})
    EXPECT_EQ(RawHttp(daemon->http_endpoint()).Ask("POST", "/v1/jobs", "Content-Type: application/yaml\r\n", deep).status, 400);
}

TEST(Daemon, AnIdempotencyKeyMakesOneJob) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  const std::string key = "Idempotency-Key: abc\r\n";
  EXPECT_EQ(PostJson(*daemon, "/v1/jobs", home.Spec().dump(), key).status, 201);
  const auto again = PostJson(*daemon, "/v1/jobs", home.Spec().dump(), key);
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(json::parse(again.body).at("id"), "small-1");
  EXPECT_EQ(PostJson(*daemon, "/v1/jobs", home.Spec(2).dump(), key).status, 422);
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs").at("jobs").size(), 1u);
}

TEST(Daemon, ManyClientsWithOneKeyGetOneJob) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  std::vector<std::thread> clients;
  std::atomic<int> created = 0;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      if (PostJson(*daemon, "/v1/jobs", home.Spec().dump(), "Idempotency-Key: one\r\n").status == 201) ++created;
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(created, 1);
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs").at("jobs").size(), 1u);
}

TEST(Daemon, ALongPollAnswersWhenSomethingHappens) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  FakeRank rank(home, *daemon, "small-1", 1);
  ASSERT_TRUE(Eventually([&] { return GetJson(*daemon, "/v1/jobs/small-1/events").at("last") == 3; }));
  RawHttp poll(daemon->http_endpoint());
  poll.Send("GET /v1/jobs/small-1/events?after=3&wait=60 HTTP/1.1\r\nHost: t\r\n\r\n");
  rank.Ask(kBeat);
  const auto answer = json::parse(poll.Receive().body);
  EXPECT_EQ(answer.at("last"), 4);
  EXPECT_EQ(answer.at("events")[0].at("type"), "running");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/small-1/events?after=4&wait=1").at("events").size(), 0u);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(990));
}

TEST(Daemon, LogsAreReadPieceByPiece) {
  CoordinatorHome home;
  home.Script("mpirun", "echo hello > $PLATEAU_LOG_DIR/rank-0.log; exec sleep 1000");
  const auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  RawHttp http(daemon->http_endpoint());
  ASSERT_TRUE(Eventually([&] { return http.Ask("GET", "/v1/jobs/small-1/logs").body == "hello\n"; }));
  const auto rest = http.Ask("GET", "/v1/jobs/small-1/logs?attempt=1&file=rank-0.log&offset=2");
  EXPECT_EQ(rest.body, "llo\n");
  EXPECT_TRUE(rest.Has("Plateau-Next-Offset: 6"));
  EXPECT_TRUE(rest.Has("Plateau-Attempt: 1"));
  EXPECT_EQ(http.Ask("GET", "/v1/jobs/small-1/logs?offset=100").body, "");
  EXPECT_EQ(http.Ask("GET", "/v1/jobs/small-1/logs?file=rank-7.log").status, 404);
  std::vector<std::string> names;
  const json list = GetJson(*daemon, "/v1/jobs/small-1/logs?list=1");
  for (const auto& file : list.at("attempts")[0].at("files")) names.push_back(file.at("name"));
  EXPECT_THAT(names, IsSupersetOf({"mpirun.log", "rank-0.log", "supervisor.log"}));
}

TEST(Daemon, ThePageAndTheHealthAreServed) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  RawHttp http(daemon->http_endpoint());
  EXPECT_TRUE(http.Ask("GET", "/").Has("text/html"));
  EXPECT_EQ(http.Ask("HEAD", "/").status, 200);
  const auto health = GetJson(*daemon, "/healthz");
  EXPECT_EQ(health.at("status"), "ok");
  EXPECT_TRUE(health.contains("version"));
}

TEST(Daemon, AKilledGangIsRelaunchedAndTheOldTokenIsWorthless) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  FakeRank old(home, *daemon, "small-1", 1);
  old.Ask(kBeat);
  const auto supervisor = home.WaitForJson("state/jobs/small-1/attempt-1/supervisor.json");
  ::kill(supervisor.at("mpirun_pid").get<pid_t>(), SIGKILL);
  ASSERT_TRUE(Eventually([&] { return GetJson(*daemon, "/v1/jobs/small-1").at("attempt") == 2; }));
  FakeRank fresh(home, *daemon, "small-1", 2);
  EXPECT_TRUE(std::holds_alternative<HeartbeatReply>(fresh.Ask(kBeat)));
  EXPECT_TRUE(std::holds_alternative<Refused>(old.Ask(Finished{1, "MAX_EPOCHS"})));
  old.sender().attempt = 2;
  EXPECT_TRUE(std::holds_alternative<Refused>(old.Ask(kBeat))) << "the number alone is not enough";
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/small-1").at("restarts"), 1);
}

TEST(Daemon, WhateverAnOldAttemptSaysIsRefusedAndChangesNothing) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  FakeRank old(home, *daemon, "small-1", 1);
  old.Ask(kBeat);
  old.Ask(Report(1, 50));
  const auto supervisor = home.WaitForJson("state/jobs/small-1/attempt-1/supervisor.json");
  ::kill(supervisor.at("mpirun_pid").get<pid_t>(), SIGKILL);
  FakeRank fresh(home, *daemon, "small-1", 2);
  fresh.Ask(kBeat);
  home.Write("runs/small-1/attempt-1/step-000000021/manifest.json", "{}");  // complete on the disk, by the zombie
  const auto before = GetJson(*daemon, "/v1/jobs/small-1");
  const auto events = GetJson(*daemon, "/v1/jobs/small-1/events").at("last");
  const std::vector<WorkerMessage> messages{Heartbeat{21, "data", 9, 0},
                                            Metrics{.step = 21, .loss = 0.5, .lr = 9},
                                            Report(1, 50),
                                            Report(2, 90),
                                            CheckpointReport{.step = 21, .path = "attempt-1/step-000000021", .bytes = 2},
                                            Finished{21, "MAX_STEPS"},
                                            Failed{"NAN_LOSS", "not so", 21, "conv1_1", false},
                                            Register{"key", "{}", {"node"}}};
  ASSERT_EQ(std::variant_size_v<WorkerMessage>, 7u) << "a new kind of message belongs into this list";
  for (const auto& message : messages)
    EXPECT_TRUE(std::holds_alternative<Refused>(old.Ask(message))) << EncodeWorkerMessage(old.sender(), message);
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/small-1/events").at("last"), events);
  const auto after = GetJson(*daemon, "/v1/jobs/small-1");
  for (const char* field : {"state", "step", "loss", "lr", "best", "checkpoint", "attempt", "restarts"})
    EXPECT_EQ(after.at(field), before.at(field)) << field;
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/small-1/lr-history").at("decisions").size(), 1u);
  EXPECT_FALSE(std::filesystem::exists(home.path("runs/small-1/current.json")));
  EXPECT_TRUE(std::holds_alternative<HeartbeatReply>(fresh.Ask(kBeat))) << "its successor is not disturbed";
}

TEST(Daemon, ARestartedCoordinatorFindsItsJobItsWorkersAndItsDecisions) {
  CoordinatorHome home;
  home.PinPorts();
  auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  auto rank = std::make_unique<FakeRank>(home, *daemon, "small-1", 1);
  rank->Ask(kBeat);
  rank->Ask(Report(1, 50));
  const auto decided = std::get<DecisionReply>(rank->Ask(Report(2, 40))).decision;
  const auto supervisor = home.WaitForJson("state/jobs/small-1/attempt-1/supervisor.json");
  const std::string link = daemon->link_endpoint(), http = daemon->http_endpoint();
  daemon.reset();
  EXPECT_TRUE(ReadProcess(supervisor.at("mpirun_pid")).has_value()) << "the job runs on";
  daemon = home.Start();
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(daemon->link_endpoint(), link) << "workers find it where it was";
  EXPECT_EQ(daemon->http_endpoint(), http);
  EXPECT_EQ(std::get<DecisionReply>(rank->Ask(Report(2, 40))).decision, decided) << "over the same socket, reconnected";
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/small-1").at("state"), "RUNNING");
  EXPECT_EQ(PostJson(*daemon, "/v1/jobs/small-1/cancel").status, 202);
  EXPECT_EQ(std::get<HeartbeatReply>(rank->Ask(kBeat)).command, WorkerCommand::kStop);
  rank->Ask(Finished{21, "STOPPED"});
  ::kill(supervisor.at("mpirun_pid").get<pid_t>(), SIGTERM);
  EXPECT_TRUE(ReachesState(*daemon, "small-1", "CANCELLED"));
}

TEST(Daemon, ACheckpointIsOrderedFromARunningJobAndToldWhenItIsPublished) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  FakeRank rank(home, *daemon, "small-1", 1);
  rank.Ask(kBeat);
  const auto ordered = PostJson(*daemon, "/v1/jobs/small-1/checkpoint");
  ASSERT_EQ(ordered.status, 202) << ordered.body;
  EXPECT_EQ(json::parse(ordered.body).at("checkpoint_order"), (json{{"number", 1}, {"open", true}}));
  const auto reply = std::get<HeartbeatReply>(rank.Ask(kBeat));
  EXPECT_EQ(reply.command, WorkerCommand::kCheckpoint);
  home.Write("runs/small-1/attempt-1/step-000000020/manifest.json", "{}");
  rank.Ask(CheckpointReport{.step = 20, .path = "attempt-1/step-000000020", .bytes = 2, .order = reply.order});
  EXPECT_EQ(std::get<HeartbeatReply>(rank.Ask(kBeat)).command, WorkerCommand::kContinue);
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/small-1").at("checkpoint_order").at("open"), false);
  EXPECT_EQ(PostJson(*daemon, "/v1/jobs/small-1/pause").status, 202);
  EXPECT_EQ(PostJson(*daemon, "/v1/jobs/small-1/checkpoint").status, 409);
}

TEST(Daemon, AWorkersLeftOversGoWhenItsAttemptIsOver) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  FakeRank rank(home, *daemon, "small-1", 1);
  home.Write("runs/small-1/attempt-1/step-000000020/manifest.json", "{}");
  rank.Ask(kBeat);
  rank.Ask(CheckpointReport{.step = 20, .path = "attempt-1/step-000000020", .bytes = 2});
  home.Write("runs/small-1/attempt-1/step-000000021/manifest.json", "{}");        // it died before it could report this one,
  home.Write("runs/small-1/attempt-1/step-000000022.tmp/model.safetensors", "");  // and while it wrote that one
  const auto supervisor = home.WaitForJson("state/jobs/small-1/attempt-1/supervisor.json");
  ::kill(supervisor.at("mpirun_pid").get<pid_t>(), SIGKILL);
  for (const char* left : {"step-000000021", "step-000000022.tmp"})
    EXPECT_TRUE(Eventually([&] { return !std::filesystem::exists(home.path(fmt::format("runs/small-1/attempt-1/{}", left))); }))
        << left;
  EXPECT_TRUE(std::filesystem::exists(home.path("runs/small-1/attempt-1/step-000000020/manifest.json")));
}

TEST(Daemon, AnAttemptThatEndedWhileNobodyLookedIsAccountedFor) {
  CoordinatorHome home;
  home.Script("mpirun", "while [ ! -e " + home.path("go") + " ]; do sleep 0.02; done; exit 1");
  auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  FakeRank(home, *daemon, "small-1", 1).Ask(kBeat);
  daemon.reset();
  home.Write("go", "");
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(home.path("state/jobs/small-1/attempt-1/exit.json")); }));
  daemon = home.Start();
  EXPECT_TRUE(Eventually([&] { return GetJson(*daemon, "/v1/jobs/small-1").at("attempt") >= 2; }));
  EXPECT_EQ(GetJson(*daemon, "/v1/jobs/small-1").at("attempts")[0].at("exit_code"), 1);
}

// Nothing happens to a waiting job but its turn: no rank speaks, no process ends.
TEST(Daemon, AWaitingJobIsStartedByTheNextCoordinatorToo) {
  CoordinatorHome home;
  home.Script("mpirun", "exit 9");
  home.options.limits.first_restart_delay_ms = 3'600'000;
  auto daemon = home.Start();
  PostJson(*daemon, "/v1/jobs", home.Spec().dump());
  ASSERT_TRUE(Eventually([&] { return GetJson(*daemon, "/v1/jobs/small-1").value("reason", "") == "RESTARTING"; }));
  daemon.reset();
  daemon = home.Start();
  ASSERT_NE(daemon, nullptr);
  EXPECT_TRUE(Eventually([&] { return GetJson(*daemon, "/v1/jobs/small-1")["attempts"].size() == 2; }));
}

TEST(Daemon, TwoCoordinatorsOnOneStateAreRefused) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  const auto second = Daemon::Start(home.options, WebAssets());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr("pid " + std::to_string(::getpid())));
}

}  // namespace
}  // namespace plateau::test
