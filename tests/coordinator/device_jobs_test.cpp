// Jobs on GPUs through the whole coordinator: nodes that claim GPUs by hand, who gets which, and what the ranks are told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/job/device_need.h"
#include "coordinator/job/job_record.h"
#include "tests/support/coordinator_daemon.h"
#include "tests/support/jobs.h"

namespace plateau::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What mpirun's ranks would see goes to seen-<job's folder>.
class GpuHome : public CoordinatorHome {
 public:
  explicit GpuHome(const std::string& gpus) {
    Script("mpirun",
           "echo \"$PLATEAU_GPUS\" > \"$PLATEAU_LOG_DIR/gpus.tmp\"; mv \"$PLATEAU_LOG_DIR/gpus.tmp\" \"$PLATEAU_LOG_DIR/gpus\"; "
           "exec sleep 1000");
    options.gpus = gpus;
  }
  json Spec(const std::string& device, int workers = 1) const {
    json spec = CoordinatorHome::Spec(workers);
    spec["resources"]["device"] = device;
    return spec;
  }
  std::string Submit(const Daemon& daemon, const json& spec) const {
    const auto answer = PostJson(daemon, "/v1/jobs", spec.dump());
    EXPECT_EQ(answer.status, 201) << answer.body;
    return json::parse(answer.body).at("id");
  }
  // PLATEAU_GPUS as the first attempt's mpirun got it.
  std::string GpusSeen(const std::string& job) const {
    const std::string seen = path("state/jobs/" + job + "/attempt-1/logs/gpus");
    EXPECT_TRUE(Eventually([&] { return std::filesystem::exists(seen); })) << seen;
    std::string gpus;
    std::ifstream(seen) >> gpus;
    return gpus;
  }
  // Waits until the scheduler has looked at every job that was submitted before.
  void PassTheLine(const Daemon& daemon) const { EXPECT_EQ(GpusSeen(Submit(daemon, Spec("cpu"))), "none"); }
  static json Job(const Daemon& daemon, const std::string& id) { return GetJson(daemon, "/v1/jobs/" + id); }
  static void Kill(const Daemon& daemon, const std::string& id) {
    for (int i = 0; i < 2; ++i) PostJson(daemon, "/v1/jobs/" + id + "/cancel");
    EXPECT_TRUE(ReachesState(daemon, id, "CANCELLED"));
  }
};

TEST(DeviceJobs, TwoOnOneGpuRunOneAfterTheOtherAlsoAcrossARestart) {
  GpuHome home("1");
  auto daemon = home.Start();
  const std::string first = home.Submit(*daemon, home.Spec("cuda"));
  EXPECT_EQ(home.GpusSeen(first), "0");
  const std::string second = home.Submit(*daemon, home.Spec("cuda"));
  home.PassTheLine(*daemon);
  EXPECT_EQ(GpuHome::Job(*daemon, second).at("state"), "QUEUED") << "cores are free, the GPU is not";
  EXPECT_EQ(GpuHome::Job(*daemon, second).at("reason"), "WAITING_FOR_GPU");
  EXPECT_EQ(GpuHome::Job(*daemon, second).at("message"), "waits for 1 GPU: " + first + " holds localhost:0");
  daemon.reset();
  daemon = home.Start();
  home.PassTheLine(*daemon);
  EXPECT_EQ(GpuHome::Job(*daemon, second).at("state"), "QUEUED") << "the attempt that runs on still has it";
  const json node = GetJson(*daemon, "/v1/nodes").at("nodes")[0];
  EXPECT_EQ(node.at("used_gpus"), 1);
  EXPECT_EQ(node.at("gpus")[0].at("id"), "0");
  EXPECT_EQ(node.at("gpus")[0].at("job"), first);
  GpuHome::Kill(*daemon, first);
  EXPECT_EQ(home.GpusSeen(second), "0") << "freed by the end of the first";
}

