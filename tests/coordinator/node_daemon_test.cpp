// Nodes through the whole coordinator: REST, placement over hosts, a host that is lost and comes back, restarts. The remote agent is
// a script that a file can make deaf.
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/coordinator_daemon.h"

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

RawAnswer Ask(const Daemon& daemon, const std::string& method, const std::string& target) {
  RawHttp http(daemon.http_endpoint());
  return http.Ask(method, target);
}

json NodeOf(const Daemon& daemon, const std::string& name) { return GetJson(daemon, "/v1/nodes/" + name); }

bool NodeReaches(const Daemon& daemon, const std::string& name, const std::string& state) {
  return Eventually([&] { return NodeOf(daemon, name).value("state", "") == state; });
}

// A coordinator whose link other hosts could reach, and whose agent answers for hosts without a file "deaf-<host>".
class NodeHome : public CoordinatorHome {
 public:
  NodeHome() {
    Script("agent", "[ -e " + path("deaf-") + "$1 ] && { echo \"no route to $1\" >&2; exit 255; }\necho 0,0; echo 1,0");
    options.rsh_agent = path("agent");
    options.link_advertise = "127.0.0.1";
  }
  void AddNodes(const Daemon& daemon, const std::vector<std::string>& names) const {
    for (const auto& name : names) {
      const auto added = PostJson(daemon, "/v1/nodes", json{{"name", name}, {"cores", 1}}.dump());
      EXPECT_EQ(added.status, 201) << added.body;
    }
    for (const auto& name : names) EXPECT_TRUE(NodeReaches(daemon, name, "READY"));
  }
  json Launch(int attempt) const { return WaitForJson(fmt::format("state/jobs/small-1/attempt-{}/launch.json", attempt)); }
};

TEST(NodeDaemon, WithoutNodesThisMachineIsTheOnlyOne) {
  CoordinatorHome home;
  const auto daemon = home.Start();
  const json nodes = GetJson(*daemon, "/v1/nodes").at("nodes");
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].at("name"), "localhost");
  EXPECT_EQ(nodes[0].at("cores"), 4);
  EXPECT_EQ(nodes[0].at("implicit"), true);
}

TEST(NodeDaemon, NodesAreAddedAskedListedAndRemoved) {
  NodeHome home;
  const auto daemon = home.Start();
  const auto added = PostJson(*daemon, "/v1/nodes", R"({"name": "n1"})");
  ASSERT_EQ(added.status, 201) << added.body;
  EXPECT_TRUE(added.Has("Location: /v1/nodes/n1"));
  EXPECT_TRUE(NodeReaches(*daemon, "n1", "READY"));
  EXPECT_EQ(NodeOf(*daemon, "n1").at("cores"), 2) << "as the host said";
  home.Write("deaf-n2", "");
  EXPECT_EQ(PostJson(*daemon, "/v1/nodes", R"({"name": "n2", "cores": 8})").status, 201);
  EXPECT_TRUE(NodeReaches(*daemon, "n2", "LOST"));
  EXPECT_THAT(NodeOf(*daemon, "n2").at("message").get<std::string>(), HasSubstr("no route to n2"));
  EXPECT_EQ(GetJson(*daemon, "/v1/nodes").at("nodes").size(), 2u);
  EXPECT_EQ(Ask(*daemon, "DELETE", "/v1/nodes/n2").status, 200);
  EXPECT_EQ(Ask(*daemon, "DELETE", "/v1/nodes/n2").status, 404);
  EXPECT_EQ(Ask(*daemon, "GET", "/v1/nodes/n2").status, 404);
  EXPECT_TRUE(Ask(*daemon, "PUT", "/v1/nodes").Has("Allow: GET, HEAD, POST"));
}

TEST(NodeDaemon, BadNodesAreRefusedWithTheFieldAndTheRemedy) {
  NodeHome home;
  const auto daemon = home.Start();
  for (const char* body : {"nonsense", "{}", R"({"name": 3})", R"({"name": "n1", "cores": 0})", R"({"name": "-x"})",
                           R"({"name": "n1", "slots": 2})", R"({"name": "n1", "gpus": -1})", R"({"name": "n1", "gpus": "all"})",
                           R"({"name": "n1", "gpus": [0, 0]})", R"({"name": "n1", "gpus": [true]})"}) {
    const auto refused = PostJson(*daemon, "/v1/nodes", body);
    EXPECT_EQ(refused.status, 422) << body << refused.body;
  }
}

