// Ingest through the real programs: three workers of which two are killed, the coordinator killed and started again, the same
// content.
#include <csignal>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/launch/session.h"
#include "tests/support/house.h"
#include "tests/support/polling.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

// A house with tars, and what `plateau dataset ingest` needs to know of them.
class IngestThroughPrograms : public ::testing::Test {
 protected:
  void SetUp() override {
    const Ran made = RunPlateau("dataset synthesize --out " + set() + " --classes 4 --train 720 --val 60 --size 96 --seed 5");
    ASSERT_EQ(made.code, 0) << made.out;
  }
  std::string set() const { return house_.folder() + "/set"; }
  std::string Arguments(const std::string& out) const {
    return fmt::format(
        "--train {0}/train.tar --val {0}/val.tar --val-labels {0}/val.txt --synsets {0}/synset_words.txt --shards 24 --out {1}",
        set(), house_.folder() + "/" + out);
  }
  Json Ingest(const std::string& id) const {
    const auto ingest = house_.Api().Get("/v1/datasets/" + id);
    EXPECT_TRUE(ingest.has_value()) << ingest.error().message;
    return ingest ? *ingest : Json::object();
  }
  // A process that holds a lease of the ingest once `committed` shards are in their places, other than `except`; 0 when the ingest
  // ended first.
  pid_t Builder(const std::string& id, const std::set<pid_t>& except, size_t committed) const {
    pid_t found = 0;
    EXPECT_TRUE(Eventually(
        [&] {
          const Json ingest = Ingest(id);
          for (const auto& lease : ingest["leases"])
            if (ingest["committed"].get<size_t>() >= committed && !except.contains(lease["pid"].get<pid_t>())) found = lease["pid"];
          return found > 0 || ingest["state"] == "COMPLETED";
        },
        60'000));
    return found;
  }
  // Ingest workers of this house's coordinator that live.
  int Workers() const {
    PosixFileSystem files;
    const std::string link = ReadEndpoints(house_.state())->link;
    int workers = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const auto arguments = files.Read(entry.path().string() + "/cmdline");
      workers +=
          arguments && arguments->find("plateau-worker") != std::string::npos && arguments->find(link) != std::string::npos ? 1 : 0;
    }
    return workers;
  }
  static std::string Checksums(const Json& splits) {
    return splits["train"].value("checksum", "") + " " + splits["val"].value("checksum", "");
  }

  House house_;
};

TEST_F(IngestThroughPrograms, WorkersASupervisorAndTheCoordinatorAreKilledAndTheContentIsTheLocalOnes) {
  const Ran local = RunPlateau("dataset ingest --json " + Arguments("local"));
  ASSERT_EQ(local.code, 0) << local.out;
  const Ran ordered = RunPlateau("dataset ingest --coordinator --detach --json --workers 3 --jobs 1 --state " + house_.state() +
                                 " " + Arguments("shared"));
  ASSERT_EQ(ordered.code, 0) << ordered.out;
  const std::string id = Json::parse(ordered.out).value("id", "");

  const unsigned seed = std::random_device()();
  SCOPED_TRACE(fmt::format("kills drawn from seed {}", seed));
  std::mt19937 random(seed);
  std::set<pid_t> killed;
  size_t committed = 0;  // the kills come at drawn moments, all well before the end
  for (int kill = 0; kill < 2; ++kill) {
    const pid_t victim = Builder(id, killed, committed += random() % 4);
    ASSERT_GT(victim, 0) << "the ingest was over before worker " << kill << " could be killed";
    ASSERT_EQ(::kill(victim, SIGKILL), 0);
    killed.insert(victim);
  }
  // The supervisor of a third, which takes its worker with it.
  const pid_t third = Builder(id, killed, committed + random() % 4);
  ASSERT_GT(third, 0) << "the ingest was over before a supervisor could be killed";
  const auto process = ReadProcess(third);
  ASSERT_TRUE(process.has_value()) << third;
  ASSERT_EQ(::kill(process->parent, SIGKILL), 0);
  ASSERT_NE(Ingest(id)["state"], "COMPLETED");
  house_.KillCoordinator();
  house_.Up();
  const Ran watched = RunPlateau("dataset watch --state " + house_.state() + " " + id);
  EXPECT_EQ(watched.code, 0) << watched.out;
  EXPECT_THAT(watched.out, HasSubstr("COMPLETED"));

  const Json ingest = Ingest(id);
  EXPECT_EQ(Checksums(ingest["splits"]), Checksums(Json::parse(local.out)["splits"]));
  const Ran verified = RunPlateau("dataset verify " + house_.folder() + "/shared");
  EXPECT_EQ(verified.code, 0) << verified.out;
  std::map<std::string, int> commits, exits;
  std::set<int64_t> leases;
  const Json events = *house_.Api().Get("/v1/datasets/" + id + "/events");
  for (const auto& event : events["events"]) {
    if (event["type"] == "committed") commits[event["shard"]] += 1;
    if (event["type"] == "worker_exited") exits[event.value("message", "")] += 1;
    if (event["type"] == "lease_granted") {
      EXPECT_TRUE(leases.insert(event["lease"].get<int64_t>()).second) << event.dump();
    }
  }
  EXPECT_EQ(commits.size(), ingest["shards"].get<size_t>());
  for (const auto& [shard, times] : commits) EXPECT_EQ(times, 1) << shard;
  EXPECT_GE(exits.size(), 1u);
  EXPECT_TRUE(Eventually([&] { return Workers() == 0; }, 60'000)) << "a worker outlived its ingest";
}

TEST_F(IngestThroughPrograms, WorkersStartedByHandUnderMpirunPullTheirShards) {
  const Ran ordered =
      RunPlateau("dataset ingest --coordinator --detach --json --workers 0 --state " + house_.state() + " " + Arguments("by-hand"));
  ASSERT_EQ(ordered.code, 0) << ordered.out;
  const std::string id = Json::parse(ordered.out).value("id", ""), link = ReadEndpoints(house_.state())->link;
  const std::string command =
      fmt::format("mpirun -np 3 --bind-to none {}/plateau-worker ingest --coordinator {} --token {}/join-token >&2",
                  PLATEAU_BIN_DIR, link, house_.state());
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_TRUE(Eventually([&] { return Ingest(id)["state"] == "COMPLETED"; }));
  const Json ingest = Ingest(id);
  EXPECT_EQ(ingest["splits"]["train"]["records"], 720);
  const Ran refused = RunPlateau("dataset ingest --coordinator --state " + house_.state() + " " + Arguments("by-hand"));
  EXPECT_EQ(refused.code, 1) << refused.out;
  EXPECT_THAT(refused.out, HasSubstr("finished store"));
  EXPECT_EQ(RunPlateau("ingest --coordinator " + link + " --token /etc/hostname").code, 2) << "a wrong token";
}

}  // namespace
}  // namespace plateau::test