TEST(DeviceJobs, JobsBesideEachOtherGetGpusOfTheirOwnAndShowThem) {
  GpuHome home("4,6,GPU-7f");
  const auto daemon = home.Start();
  const std::string first = home.Submit(*daemon, home.Spec("cuda", 2)), second = home.Submit(*daemon, home.Spec("cuda"));
  EXPECT_EQ(home.GpusSeen(first), "4,6");
  EXPECT_EQ(home.GpusSeen(second), "GPU-7f");
  EXPECT_EQ(home.WaitForJson("state/jobs/" + first + "/attempt-1/launch.json").at("environment").at("PLATEAU_GPUS"), "4,6");
  FakeRank rank1(home, *daemon, first, 1, 1);
  rank1.Ask(Heartbeat{});
  const json job = GpuHome::Job(*daemon, first);
  EXPECT_EQ(job.at("device"), "cuda");
  EXPECT_TRUE(job.at("device_why").is_null()) << "the specification says so";
  EXPECT_EQ(job.at("attempts")[0].at("device"), "cuda");
  EXPECT_THAT(job.at("attempts")[0].at("nodes")[0].at("gpus").get<std::vector<std::string>>(), ElementsAre("4", "6"));
  EXPECT_EQ(job.at("workers")[0].at("rank"), 1);
  EXPECT_EQ(job.at("workers")[0].at("gpu"), "6");
}

TEST(DeviceJobs, AutoIsDecidedAtTheLaunchSaidAndWrittenForTheRanks) {
  const auto decided = [](const std::string& gpus, const std::string& expected, const std::string& seen, const std::string& why) {
    GpuHome home(gpus);
    const auto daemon = home.Start();
    const std::string id = home.Submit(*daemon, home.Spec("auto"));
    EXPECT_EQ(home.GpusSeen(id), seen);
    EXPECT_EQ(home.WaitForJson("state/jobs/" + id + "/attempt-1/spec.json").at("resources").at("device"), expected);
    EXPECT_EQ(GpuHome::Job(*daemon, id).at("device"), expected);
    EXPECT_THAT(GpuHome::Job(*daemon, id).at("device_why").get<std::string>(), HasSubstr("device: auto takes"));
    EXPECT_EQ(GpuHome::Job(*daemon, id).at("spec").at("resources").at("device"), "auto") << "the next attempt decides anew";
    const json events = GetJson(*daemon, "/v1/jobs/" + id + "/events").at("events");
    EXPECT_EQ(events[1].at("type"), "starting");
    EXPECT_EQ(events[1].at("device"), expected);
    EXPECT_THAT(events[1].at("message").get<std::string>(), HasSubstr(why));
  };
  decided("2,", "cuda", "2", "on 1 core(s) and GPU 2; device: auto takes CUDA: the node has 1 GPU for its 1 worker");
  decided("0", "cpu", "none", "device: auto takes the CPU: the node has no GPU");
}

TEST(DeviceJobs, WithoutEnoughGpusAJobIsHeldUntilANodeOffersThem) {
  GpuHome home("0");
  const auto daemon = home.Start();
  const std::string id = home.Submit(*daemon, home.Spec("cuda"));
  EXPECT_TRUE(ReachesState(*daemon, id, "HELD"));
  EXPECT_EQ(GpuHome::Job(*daemon, id).at("reason"), "TOO_LARGE");
  const auto resumed = PostJson(*daemon, "/v1/jobs/" + id + "/resume");
  EXPECT_EQ(resumed.status, 409);
  EXPECT_THAT(resumed.body, HasSubstr("is HELD, not stopped: it starts by itself once what holds it is changed: it needs a GPU"));
  EXPECT_THAT(GpuHome::Job(*daemon, id).at("message").get<std::string>(),
              HasSubstr("it needs a GPU for its worker (resources.device: cuda), and the node has 0"));
  EXPECT_THAT(GetJson(*daemon, "/v1/nodes").at("nodes")[0].at("no_gpus_why").get<std::string>(), HasSubstr("--gpus 0"));
  const auto offered = PostJson(*daemon, "/v1/nodes", R"({"name": "localhost", "gpus": [3]})");
  ASSERT_EQ(offered.status, 201) << offered.body;
  EXPECT_EQ(json::parse(offered.body).at("gpus")[0].at("id"), "3");
  EXPECT_EQ(home.GpusSeen(id), "3");
}

