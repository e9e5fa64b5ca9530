// The mpirun command line: bound where the cores are the job's own, named cores on a shared node, unbound when there are too few.
#include "coordinator/launch/mpirun_command.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/messages.h"

namespace plateau {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

NodeShare Here(int workers, std::vector<int> cores) { return {kLocalNode, workers, std::move(cores)}; }

GangDescription Gang(std::vector<NodeShare> shares, int threads, int machine_cores) {
  return {.job = "a-1",
          .attempt = 3,
          .folder = "/state/a",
          .logs = "/state/a/logs",
          .worker = "/bin/plateau-worker",
          .spec_path = "/state/a/spec.json",
          .coordinator = "tcp://127.0.0.1:7081",
          .token = "secret",
          .shares = std::move(shares),
          .threads_per_worker = threads,
          .machine_cores = machine_cores,
          .as_root = true,
          .scratch = "/dev/shm/x"};
}

std::string Line(const LaunchRequest& request) {
  std::string line;
  for (const auto& argument : request.arguments) line += argument + " ";
  return line;
}

std::map<std::string, std::string> Environment(const LaunchRequest& request) {
  return {request.environment.begin(), request.environment.end()};
}

TEST(MpirunCommand, RanksAreBoundToTheFirstCores) {
  const auto request = MpirunLaunch(Gang({Here(2, {0, 1, 2, 3})}, 2, 8));
  EXPECT_THAT(Line(request), HasSubstr("mpirun -np 2 --map-by slot:PE=2 --bind-to core "));
  EXPECT_THAT(
      Line(request),
      HasSubstr(
          "/bin/plateau-worker train /state/a/spec.json --job a-1 --attempt 3 --coordinator tcp://127.0.0.1:7081 --resume auto"));
  EXPECT_TRUE(request.rankfile.empty());
  EXPECT_FALSE(Environment(request).contains("OMPI_MCA_rmaps_base_oversubscribe"));
}

TEST(MpirunCommand, OtherCoresAreNamedInARankfile) {
  const auto request = MpirunLaunch(Gang({Here(2, {2, 3, 5, 6})}, 2, 8));
  EXPECT_EQ(request.rankfile, "rank 0=localhost slot=2,3\nrank 1=localhost slot=5,6\n");
  EXPECT_THAT(Line(request), HasSubstr("--rankfile /state/a/rankfile"));
  EXPECT_THAT(Line(request), Not(HasSubstr("--map-by")));
}

TEST(MpirunCommand, MoreRanksThanCoresRunUnboundAndYield) {
  for (const auto& gang : {Gang({Here(4, {})}, 1, 2), Gang({Here(4, {0, 1, 2, 3})}, 1, 2)}) {
    const auto request = MpirunLaunch(gang);
    EXPECT_THAT(Line(request), HasSubstr("--bind-to none"));
    EXPECT_EQ(Environment(request)["OMPI_MCA_rmaps_base_oversubscribe"], "1");
    EXPECT_EQ(Environment(request)["OMPI_MCA_mpi_yield_when_idle"], "1");
  }
}

TEST(MpirunCommand, SeveralHostsGetAHostfileKeepalivesAndTwoLinks) {
  auto gang = Gang({{"n1", 2, {0, 1, 2, 3}}, {"n2", 1, {0, 1}}}, 2, 1);
  gang.logs = "/shared/runs/a-1/attempt-3/logs";
  gang.rsh_agent = "ssh -i /etc/key";
  const auto request = MpirunLaunch(gang);
  EXPECT_EQ(request.hostfile, "n1 slots=2\nn2 slots=1\n");
  EXPECT_TRUE(request.rankfile.empty());
  EXPECT_THAT(Line(request), HasSubstr("mpirun -np 3 --hostfile /state/a/hostfile --wdir /shared/runs/a-1/attempt-3/logs "
                                       "--mca plm_rsh_agent ssh -i /etc/key "));
  EXPECT_THAT(Line(request), HasSubstr("--mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3"));
  EXPECT_THAT(Line(request), HasSubstr("--mca btl_tcp_links 2"));
  EXPECT_THAT(Line(request), HasSubstr("--map-by slot:PE=2 --bind-to core "));
  EXPECT_THAT(Line(request), Not(HasSubstr("fqdn")));
  EXPECT_EQ(Environment(request)[kLogDirectoryVariable], "/shared/runs/a-1/attempt-3/logs");
  EXPECT_THAT(request.arguments, Contains("ssh -i /etc/key")) << "one argument";
  EXPECT_EQ(Environment(request)["TMPDIR"], "/dev/shm/x");
  EXPECT_FALSE(Environment(request).contains("OMPI_MCA_orte_tmpdir_base"));
  EXPECT_FALSE(Environment(request).contains("OMPI_MCA_btl_vader_backing_directory")) << "other hosts do not have this folder";
}

TEST(MpirunCommand, CoresOfAHostThatIsSharedAreNamedInARankfile) {
  const auto request = MpirunLaunch(Gang({{"n1", 1, {0, 1}}, {"n2", 2, {2, 3, 4, 5}}}, 2, 1));
  EXPECT_EQ(request.rankfile, "rank 0=n1 slot=0,1\nrank 1=n2 slot=2,3\nrank 2=n2 slot=4,5\n");
  EXPECT_EQ(request.hostfile, "n1 slots=1\nn2 slots=2\n");
  EXPECT_THAT(Line(request), HasSubstr("--rankfile /state/a/rankfile"));
  EXPECT_THAT(Line(request), Not(HasSubstr("--map-by")));
}

TEST(MpirunCommand, OneOtherHostIsReachedByTheAgentToo) {
  const auto request = MpirunLaunch(Gang({{"n1.cluster", 1, {0}}}, 1, 1));
  EXPECT_EQ(request.hostfile, "n1.cluster slots=1\n");
  EXPECT_THAT(Line(request), HasSubstr("--mca orte_keep_fqdn_hostnames 1"));
  EXPECT_THAT(Line(request), Not(HasSubstr("plm_rsh_agent"))) << "Open MPI's own choice";
}

TEST(MpirunCommand, ThisMachineAloneNeedsNoHostfile) {
  const auto request = MpirunLaunch(Gang({Here(2, {0, 1})}, 1, 8));
  EXPECT_TRUE(request.hostfile.empty());
  EXPECT_THAT(Line(request), Not(HasSubstr("keepalive")));
}

TEST(MpirunCommand, EachRanksGpuIsNamedInTheOrderOfRanks) {
  const auto request = MpirunLaunch(Gang({{"n1", 2, {0, 1}, {"2", "3"}}, {"n2", 1, {0}, {"0"}}}, 1, 1));
  EXPECT_EQ(Environment(request)["PLATEAU_GPUS"], "2,3,0");
  EXPECT_THAT(Line(request), HasSubstr("-x PLATEAU_GPUS "));
}

TEST(MpirunCommand, RanksOnTheCpuAreToldToSeeNoGpu) {
  EXPECT_EQ(Environment(MpirunLaunch(Gang({Here(2, {0, 1})}, 1, 8)))["PLATEAU_GPUS"], "none");
}

TEST(MpirunCommand, TheTokenTravelsInTheEnvironmentOnly) {
  const auto request = MpirunLaunch(Gang({Here(1, {0})}, 1, 2));
  EXPECT_THAT(Line(request), Not(HasSubstr("secret")));
  EXPECT_THAT(Line(request), HasSubstr("-x PLATEAU_TOKEN -x PLATEAU_LOG_DIR"));
  EXPECT_EQ(Environment(request)[kTokenVariable], "secret");
  EXPECT_EQ(Environment(request)[kLogDirectoryVariable], "/state/a/logs");
  EXPECT_EQ(Environment(request)["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"], "1");
  EXPECT_EQ(Environment(request)["OMPI_MCA_btl_vader_backing_directory"], "/dev/shm/x");
}

}  // namespace
}  // namespace plateau
