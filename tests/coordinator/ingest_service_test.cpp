// Ingests through the whole coordinator over its sockets: leases, commits, restarts, refusals; workers are played by the test.
#include <filesystem>
#include <fstream>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/ingest_house.h"

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

size_t Distinct(const std::vector<std::string>& texts) { return std::set<std::string>(texts.begin(), texts.end()).size(); }

TEST(IngestService, GivesTheContentOfTheLocalIngestAndCommitsEachShardOnce) {
  IngestHouse house;
  const auto local = house.Local("local");
  const auto daemon = house.Start();
  const std::string id = PostOrder(*daemon, house.Order("data"));
  EXPECT_EQ(id, "data-1");
  FakeBuilder first(house, *daemon, "a"), second(house, *daemon, "b");
  const TaskGranted held = second.AskForShard();
  EXPECT_TRUE(std::holds_alternative<ShardCommitted>(first.Ask(FakeBuilder::Build(first.AskForShard()))));
  EXPECT_TRUE(std::holds_alternative<ShardCommitted>(second.Ask(FakeBuilder::Build(held))));
  EXPECT_EQ(first.BuildAll(), 3);
  EXPECT_EQ(second.BuildAll(), 0);
  ASSERT_TRUE(IngestReaches(*daemon, id, "COMPLETED"));
  EXPECT_EQ(house.Published("data"), local);
  const auto commits = IngestEvents(*daemon, id, "committed");
  EXPECT_EQ(commits.size(), 5u);
  EXPECT_EQ(Distinct(commits), 5u);
  EXPECT_EQ(Distinct(IngestEvents(*daemon, id, "lease_granted", "lease")), 5u);
  EXPECT_FALSE(std::filesystem::exists(house.path("data/ingest")));
  const json ingest = GetJson(*daemon, "/v1/datasets/" + id);
  EXPECT_EQ(ingest.at("handled"), 72);
  EXPECT_EQ(ingest.at("splits").at("train").at("checksum"), local[0]);
  EXPECT_EQ(GetJson(*daemon, "/v1/datasets").at("datasets").size(), 1u);
}

TEST(IngestService, AZombiesReportIsRefusedAndTheOthersShardStands) {
  IngestHouse house;
  house.options.ingest_limits.lease_ms = 2'000;  // the shard is built before it ends: then the coordinator empties its folder
  house.PinPorts();
  auto daemon = house.Start();
  const std::string id = PostOrder(*daemon, house.Order("data"));
  FakeBuilder zombie(house, *daemon, "zombie"), other(house, *daemon, "other");
  const TaskGranted lost = zombie.AskForShard();
  const ShardBuilt late = FakeBuilder::Build(lost);
  ASSERT_TRUE(Eventually([&] { return !IngestEvents(*daemon, id, "lease_expired").empty(); }));
  EXPECT_TRUE(std::holds_alternative<LeaseOver>(zombie.Ask(RenewLease{id, lost.lease, 1, 0})));
  EXPECT_TRUE(std::holds_alternative<LeaseOver>(zombie.Ask(late)));
  EXPECT_EQ(IngestEvents(*daemon, id, "late_report", "lease").size(), 1u);
  EXPECT_FALSE(std::filesystem::exists(house.path("data/train/00000")));
  house.options.ingest_limits.lease_ms = 20'000;  // the others do not renew
  daemon.reset();
  daemon = house.Start();
  ASSERT_NE(daemon, nullptr);
  EXPECT_TRUE(std::holds_alternative<LeaseOver>(zombie.Ask(late))) << "numbers outlive the coordinator";
  EXPECT_GE(other.BuildAll(), 1);
  ASSERT_TRUE(IngestReaches(*daemon, id, "COMPLETED"));
  EXPECT_TRUE(std::holds_alternative<LeaseOver>(zombie.Ask(late))) << "also when all is over";
  EXPECT_EQ(house.Published("data"), house.Local("local"));
}