TEST(DeviceJobs, ANodesOfferIsKeptAcrossARestart) {
  GpuHome home("");
  {
    const auto daemon = home.Start();
    EXPECT_THAT(GetJson(*daemon, "/v1/nodes").at("nodes")[0].at("no_gpus_why").get<std::string>(), HasSubstr("/bin/true devices"))
        << "it told nothing";
    ASSERT_EQ(PostJson(*daemon, "/v1/nodes", R"({"name": "localhost", "gpus": 2})").status, 201);
  }
  const auto daemon = home.Start();
  EXPECT_EQ(GetJson(*daemon, "/v1/nodes/localhost").at("gpus").size(), 2u);
}

TEST(DeviceJobs, ThisMachineIsAskedForItsGpus) {
  GpuHome home("");
  home.Script("worker", "echo '" + GpuReportLine({{{"0", "NVIDIA H200", 7}, {"1", "NVIDIA H200", 7}}, ""}) + "'");
  home.options.worker = home.path("worker");
  const auto daemon = home.Start();
  const json node = GetJson(*daemon, "/v1/nodes").at("nodes")[0];
  EXPECT_EQ(node.at("gpus").size(), 2u);
  EXPECT_EQ(node.at("gpus")[1].at("name"), "NVIDIA H200");
  EXPECT_EQ(node.at("no_gpus_why"), "");
}

TEST(DeviceJobs, AHeldJobStartsOnceThisMachineTellsItsGpusAfterAll) {
  GpuHome home("");
  home.Script("worker", "[ -e " + home.path("driver") + " ] && echo '" + GpuReportLine({{{"5", "NVIDIA H200", 7}}, ""}) + "'");
  home.options.worker = home.path("worker");
  const auto daemon = home.Start();
  const std::string id = home.Submit(*daemon, home.Spec("cuda"));
  EXPECT_TRUE(ReachesState(*daemon, id, "HELD"));
  home.Write("driver", "");
  EXPECT_TRUE(Eventually([&] {  // a question that began before would not see it
    EXPECT_EQ(PostJson(*daemon, "/v1/nodes", R"({"name": "localhost"})").status, 201);
    return GetJson(*daemon, "/v1/nodes/localhost").at("gpus").size() == 1;
  }));
  EXPECT_EQ(home.GpusSeen(id), "5");
}

TEST(DeviceJobs, AGpuThatIsNotThereHoldsTheJobByNameAndCostsNoRestart) {
  GpuHome home("1");
  home.options.limits.failure_grace_ms = 50;
  const auto daemon = home.Start();
  const std::string id = home.Submit(*daemon, home.Spec("cuda"));
  FakeRank rank(home, *daemon, id, 1);
  rank.Tell(Failed{.reason = "NO_GPU", .message = "no CUDA driver", .retry = false});
  ASSERT_TRUE(ReachesState(*daemon, id, "HELD"));
  const json job = GpuHome::Job(*daemon, id);
  EXPECT_EQ(job.at("reason"), "NO_GPU");
  EXPECT_THAT(job.at("message").get<std::string>(), HasSubstr("GPU 0 of localhost does not (no CUDA driver)"));
  EXPECT_EQ(job.at("restarts"), 0);
  EXPECT_EQ(job.at("attempts").size(), 1u);
  const json node = GetJson(*daemon, "/v1/nodes").at("nodes")[0];
  EXPECT_TRUE(node.at("gpus").empty());
  EXPECT_THAT(node.at("gpus_note").get<std::string>(), HasSubstr("GPU 0 does not answer"));
  EXPECT_EQ(node.at("gpus_note"), node.at("no_gpus_why"));
  const std::string any = home.Submit(*daemon, home.Spec("auto"));
  EXPECT_EQ(home.GpusSeen(any), "none");
  ASSERT_EQ(PostJson(*daemon, "/v1/nodes", R"({"name": "localhost"})").status, 201);
  EXPECT_TRUE(Eventually([&] { return GpuHome::Job(*daemon, id).at("attempts").size() == 2; })) << "tried again, as a person asked";
}