TEST(NodeDaemon, HostsTellTheirGpusAndAGangGetsThemInTheOrderOfItsRanks) {
  NodeHome home;
  home.Script("agent", "echo 0,0; echo 1,0; [ $1 = n1 ] && echo '" +
                           GpuReportLine({{{"2", "NVIDIA H200", 7}, {"5", "NVIDIA H200", 7}}, ""}) + "'; [ $1 = n2 ] && echo '" +
                           GpuReportLine({{{"0", "NVIDIA L4", 7}}, ""}) + "'; [ $1 = n3 ] && echo '" +
                           GpuReportLine({{}, "no CUDA driver on this machine"}) + "'; exit 0");
  const auto daemon = home.Start();
  for (const char* name : {"n1", "n2", "n3"}) {
    ASSERT_EQ(PostJson(*daemon, "/v1/nodes", json{{"name", name}}.dump()).status, 201);
    EXPECT_TRUE(NodeReaches(*daemon, name, "READY"));
  }
  EXPECT_EQ(NodeOf(*daemon, "n1").at("gpus").size(), 2u);
  EXPECT_EQ(NodeOf(*daemon, "n2").at("gpus")[0].at("name"), "NVIDIA L4");
  EXPECT_EQ(NodeOf(*daemon, "n3").at("no_gpus_why"), "no CUDA driver on this machine");
  json spec = home.Spec(3);
  spec["resources"]["device"] = "cuda";
  ASSERT_EQ(PostJson(*daemon, "/v1/jobs", spec.dump()).status, 201);
  const json launch = home.Launch(1);
  EXPECT_EQ(launch.at("environment").at("PLATEAU_GPUS"), "2,5,0");
  PosixFileSystem files;
  EXPECT_EQ(files.Read(home.path("state/jobs/small-1/attempt-1/hostfile")).value_or(""), "n1 slots=2\nn2 slots=1\n");
}

TEST(NodeDaemon, RanksOfThisMachineAreTheFirstAsMpirunNumbersThem) {
  NodeHome home;
  const auto daemon = home.Start();
  home.AddNodes(*daemon, {"n1"});
  ASSERT_EQ(PostJson(*daemon, "/v1/nodes", R"({"name": "localhost", "cores": 1})").status, 201);
  ASSERT_EQ(PostJson(*daemon, "/v1/jobs", home.Spec(2).dump()).status, 201);
  home.Launch(1);
  PosixFileSystem files;
  EXPECT_EQ(files.Read(home.path("state/jobs/small-1/attempt-1/hostfile")).value_or(""), "localhost slots=1\nn1 slots=1\n");
  EXPECT_EQ(GetJson(*daemon, "/v1/nodes").at("nodes")[0].at("name"), "n1") << "the list stays in the order of addition";
}

TEST(NodeDaemon, AnotherMachineIsRefusedWhileTheLinkIsLoopbackOnly) {
  NodeHome home;
  home.options.link_advertise.clear();
  {
    const auto daemon = home.Start();
    const auto refused = PostJson(*daemon, "/v1/nodes", R"({"name": "n1"})");
    EXPECT_EQ(refused.status, 409);
    EXPECT_THAT(refused.body, HasSubstr("--link"));
    EXPECT_EQ(GetJson(*daemon, "/v1/nodes").at("nodes")[0].at("implicit"), true) << "nothing was kept";
    EXPECT_EQ(PostJson(*daemon, "/v1/nodes", R"({"name": "localhost", "cores": 2})").status, 201);
  }
  home.Write("hosts", "n1 slots=2\n");
  home.options.hostfile = home.path("hosts");
  const auto daemon = Daemon::Start(home.options, WebAssets());
  ASSERT_FALSE(daemon.has_value());
  EXPECT_THAT(daemon.error().message, HasSubstr("node n1 is another machine"));
}

TEST(NodeDaemon, AHostfileNamesTheNodesAndAnEditedOneReplacesIt) {
  NodeHome home;
  home.Write("hosts", "n1 slots=2\nn2 slots=1\n");
  home.options.hostfile = home.path("hosts");
  {
    const auto daemon = home.Start();
    EXPECT_TRUE(NodeReaches(*daemon, "n2", "READY"));
    EXPECT_EQ(PostJson(*daemon, "/v1/nodes", R"({"name": "by-hand", "cores": 1})").status, 201);
  }
  home.Write("hosts", "n1 slots=4\n");
  const auto daemon = home.Start();
  std::vector<std::string> names;
  const json list = GetJson(*daemon, "/v1/nodes");
  for (const auto& node : list.at("nodes")) names.push_back(node.at("name"));
  EXPECT_THAT(names, ElementsAre("n1", "by-hand"));
  EXPECT_EQ(NodeOf(*daemon, "n1").at("cores"), 4);
}

TEST(NodeDaemon, AGangOverHostsGetsItsHostfileAndKeepsSpecAndLogsWithTheOutput) {
  NodeHome home;
  home.Script("mpirun", "echo hello; exec sleep 1000");
  const auto daemon = home.Start();
  home.AddNodes(*daemon, {"n1", "n2", "n3"});
  ASSERT_EQ(PostJson(*daemon, "/v1/jobs", home.Spec(3).dump()).status, 201);
  const json launch = home.Launch(1);
  EXPECT_THAT(launch.at("arguments").get<std::vector<std::string>>(), Contains(home.path("state/jobs/small-1/attempt-1/hostfile")));
  PosixFileSystem files;
  EXPECT_EQ(files.Read(home.path("state/jobs/small-1/attempt-1/hostfile")).value_or(""), "n1 slots=1\nn2 slots=1\nn3 slots=1\n");
  EXPECT_EQ(launch.at("environment").at(kLogDirectoryVariable), home.path("runs/small-1/attempt-1/logs"));
  EXPECT_TRUE(files.Exists(home.path("runs/small-1/attempt-1/spec.json")));
  RawAnswer log;
  EXPECT_TRUE(Eventually([&] {
    log = Ask(*daemon, "GET", "/v1/jobs/small-1/logs?file=mpirun.log");
    return log.body == "hello\n";
  })) << log.body;
  const json job = GetJson(*daemon, "/v1/jobs/small-1");
  EXPECT_EQ(job.at("attempts")[0].at("nodes")[2].at("node"), "n3");
  EXPECT_EQ(NodeOf(*daemon, "n3").at("jobs")[0], "small-1");
  EXPECT_EQ(NodeOf(*daemon, "n3").at("used_cores"), 1);
}