TEST(IngestService, AForeignLeaseAndAWrongTokenAreRefused) {
  IngestHouse house;
  const auto daemon = house.Start();
  const std::string id = PostOrder(*daemon, house.Order("data"));
  FakeBuilder owner(house, *daemon, "owner"), thief(house, *daemon, "thief"), stranger(house, *daemon, "stranger");
  const TaskGranted task = owner.AskForShard();
  const ShardBuilt built = FakeBuilder::Build(task);
  EXPECT_TRUE(std::holds_alternative<LeaseOver>(thief.Ask(built)));
  EXPECT_TRUE(std::holds_alternative<LeaseOver>(thief.Ask(ShardBuilt{id, task.lease + 1, built.checksum})));
  stranger.sender().token = "guess";
  EXPECT_TRUE(std::holds_alternative<IngestRefused>(stranger.Ask(AskTask{})));
  EXPECT_TRUE(std::holds_alternative<ShardCommitted>(owner.Ask(built)));
  EXPECT_TRUE(std::holds_alternative<ShardCommitted>(owner.Ask(built))) << "a lost answer is given again";
  EXPECT_EQ(IngestEvents(*daemon, id, "committed").size(), 1u);
}

TEST(IngestService, ARestartedCoordinatorGoesOnWhereItWas) {
  IngestHouse house;
  const auto local = house.Local("local");
  house.PinPorts();
  auto daemon = house.Start();
  const std::string id = PostOrder(*daemon, house.Order("data"));
  FakeBuilder worker(house, *daemon, "w");
  EXPECT_TRUE(std::holds_alternative<ShardCommitted>(worker.Ask(FakeBuilder::Build(worker.AskForShard()))));
  const TaskGranted held = worker.AskForShard();
  const std::string link = daemon->link_endpoint();
  daemon.reset();
  daemon = house.Start();
  ASSERT_NE(daemon, nullptr);
  ASSERT_EQ(daemon->link_endpoint(), link);
  EXPECT_TRUE(std::holds_alternative<LeaseHeld>(worker.Ask(RenewLease{id, held.lease, 3, 0}))) << "over the same socket";
  EXPECT_TRUE(std::holds_alternative<ShardCommitted>(worker.Ask(FakeBuilder::Build(held))));
  worker.BuildAll();
  ASSERT_TRUE(IngestReaches(*daemon, id, "COMPLETED"));
  EXPECT_EQ(house.Published("data"), local);
  EXPECT_EQ(Distinct(IngestEvents(*daemon, id, "committed")), 5u);
  EXPECT_EQ(IngestEvents(*daemon, id, "committed").size(), 5u);
  EXPECT_EQ(IngestEvents(*daemon, id, "recovered").size(), 1u);
}

TEST(IngestService, CancelPublishesNothingAndALocalIngestGoesOnFromTheFinishedShards) {
  IngestHouse house;
  const auto daemon = house.Start();
  const IngestOrder order = house.Order("data");
  const std::string id = PostOrder(*daemon, order);
  FakeBuilder worker(house, *daemon, "w");
  EXPECT_TRUE(std::holds_alternative<ShardCommitted>(worker.Ask(FakeBuilder::Build(worker.AskForShard()))));
  const TaskGranted held = worker.AskForShard();
  const ShardBuilt built = FakeBuilder::Build(held);
  EXPECT_EQ(PostJson(*daemon, "/v1/datasets/" + id + "/cancel").status, 202);
  EXPECT_TRUE(std::holds_alternative<LeaseOver>(worker.Ask(built)));
  EXPECT_TRUE(std::holds_alternative<NoTask>(worker.Ask(AskTask{})));
  EXPECT_EQ(PostJson(*daemon, "/v1/datasets/" + id + "/cancel").status, 409);
  EXPECT_FALSE(std::filesystem::exists(house.path("data/manifest.json")));
  EXPECT_TRUE(Eventually([&] { return !std::filesystem::exists(held.folder); })) << "what was not finished is removed";

  PosixFileSystem files;
  const auto source = OpenSource(order.source);
  ASSERT_TRUE(source.has_value());
  Result<IngestReport> report = Fail(ErrorCode::kConflict, "not yet");
  EXPECT_TRUE(Eventually([&] { return (report = Ingest(files, SystemClock(), *source, order.options)).has_value(); }))
      << report.error().message;
  EXPECT_EQ(report->reused_shards, 1u);
  EXPECT_EQ(house.Published("data"), house.Local("local"));
}

