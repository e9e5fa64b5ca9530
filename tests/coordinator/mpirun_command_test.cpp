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

GangDescription Gang(int workers, int threads, std::vector<int> cores, int machine_cores) {
  return {.job = "a-1",
          .attempt = 3,
          .folder = "/state/a",
          .worker = "/bin/plateau-worker",
          .spec_path = "/state/a/spec.json",
          .coordinator = "tcp://127.0.0.1:7081",
          .token = "secret",
          .workers = workers,
          .threads_per_worker = threads,
          .cores = std::move(cores),
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
  const auto request = MpirunLaunch(Gang(2, 2, {0, 1, 2, 3}, 8));
  EXPECT_THAT(Line(request), HasSubstr("mpirun -np 2 --map-by slot:PE=2 --bind-to core "));
  EXPECT_THAT(
      Line(request),
      HasSubstr(
          "/bin/plateau-worker train /state/a/spec.json --job a-1 --attempt 3 --coordinator tcp://127.0.0.1:7081 --resume auto"));
  EXPECT_TRUE(request.rankfile.empty());
  EXPECT_FALSE(Environment(request).contains("OMPI_MCA_rmaps_base_oversubscribe"));
}

TEST(MpirunCommand, OtherCoresAreNamedInARankfile) {
  const auto request = MpirunLaunch(Gang(2, 2, {2, 3, 5, 6}, 8));
  EXPECT_EQ(request.rankfile, "rank 0=localhost slot=2,3\nrank 1=localhost slot=5,6\n");
  EXPECT_THAT(Line(request), HasSubstr("--rankfile /state/a/rankfile"));
  EXPECT_THAT(Line(request), Not(HasSubstr("--map-by")));
}

TEST(MpirunCommand, MoreRanksThanCoresRunUnboundAndYield) {
  for (const auto& gang : {Gang(4, 1, {}, 2), Gang(4, 1, {0, 1, 2, 3}, 2)}) {
    const auto request = MpirunLaunch(gang);
    EXPECT_THAT(Line(request), HasSubstr("--bind-to none"));
    EXPECT_EQ(Environment(request)["OMPI_MCA_rmaps_base_oversubscribe"], "1");
    EXPECT_EQ(Environment(request)["OMPI_MCA_mpi_yield_when_idle"], "1");
  }
}

TEST(MpirunCommand, TheTokenTravelsInTheEnvironmentOnly) {
  const auto request = MpirunLaunch(Gang(1, 1, {0}, 2));
  EXPECT_THAT(Line(request), Not(HasSubstr("secret")));
  EXPECT_THAT(Line(request), HasSubstr("-x PLATEAU_TOKEN -x PLATEAU_LOG_DIR"));
  EXPECT_EQ(Environment(request)[kTokenVariable], "secret");
  EXPECT_EQ(Environment(request)[kLogDirectoryVariable], "/state/a/logs");
  EXPECT_EQ(Environment(request)["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"], "1");
  EXPECT_EQ(Environment(request)["OMPI_MCA_btl_vader_backing_directory"], "/dev/shm/x");
}

}  // namespace
}  // namespace plateau