TEST(NodeDaemon, ALostHostIsNamedWaitedForAcrossARestartAndTakenAgain) {
  NodeHome home;
  auto daemon = home.Start();
  home.AddNodes(*daemon, {"n1", "n2", "n3"});
  json spec = home.Spec(3);
  spec["fault"]["hang_timeout"] = "5s";
  ASSERT_EQ(PostJson(*daemon, "/v1/jobs", spec.dump()).status, 201);
  {
    FakeRank rank0(home, *daemon, "small-1", 1, 0), rank1(home, *daemon, "small-1", 1, 1), rank2(home, *daemon, "small-1", 1, 2);
    for (FakeRank* rank : {&rank0, &rank1, &rank2}) rank->Ask(Heartbeat{.step = 12, .phase = "reduce"});
    EXPECT_TRUE(ReachesState(*daemon, "small-1", "RUNNING"));
    home.Write("deaf-n3", "");
    EXPECT_TRUE(Eventually([&] {  // the other two live on
      rank0.Ask(Heartbeat{.step = 12, .phase = "reduce"});
      rank1.Ask(Heartbeat{.step = 12, .phase = "reduce"});
      return NodeOf(*daemon, "n3").value("state", "") == "LOST";
    }));
  }
  const auto waits = [&] {
    const json job = GetJson(*daemon, "/v1/jobs/small-1");
    return job.value("state", "") == "QUEUED" && job.value("reason", "") == "WAITING_FOR_HOST";
  };
  EXPECT_TRUE(Eventually(waits)) << GetJson(*daemon, "/v1/jobs/small-1").dump(1);
  const json job = GetJson(*daemon, "/v1/jobs/small-1");
  EXPECT_THAT(job.at("message").get<std::string>(), HasSubstr("n3"));
  EXPECT_EQ(job.at("attempts")[0].at("reason"), "LOST_HOST");
  EXPECT_THAT(job.at("attempts")[0].at("message").get<std::string>(), HasSubstr("host n3: rank 2 silent for "));
  EXPECT_THAT(job.at("attempts")[0].at("message").get<std::string>(), HasSubstr("at step 12 in phase reduce"));
  daemon.reset();
  daemon = home.Start();
  EXPECT_TRUE(waits()) << "both are on the disk";
  EXPECT_EQ(NodeOf(*daemon, "n3").at("state"), "LOST");
  std::filesystem::remove(home.path("deaf-n3"));
  EXPECT_TRUE(NodeReaches(*daemon, "n3", "READY"));
  FakeRank again(home, *daemon, "small-1", 2, 2);
  EXPECT_TRUE(std::holds_alternative<HeartbeatReply>(again.Ask(Heartbeat{})));
}

TEST(NodeDaemon, MinWorkersLetsAJobGoOnWithoutTheLostHost) {
  NodeHome home;
  const auto daemon = home.Start();
  home.AddNodes(*daemon, {"n1", "n2"});
  home.Write("deaf-n3", "");
  ASSERT_EQ(PostJson(*daemon, "/v1/nodes", R"({"name": "n3", "cores": 1})").status, 201);
  ASSERT_TRUE(NodeReaches(*daemon, "n3", "LOST"));
  json spec = home.Spec(3);
  spec["resources"]["min_workers"] = 2;
  ASSERT_EQ(PostJson(*daemon, "/v1/jobs", spec.dump()).status, 201);
  const json launch = home.Launch(1);
  const auto arguments = launch.at("arguments").get<std::vector<std::string>>();
  EXPECT_EQ(arguments[1], "-np");
  EXPECT_EQ(arguments[2], "2");
}

TEST(RemoteLink, IsAnAddressThatOtherHostsReach) {
  EXPECT_EQ(RemoteLink("tcp://127.0.0.1:7081", "", "head"), "");
  EXPECT_EQ(RemoteLink("tcp://10.0.0.1:7081", "", "head"), "tcp://10.0.0.1:7081");
  EXPECT_EQ(RemoteLink("tcp://0.0.0.0:7081", "", "head"), "tcp://head:7081");
  EXPECT_EQ(RemoteLink("tcp://0.0.0.0:7081", "10.0.0.1", "head"), "tcp://10.0.0.1:7081");
  EXPECT_EQ(RemoteLink("tcp://127.0.0.1:7081", "gate:9", "head"), "tcp://gate:9");
}

}  // namespace
}  // namespace plateau::test