TEST(IngestService, LocalAndCoordinatorsIngestExcludeEachOther) {
  IngestHouse house;
  const auto daemon = house.Start();
  const IngestOrder order = house.Order("data");
  const std::string id = PostOrder(*daemon, order);
  FakeBuilder worker(house, *daemon, "w");
  worker.AskForShard();
  PosixFileSystem files;
  const auto source = OpenSource(order.source);
  ASSERT_TRUE(source.has_value());
  const auto local = Ingest(files, SystemClock(), *source, order.options);
  ASSERT_FALSE(local.has_value());
  EXPECT_THAT(local.error().message, HasSubstr("another ingest"));
  const std::string twin = PostOrder(*daemon, order);
  ASSERT_TRUE(IngestReaches(*daemon, twin, "FAILED"));
  EXPECT_EQ(GetJson(*daemon, "/v1/datasets/" + twin).at("reason"), "CONFLICT");
  EXPECT_EQ(GetJson(*daemon, "/v1/datasets/" + id).at("state"), "RUNNING");
}

TEST(IngestService, TooManyBadImagesFailItWithTheirReasons) {
  IngestHouse house;
  std::filesystem::create_directories(house.path("folder/train/cat"));
  std::filesystem::create_directories(house.path("folder/val/cat"));
  for (int i = 0; i < 6; ++i) {
    house.Write(fmt::format("folder/train/cat/{}.jpg", i), "no image");
    house.Write(fmt::format("folder/val/cat/{}.jpg", i), "no image");
  }
  const auto daemon = house.Start();
  IngestOrder order = house.Order("data");
  order.source = {.layout = "folder", .train = house.path("folder/train"), .val = house.path("folder/val")};
  order.options.max_rejected.count = 3;
  const std::string id = PostOrder(*daemon, order);
  FakeBuilder(house, *daemon, "w").BuildAll();
  ASSERT_TRUE(IngestReaches(*daemon, id, "FAILED"));
  const json ingest = GetJson(*daemon, "/v1/datasets/" + id);
  EXPECT_EQ(ingest.at("reason"), "TOO_MANY_REJECTED");
  EXPECT_THAT(ingest.at("message").get<std::string>(), HasSubstr("rejected.jsonl"));
  std::ifstream rejected(house.path("data/rejected.jsonl"));
  int lines = 0;
  for (std::string line; std::getline(rejected, line); ++lines)
    EXPECT_FALSE(json::parse(line).at("reason").get<std::string>().empty());
  EXPECT_GE(lines, 4);
  EXPECT_FALSE(std::filesystem::exists(house.path("data/manifest.json")));
}

TEST(IngestService, AShardThatIsNotWhatWasReportedIsBuiltAgain) {
  IngestHouse house;
  const auto daemon = house.Start();
  const std::string id = PostOrder(*daemon, house.Order("data"));
  FakeBuilder worker(house, *daemon, "w");
  const TaskGranted task = worker.AskForShard();
  ShardBuilt built = FakeBuilder::Build(task);
  std::filesystem::remove(task.folder + "/shard/CURRENT");
  EXPECT_TRUE(std::holds_alternative<LeaseOver>(worker.Ask(built)));
  EXPECT_EQ(IngestEvents(*daemon, id, "commit_failed").size(), 1u);
  worker.BuildAll();
  ASSERT_TRUE(IngestReaches(*daemon, id, "COMPLETED"));
  EXPECT_EQ(house.Published("data"), house.Local("local"));
}