TEST(DeviceJobs, AJobWhoseGpuIsNotThereGoesOnWithAnother) {
  GpuHome home("4,6");
  home.options.limits.failure_grace_ms = 50;
  const auto daemon = home.Start();
  const std::string id = home.Submit(*daemon, home.Spec("cuda"));
  EXPECT_EQ(home.GpusSeen(id), "4");
  FakeRank rank(home, *daemon, id, 1);
  rank.Tell(Failed{.reason = "NO_GPU", .message = "no CUDA driver", .retry = false});
  EXPECT_EQ(home.WaitForJson("state/jobs/" + id + "/attempt-2/launch.json").at("environment").at("PLATEAU_GPUS"), "6");
  EXPECT_EQ(GpuHome::Job(*daemon, id).at("restarts"), 0);
}

TEST(DeviceJobs, AnOfferThatMakesNoSenseStopsTheStart) {
  GpuHome home("0,0");
  const auto daemon = Daemon::Start(home.options, WebAssets());
  ASSERT_FALSE(daemon.has_value());
  EXPECT_THAT(daemon.error().message, HasSubstr("--gpus: "));
}

TEST(DeviceNeed, WhatOnlyCudaComputesNeedsItUnderAuto) {
  JobSpec spec = SmallSpec();
  EXPECT_EQ(NeedOf(spec).device, DeviceKind::kAuto);
  spec.training.precision = Precision::kFp32;
  EXPECT_EQ(NeedOf(spec).device, DeviceKind::kAuto);
  spec.training.precision = Precision::kBf16;
  EXPECT_EQ(NeedOf(spec).device, DeviceKind::kCuda);
  EXPECT_EQ(NeedOf(spec).field, "training.precision: bf16");
  spec.kind = "evaluate";
  EXPECT_EQ(NeedOf(spec).device, DeviceKind::kAuto) << "a test's own precision counts";
  spec.evaluate.precision = Precision::kTf32;
  EXPECT_EQ(NeedOf(spec).field, "evaluate.precision: tf32");
  spec.evaluate.precision.reset();
  spec.resources.collective = CollectiveKind::kNccl;
  EXPECT_EQ(NeedOf(spec).field, "resources.collective: nccl");
  spec.resources.device = DeviceKind::kCpu;
  EXPECT_EQ(NeedOf(spec).device, DeviceKind::kCpu);
}

TEST(DeviceRecord, GpusAndDeviceComeBackAndRecordsWithoutThemAreRead) {
  JobUnderTest t(SmallSpec(2));
  t.Tell(StartGranted{"secret", {{"n1", 2, {0, 1}, {"0", "3"}}}, "", "cuda", "device: auto takes CUDA"});
  t.job.attempts[0].missing_gpus = {"n1:3"};
  const std::string text = JobRecordText(t.job);
  const auto back = ParseJobRecord(text);
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(back->attempts.at(0).shares, t.job.attempts.at(0).shares);
  EXPECT_EQ(back->attempts.at(0).device, "cuda");
  EXPECT_EQ(back->attempts.at(0).device_why, "device: auto takes CUDA");
  EXPECT_THAT(back->attempts.at(0).missing_gpus, ElementsAre("n1:3"));
  json old = json::parse(text);
  for (const char* field : {"device", "device_why"}) old["attempts"][0].erase(field);
  old["attempts"][0].erase("missing_gpus");
  old["attempts"][0]["shares"][0].erase("gpus");
  const auto read = ParseJobRecord(old.dump());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_TRUE(read->attempts.at(0).shares.at(0).gpus.empty());
  EXPECT_EQ(read->attempts.at(0).device, "");
}

}  // namespace
}  // namespace plateau::test
