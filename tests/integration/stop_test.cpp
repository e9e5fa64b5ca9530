// Everything that stops a run for a while: orders for checkpoints, pause, the time limit, Ctrl-C and SIGTERM. What goes on
// afterwards ends with the same bits.
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/house.h"
#include "tests/support/worker_run.h"

namespace plateau::test {
namespace {

using ::testing::HasSubstr;

bool Rests(const Json& job) { return House::Ended(job) || job.value("state", "") == "PAUSED"; }

std::vector<int64_t> PublishedSteps(const House& house, const std::string& id) {
  std::vector<int64_t> steps;
  const Json page = *house.Api().Get(JobPath(id, "/events"));
  for (const auto& event : page["events"])
    if (event["type"] == "published") steps.push_back(event["step"]);
  return steps;
}

// A run that does not end by itself, so that nothing comes too late on a fast machine.
Json EndlessSpec(const House& house, const std::string& name) {
  Json spec = house.Spec(name);
  spec["training"]["max_epochs"] = spec["training"]["max_steps"] = 1'000'000;
  spec["lr"] = {{"policy", "constant"}};
  spec["checkpoint"]["every"] = "1000000it";  // none but those that somebody asks for
  return spec;
}

TEST(Stops, AnOrderedCheckpointAndAPauseChangeNoBit) {
  House house;
  const std::string at = " --state " + house.state();
  const std::string id = house.Submit(EndlessSpec(house, "stopped"));
  const auto trains_past = [&](int64_t step) {
    house.Await(id, [&](const Json& job) { return Rests(job) || (job["state"] == "RUNNING" && job["step"] > step); });
  };
  trains_past(20);
  const Ran ordered = RunPlateau("checkpoint last --json" + at);
  ASSERT_EQ(ordered.code, 0) << ordered.out;
  const Json checkpoint = Json::parse(ordered.out);
  PosixFileSystem files;
  EXPECT_TRUE(files.Exists(checkpoint.value("path", "") + "/manifest.json")) << ordered.out;
  EXPECT_EQ(PublishedSteps(house, id), std::vector<int64_t>{checkpoint["step"].get<int64_t>()}) << "one order, one checkpoint";

  const Ran paused = RunPlateau("pause last --follow" + at);
  EXPECT_EQ(paused.code, 0) << paused.out;
  EXPECT_THAT(paused.out, HasSubstr("plateau resume " + id));
  EXPECT_EQ(house.Job(id)["reason"], "REQUESTED");
  const auto steps = PublishedSteps(house, id);
  ASSERT_EQ(steps.size(), 2u) << "and one of the pause";
  EXPECT_GT(steps[1], steps[0]);
  EXPECT_EQ(RunPlateau("checkpoint last" + at).code, 1) << "a job that rests writes none";

  ASSERT_EQ(RunPlateau("resume last" + at).code, 0);
  trains_past(steps[1]);
  ASSERT_EQ(RunPlateau("pause last --follow" + at).code, 0);
  const Json stopped = house.Job(id);
  ASSERT_GT(stopped["checkpoint"]["step"], steps[1]);

  Json spec = EndlessSpec(house, "calm");
  spec["training"]["max_steps"] = stopped["checkpoint"]["step"];
  const Json calm = house.AwaitEnd(house.Submit(spec));
  ASSERT_EQ(calm["state"], "COMPLETED") << calm.dump(1);
  EXPECT_GT(house.FinalModel(calm).size(), 1'000u);
  EXPECT_TRUE(house.FinalModel(stopped) == house.FinalModel(calm)) << "after " << stopped["checkpoint"]["step"] << " steps";
}

TEST(Stops, ATimeLimitPausesAndAResumeGivesAsMuchTimeAgain) {
  House house;
  Json spec = EndlessSpec(house, "limited");
  spec["resources"]["time_limit"] = "3s";
  const std::string id = house.Submit(spec);
  int64_t step = 0;
  for (const int attempt : {1, 2}) {
    const Json job = house.Await(id, Rests);
    ASSERT_EQ(job["state"], "PAUSED") << job.dump(1);
    EXPECT_EQ(job["reason"], "TIME_LIMIT");
    EXPECT_EQ(job["attempt"], attempt);
    EXPECT_GE(job["ran_s"], 3.0);
    EXPECT_LT(job["ran_s"], 60.0) << "of this attempt alone";
    EXPECT_GT(job["checkpoint"]["step"], step) << "it went on";
    step = job["checkpoint"]["step"];
    ASSERT_EQ(RunPlateau("resume last --state " + house.state()).code, 0);
  }
}

TEST(Stops, SigtermToTheCoordinatorLeavesTheJobRunningAndSaysSo) {
  House house;
  const std::string id = house.Submit(house.Spec("kept"));
  house.AwaitCheckpoint(id);
  const pid_t rank = house.PidOfRank(id, 0), coordinator = house.CoordinatorPid();
  ASSERT_GT(rank, 0);
  kill(coordinator, SIGTERM);
  ASSERT_TRUE(AwaitExit(coordinator, 30'000));
  EXPECT_THAT(ReadText(house.state() + "/coordinator.log"), HasSubstr("1 job(s) run on under their supervisors"));
  EXPECT_EQ(kill(rank, 0), 0) << "it trains on";
  house.Up();
  const Json job = house.AwaitEnd(id);
  EXPECT_EQ(job["state"], "COMPLETED") << job.dump(1);
  EXPECT_EQ(job["attempt"], 1);
}

class StopRun : public WorkerRun {
 protected:
  static std::vector<std::string> Endless() {
    return {"--set", "training.max_steps=1000000", "--set", "training.max_epochs=1000000",
            "--set", "lr.policy=constant",         "--set", "checkpoint.every=31it"};
  }
  // Sends `signal` once the run has written a checkpoint; its exit code.
  int StopBy(int signal, int ranks, const std::string& output) {
    const std::string logs = output + "-logs";
    std::filesystem::create_directories(logs);
    ::setenv("PLATEAU_LOG_DIR", logs.c_str(), 1);
    Process process(Command(ranks, output, Endless()), out_ + "/log");
    ::unsetenv("PLATEAU_LOG_DIR");
    EXPECT_TRUE(Eventually([&] { return Current(output).value("step", 0) >= 31; })) << process.Output();
    kill(process.pid(), signal);
    const int code = process.Wait();
    last_output_ = process.Output();
    // An mpirun that gives up does not always pass on what its ranks wrote last; their own logs have it.
    const std::string log = ReadText(logs + "/rank-0.log");
    EXPECT_THAT(log, HasSubstr("STOPPED"));
    EXPECT_THAT(log, HasSubstr("the same command goes on from it"));
    return code;
  }
  // The run goes on from where it was stopped.
  void GoOn(int ranks, const std::string& output) {
    const int64_t stopped_at = Current(output).at("step");
    const std::string from = Current(output).at("path");
    ASSERT_EQ(Run(ranks, output, {"--set", fmt::format("training.max_steps={}", stopped_at + 5)}), 0) << last_output_;
    EXPECT_THAT(last_output_, HasSubstr(fmt::format("resuming from {}/tiny/{}", output, from)));
  }
};

TEST_F(StopRun, CtrlCAndSigtermToALoneRankWriteACheckpointAndLeaveWithZero) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string output = fmt::format("{}/alone-{}", out_, signal);
    EXPECT_EQ(StopBy(signal, 0, output), 0) << last_output_;
    GoOn(0, output);
  }
}

// Open MPI 4.1 waits, sends its ranks SIGTERM, waits as long again and kills them; its own exit code is 1 then.
TEST_F(StopRun, CtrlCToMpirunWritesACheckpointToo) {
  ::setenv("OMPI_MCA_odls_base_sigkill_timeout", "4", 1);
  EXPECT_EQ(StopBy(SIGINT, 2, out_ + "/ranks"), 1) << last_output_;
  ::unsetenv("OMPI_MCA_odls_base_sigkill_timeout");
  GoOn(2, out_ + "/ranks");
}

TEST_F(StopRun, ATimeLimitStopsARunWithoutACoordinator) {
  auto arguments = Endless();
  arguments.insert(arguments.end(), {"--set", "resources.time_limit=2s"});
  ASSERT_EQ(Run(2, out_ + "/limited", arguments), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("resources.time_limit"));
  EXPECT_THAT(last_output_, HasSubstr("STOPPED"));
  GoOn(2, out_ + "/limited");
}

// Processes whose command line names `text`.
std::vector<std::string> ProcessesNaming(const std::string& text) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string line = ReadText(entry.path().string() + "/cmdline");
    if (entry.path().filename() != std::to_string(::getpid()) && line.find(text) != std::string::npos) found.push_back(line);
  }
  return found;
}

TEST_F(StopRun, CtrlCOfTheQuickstartStopsEverythingItStarted) {
  const std::string script = PLATEAU_SOURCE_DIR "/deploy/quickstart.sh";
  const std::string folder = out_ + "/quick";
  Process process({"env", "PLATEAU_BIN=" PLATEAU_BIN_DIR, "bash", script, "--no-build", "--dir", folder}, out_ + "/log");
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(folder + "/runs/calm-1/current.json"); })) << process.Output();
  EXPECT_FALSE(ProcessesNaming(folder).empty());
  kill(-process.pid(), SIGINT);  // as the terminal does
  EXPECT_EQ(process.Wait(), 130) << process.Output();
  EXPECT_TRUE(Eventually([&] { return ProcessesNaming(folder).empty(); })) << ProcessesNaming(folder).front();
  EXPECT_THAT(process.Output(), HasSubstr("stopped"));
}

}  // namespace
}  // namespace plateau::test