TEST(IngestService, WorkersThatCannotRunFailTheIngestAndSayWhy) {
  IngestHouse house;
  house.Script("worker", "echo broken >&2; exit 7");
  house.options.worker = house.path("worker");
  house.options.ingest_limits.max_worker_restarts = 2;
  const auto daemon = house.Start();
  const std::string id = PostOrder(*daemon, house.Order("data", 2));
  ASSERT_TRUE(IngestReaches(*daemon, id, "FAILED"));
  const json ingest = GetJson(*daemon, "/v1/datasets/" + id);
  EXPECT_EQ(ingest.at("reason"), "WORKERS_LOST");
  EXPECT_THAT(ingest.at("message").get<std::string>(), HasSubstr("code 7"));
  EXPECT_EQ(ingest.at("workers")[0].at("attempt"), 3);
}

TEST(IngestService, BadOrdersAreExplained) {
  IngestHouse house;
  const auto daemon = house.Start();
  const auto problem = [&](const json& order, int status, const std::string& detail, const std::string& field = {}) {
    const auto answer = PostJson(*daemon, "/v1/datasets", order.dump());
    EXPECT_EQ(answer.status, status) << answer.body;
    const json body = json::parse(answer.body);
    EXPECT_THAT(body.at("detail").get<std::string>(), HasSubstr(detail));
    EXPECT_EQ(body.value("field", ""), field) << answer.body;
  };
  const json good(IngestOrderToJson(house.Order("data")));
  json order = good;
  order["out"] = "store";
  problem(order, 422, "absolute", "out");
  order = good;
  order["source"]["train"] = "train.tar";
  problem(order, 422, "absolute", "source.train");
  order = good;
  order["source"]["train"] = house.path("absent.tar");
  problem(order, 422, "does not exist", "source.train");
  order = good;
  order["shrads"] = 4;
  problem(order, 422, "shards");
  order = good;
  order["max_rejected"] = "many";
  problem(order, 422, "share", "max_rejected");
  order = good;
  order.erase("source");
  problem(order, 422, "missing", "source");
  EXPECT_EQ(PostJson(*daemon, "/v1/datasets", "{").status, 400);
  house.Local("data");
  problem(good, 409, "finished store");
  EXPECT_EQ(GetJson(*daemon, "/v1/datasets/absent").at("status"), 404);
  EXPECT_EQ(GetJson(*daemon, "/v1/datasets/absent/thing").at("status"), 404);
  EXPECT_EQ(PostJson(*daemon, "/v1/datasets/absent").status, 405);
}

TEST(IngestService, AnIdempotencyKeyMakesOneIngestAlsoWhenItHasEnded) {
  IngestHouse house;
  const auto daemon = house.Start();
  const std::string key = "Idempotency-Key: one\r\n", body = IngestOrderToJson(house.Order("data")).dump();
  EXPECT_EQ(PostJson(*daemon, "/v1/datasets", body, key).status, 201);
  FakeBuilder(house, *daemon, "w").BuildAll();
  ASSERT_TRUE(IngestReaches(*daemon, "data-1", "COMPLETED"));
  const auto again = PostJson(*daemon, "/v1/datasets", body, key);
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(json::parse(again.body).at("state"), "COMPLETED");
  EXPECT_EQ(PostJson(*daemon, "/v1/datasets", IngestOrderToJson(house.Order("other")).dump(), key).status, 422);
}

TEST(IngestService, ALongPollAnswersWhenSomethingHappens) {
  IngestHouse house;
  const auto daemon = house.Start();
  const std::string id = PostOrder(*daemon, house.Order("data"));
  FakeBuilder worker(house, *daemon, "w");
  const int64_t last = GetJson(*daemon, "/v1/datasets/" + id + "/events").at("last");
  json answer;
  std::thread client([&] { answer = GetJson(*daemon, fmt::format("/v1/datasets/{}/events?after={}&wait=30", id, last)); });
  worker.AskForShard();
  client.join();
  ASSERT_FALSE(answer.at("events").empty());
  EXPECT_GT(answer.at("last"), last);
}

}  // namespace
}  // namespace plateau::test
