// A rank of an old attempt that wakes up after its successor started: it can neither report, nor publish, nor delete.
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/gang_watch.h"
#include "tests/support/house.h"
#include "tests/support/outcome.h"
#include "tests/support/polling.h"
#include "tests/support/worker_run.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

// An mpirun that only sleeps in the first attempt, whose rank the test starts by hand, out of the reach of any kill by session.
class GatedMpirun {
 public:
  GatedMpirun() {
    const std::string script = folder_.path() + "/mpirun";
    std::ofstream(script) << "#!/bin/bash\n[[ \"$*\" == *\"--attempt 1 \"* ]] && exec sleep 1000\nPATH=\"" << path_ << "\" exec mpirun \"$@\"\n";
    ::chmod(script.c_str(), 0755);
    ::setenv("PATH", (folder_.path() + ":" + path_).c_str(), 1);
  }
  ~GatedMpirun() { ::setenv("PATH", path_.c_str(), 1); }

 private:
  std::string path_ = std::getenv("PATH");
  TempFolder folder_;
};

TEST(Zombie, AnOldAttemptThatWakesUpIsRefusedAndChangesNothing) {
  const GatedMpirun gate;
  House house;
  PosixFileSystem files;
  Json spec = house.Spec("zombie");
  spec["resources"]["workers"] = 1;
  spec["fault"]["hang_timeout"] = "5s";
  const std::string id = house.Submit(spec);
  const std::string attempt = fmt::format("{}/jobs/{}/attempt-1", house.state(), id), run = house.runs() + "/" + id;
  ASSERT_TRUE(Eventually([&] { return files.Exists(attempt + "/supervisor.json"); }));
  const Json launch = Json::parse(files.Read(attempt + "/launch.json").value());
  for (const char* name : {"PLATEAU_TOKEN", "OMP_NUM_THREADS"})
    ::setenv(name, launch["environment"][name].get<std::string>().c_str(), 1);
  Process zombie({PLATEAU_BIN_DIR "/plateau-worker", "train", attempt + "/spec.json", "--job", id, "--attempt", "1", "--coordinator",
                  ReadEndpoints(house.state())->link, "--resume", "auto"},
                 house.folder() + "/zombie.log");
  ::unsetenv("PLATEAU_TOKEN");
  const Json trained = house.AwaitCheckpoint(id);
  ASSERT_FALSE(House::Ended(trained)) << zombie.Output();
  ASSERT_EQ(::kill(zombie.pid(), SIGSTOP), 0);

  const auto published_by_second = [](const Json& job) {
    return House::Ended(job) || (job["checkpoint"].is_object() && job["checkpoint"]["path"].get<std::string>().starts_with("attempt-2/"));
  };
  const Json second = house.Await(id, published_by_second);
  ASSERT_EQ(second["attempts"].size(), 2u) << second.dump(1);
  EXPECT_EQ(second["attempts"][0]["reason"], "HANG");
  ASSERT_EQ(::kill(zombie.pid(), SIGCONT), 0);
  EXPECT_EQ(zombie.Wait(), 1);
  EXPECT_THAT(zombie.Output(), HasSubstr("the coordinator refuses this attempt: attempt 1 of job zombie-1 is over"));
  EXPECT_THAT(files.Read(run + "/current.json").value(), HasSubstr("attempt-2/"));

  const Json job = house.AwaitEnd(id);
  EXPECT_EQ(job["attempts"].size(), 2u) << "nothing of the zombie disturbed the second attempt";
  const Outcome outcome = OutcomeOf(house, job);
  EXPECT_THAT(files.Read(run + "/current.json").value(), HasSubstr("attempt-2/"));
  int64_t resumed_seq = 0;
  for (const auto& event : house.Events(id)) {
    if (event["type"] == "running" && event["attempt"] == 2) resumed_seq = event["seq"];
    if (resumed_seq == 0) continue;
    EXPECT_EQ(event["attempt"], 2) << event.dump();
    if (event.contains("path")) {
      EXPECT_THAT(event["path"].get<std::string>(), HasSubstr("attempt-2/")) << event.dump();
    }
  }
  spec["name"] = "calm";  // its first attempt would sleep too: killed, the second trains from the beginning
  const std::string calm = house.Submit(spec);
  const std::string calm_supervisor = fmt::format("{}/jobs/{}/attempt-1/supervisor.json", house.state(), calm);
  ASSERT_TRUE(Eventually([&] { return files.Exists(calm_supervisor); }));
  ::kill(Json::parse(files.Read(calm_supervisor).value())["mpirun_pid"].get<pid_t>(), SIGKILL);
  EXPECT_TRUE(outcome == OutcomeOf(house, house.AwaitEnd(calm))) << "other bits than a run without a zombie";
}

}  // namespace
}  // namespace plateau::test
