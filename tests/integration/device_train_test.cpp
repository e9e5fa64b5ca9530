// Whole runs of the worker on devices that the emulation of CUDA pretends: device, algorithms, late steps and checkpoints together.
// Nothing here is a claim about a real device.
#include <cmath>
#include <cstdlib>

#include <gmock/gmock.h>

#include "common/safetensors.h"
#include "common/text.h"
#include "tests/support/worker_run.h"
#include "worker/nn/device_plan.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class DeviceTrainRun : public test::WorkerRun {
 protected:
  void SetUp() override {
    const std::string library = PLATEAU_BIN_DIR "/../tests/libplateau_cuda_pretended.so";
    ASSERT_TRUE(std::filesystem::exists(library)) << library;
    WorkerRun::SetUp();
    setenv("PLATEAU_CUDA_LIBRARY", library.c_str(), 1);
    setenv("PLATEAU_PRETENDED_DEVICES", "1", 1);
    setenv("XDG_CACHE_HOME", (out_ + "/cache").c_str(), 1);  // empty: what is not on record is timed
  }
  void TearDown() override {
    for (const char* name : {"PLATEAU_CUDA_LIBRARY", "PLATEAU_PRETENDED_DEVICES", "PLATEAU_PRETENDED_MEMORY", "XDG_CACHE_HOME"}) unsetenv(name);
  }
  std::vector<std::string> Steps(int steps, const std::string& device) const {
    return {"--set", fmt::format("training.max_steps={}", steps), "--set", "resources.device=" + device, "--set",
            "training.precision=fp32", "--set", "checkpoint.every=3it", "--set", "model.network=lenet", "--set", "model.width=1", "--set",
            "data.crop=28"};
  }
  std::string Cache() const { return out_ + "/cache/plateau/algorithms.json"; }
  static nlohmann::json Choices(const std::string& output) {
    return nlohmann::json::parse(Published(output, "state.json")).at("algorithm_choices");
  }
};

// Two ranks share the one device, so auto sums through the host. The first step of a run is not captured and steps settle late: neither
// may show after a stop between any two steps.
TEST_F(DeviceTrainRun, AResumeReplaysTheAlgorithmsAndGivesTheSameBits) {
  const std::string straight = out_ + "/straight", resumed = out_ + "/resumed";
  ASSERT_EQ(Run(2, straight, Steps(14, "cuda")), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("auto takes MPI through host memory: ranks 0 and 1 share a device"));
  EXPECT_TRUE(std::filesystem::exists(Cache())) << "what was timed is kept for the next run";
  ASSERT_EQ(Run(2, resumed, Steps(7, "cuda")), 0) << last_output_;
  EXPECT_EQ(Choices(resumed), Choices(straight)) << "from the cache";
  EXPECT_FALSE(Choices(resumed).empty());
  std::filesystem::remove(Cache());
  ASSERT_EQ(Run(2, resumed, Steps(14, "cuda")), 0) << last_output_;
  EXPECT_THAT(last_output_, Not(HasSubstr("another fingerprint")));
  EXPECT_FALSE(std::filesystem::exists(Cache())) << "everything was on record: nothing was timed";
  for (const char* file : {"model.safetensors", "momentum.safetensors"})
    EXPECT_TRUE(Published(resumed, file) == Published(straight, file)) << file;
}

// A device whose ranks plan with `planned` bytes each, when `sharers` of them share it.
void PretendMemory(uint64_t planned, uint64_t sharers) { setenv("PLATEAU_PRETENDED_MEMORY", std::to_string(sharers * (planned * 16 / 15 + 1)).c_str(), 1); }

// Had each rank counted all of the device, its images would fit at once.
TEST_F(DeviceTrainRun, AutoCutsARankIntoLanesThatFitItsPartOfTheDevice) {
  const Network network = *MakeNetwork("lenet", {.classes = 4});
  const auto bytes = [&](int lane_rows) {
    return PredictMemory(network, 28, {.batch = lane_rows, .height = 28, .width = 28}, Precision::kFp32, 12)->total();
  };
  ASSERT_LT(bytes(6), bytes(12));
  PretendMemory((bytes(6) + bytes(12)) / 2, 2);
  ASSERT_EQ(Run(2, out_ + "/shared", Steps(2, "cuda")), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("2 ranks share Emulated device (host) (device 0 of 1): each may use an equal part of the "));
  EXPECT_THAT(last_output_, HasSubstr("training.micro_batch: auto takes 6: the 12 images of a rank do not fit into the device's memory at once"));
  EXPECT_THAT(last_output_, HasSubstr("(2 lanes of 6 on rank 0)"));

  unsetenv("PLATEAU_PRETENDED_MEMORY");
  ASSERT_EQ(Run(2, out_ + "/shared", Steps(4, "cuda")), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("training.micro_batch: auto takes 6, as before this resume")) << "all 12 would fit by now";
  EXPECT_THAT(last_output_, Not(HasSubstr("another fingerprint")));
}

TEST_F(DeviceTrainRun, MemoryThatDoesNotDoIsRefusedWithWhatWouldHelp) {
  setenv("PLATEAU_PRETENDED_MEMORY", std::to_string(1 << 20).c_str(), 1);
  EXPECT_EQ(Run(0, out_ + "/auto", Steps(2, "cuda")), 1);
  EXPECT_THAT(last_output_, HasSubstr("training.micro_batch: auto: lenet: the 24 images of a rank at 28x28 do not fit into "));
  EXPECT_THAT(last_output_, HasSubstr("not even a batch of 1 fits"));
  EXPECT_THAT(last_output_, Not(HasSubstr("to auto")));
  auto fixed = Steps(2, "cuda");
  fixed.insert(fixed.end(), {"--set", "training.micro_batch=24"});
  EXPECT_EQ(Run(0, out_ + "/fixed", fixed), 1);
  EXPECT_THAT(last_output_, HasSubstr("lenet: a plan of batch 24 at 28x28 takes "));
  EXPECT_THAT(last_output_, HasSubstr("no training.micro_batch does: lenet: the 24 images of a rank"));
}

TEST_F(DeviceTrainRun, ACheckpointGoesFromTheDeviceToTheHostAndBack) {
  const std::string output = out_ + "/there-and-back", host = out_ + "/host";
  ASSERT_EQ(Run(0, output, Steps(4, "cuda")), 0) << last_output_;
  const auto choices = Choices(output);
  ASSERT_EQ(Run(0, output, Steps(8, "cpu")), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("resuming under another fingerprint: device cpu"));
  ASSERT_EQ(Run(0, output, Steps(12, "cuda")), 0) << last_output_;
  EXPECT_EQ(Choices(output), choices) << "the run on the CPU kept them";
  ASSERT_EQ(Run(0, host, Steps(12, "cpu")), 0) << last_output_;
  const auto ours = *SafetensorsFile::Parse(Published(output, "model.safetensors"), "ours");
  const auto right = *SafetensorsFile::Parse(Published(host, "model.safetensors"), "right");
  for (const auto& [name, tensor] : right.tensors()) {
    const auto a = *ours.Floats(name, tensor.shape), b = *right.Floats(name, tensor.shape);
    double difference = 0, size = 0;
    for (size_t i = 0; i < b.size(); ++i) {
      difference += std::pow(double{a[i]} - b[i], 2);
      size += double{b[i]} * b[i];
    }
    EXPECT_LT(std::sqrt(difference), 1e-3 * std::sqrt(size) + 1e-6) << name;
  }
}

// Ranks on devices of their own join NCCL, which the emulation only does for threads: the refusal must come at once and be clear.
TEST_F(DeviceTrainRun, RanksThatCannotJoinNcclSaySoAndLeave) {
  setenv("PLATEAU_PRETENDED_DEVICES", "2", 1);
  EXPECT_EQ(Run(2, out_ + "/nccl", Steps(4, "cuda")), 1) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("joining NCCL with 2 ranks"));
  EXPECT_THAT(last_output_, HasSubstr("1 of 2 ranks could not join NCCL"));
  EXPECT_THAT(last_output_, HasSubstr("resources.collective: mpi"));
}

// A network whose algorithms take long to choose: the log says how far it is, and SIGTERM is heard before the first step.
TEST_F(DeviceTrainRun, AStopIsHeardWhileAlgorithmsAreChosen) {
  const std::string output = out_ + "/stopped";
  const auto steps = [&](int count, const std::string& device) {
    auto arguments = Steps(count, device);
    arguments.insert(arguments.end(), {"--set", "model.network=vgg-a", "--set", "model.width=0.5", "--set", "data.crop=96", "--set",
                                       "data.train_scale=96", "--set", "validation.scale=96", "--set", "training.global_batch=16"});
    return arguments;
  };
  const auto stop = [&] {
    test::Process process(Command(0, output, steps(4, "cuda")), out_ + "/log");
    ASSERT_TRUE(test::Eventually([&] { return process.Output().find("choosing algorithms: ") != std::string::npos; }))
        << process.Output();
    const auto asked = std::chrono::steady_clock::now();
    kill(process.pid(), SIGTERM);
    EXPECT_EQ(process.Wait(), 0) << process.Output();
    EXPECT_LT(std::chrono::steady_clock::now() - asked, std::chrono::seconds(30)) << process.Output();
    last_output_ = process.Output();
  };
  stop();
  EXPECT_THAT(last_output_, HasSubstr("stopped on command in front of the first step: nothing was trained and nothing is lost"));
  EXPECT_THAT(last_output_, HasSubstr("the same command begins again"));
  EXPECT_FALSE(std::filesystem::exists(output + "/tiny/attempt-1")) << "there is nothing to write";
  ASSERT_EQ(Run(0, output, steps(1, "cpu")), 0) << last_output_;
  stop();
  EXPECT_THAT(last_output_, HasSubstr("the same command goes on from step 1"));
}

TEST_F(DeviceTrainRun, AStopIsHeardWhileATestChoosesItsAlgorithms) {
  const std::string output = out_ + "/trained";
  auto arguments = Steps(1, "cpu");
  arguments.insert(arguments.end(), {"--set", "model.network=vgg-a", "--set", "model.width=0.25", "--set", "data.crop=32", "--set", "training.global_batch=4"});
  ASSERT_EQ(Run(0, output, arguments), 0) << last_output_;
  test::Process process({PLATEAU_BIN_DIR "/plateau-worker", "evaluate", output + "/tiny", "--store", store_, "--threads", "1", "--device", "cuda", "--precision",
                         "fp32", "--scales", "288"},
                        out_ + "/evaluated");
  ASSERT_TRUE(test::Eventually([&] { return process.Output().find("layers  ETA") != std::string::npos; })) << process.Output();
  const auto asked = std::chrono::steady_clock::now();
  kill(process.pid(), SIGTERM);
  EXPECT_EQ(process.Wait(), 1) << process.Output();
  EXPECT_LT(std::chrono::steady_clock::now() - asked, std::chrono::seconds(30)) << process.Output();
  EXPECT_THAT(process.Output(), HasSubstr("stopped before the end: there is no result"));
  EXPECT_THAT(test::ReadText(Cache()), HasSubstr("conv1_1 forward")) << "what was timed until then is kept";
}

// A rank's part of a shared device is that of both its engines: of crops and of sliding.
TEST_F(DeviceTrainRun, ATestsTwoEnginesDivideTheRanksPartOfASharedDevice) {
  const std::string output = out_ + "/trained";
  ASSERT_EQ(Run(0, output, Steps(1, "cuda")), 0) << last_output_;
  setenv("PLATEAU_PRETENDED_MEMORY", std::to_string(size_t{4} << 20).c_str(), 1);
  const auto evaluate = [&](const std::string& mode) {
    const std::string command = fmt::format(
        "mpirun -np 2 --bind-to none {}/plateau-worker evaluate {}/tiny --store {} --threads 1 --device cuda --precision fp32 "
        "--limit 8 --mode {}",
        PLATEAU_BIN_DIR, output, store_, mode);
    test::Process process(SplitText(command, ' '), out_ + "/log");
    const int code = process.Wait();
    last_output_ = process.Output();
    return code;
  };
  for (const char* mode : {"dense", "multicrop"}) EXPECT_EQ(evaluate(mode), 0) << last_output_;
  EXPECT_NE(evaluate("both"), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("are free on this rank's part of device 0, which 2 ranks share"));
}

TEST_F(DeviceTrainRun, WhereAFieldWasSaidIsNamed) {
  setenv("PLATEAU_PRETENDED_DEVICES", "0", 1);
  EXPECT_EQ(Run(0, out_ + "/none", Steps(4, "cuda")), 2);
  EXPECT_THAT(last_output_, HasSubstr("--set resources.device=cuda: cuda cannot be had: "));
  EXPECT_EQ(Run(0, out_ + "/none", Steps(4, "gpu")), 2);
  EXPECT_THAT(last_output_, HasSubstr("--set resources.device=gpu: \"gpu\" is not one of auto, cpu, cuda; did you mean cuda?"));
}

// The device gets bytes and makes the values of them itself; the trace forms the same values on the host.
TEST_F(DeviceTrainRun, TheDeviceSeesTheSamplesAndCropsOfTheHostAndValidatesAlike) {
  const auto validation = [this](const std::string& output) {
    std::ifstream metrics(output + "/tiny/attempt-1/metrics.jsonl");
    for (std::string line; std::getline(metrics, line);)
      if (const auto point = nlohmann::json::parse(line); point.contains("top1_error")) return point;
    ADD_FAILURE() << output << " has no validation: " << last_output_;
    return nlohmann::json();
  };
  const std::string host = out_ + "/host", device = out_ + "/device";
  for (const auto& [output, kind] : {std::pair{host, "cpu"}, {device, "cuda"}}) {
    auto arguments = Steps(5, kind);
    arguments.insert(arguments.end(), {"--trace", output + "-trace", "--set", "validation.every=5it", "--set", "lr.initial=1e-4"});
    ASSERT_EQ(Run(0, output, arguments), 0) << last_output_;
  }
  const auto right = Trace(host + "-trace", 1), got = Trace(device + "-trace", 1);
  ASSERT_EQ(right.size(), 5u);
  ASSERT_EQ(got.size(), 5u);
  for (const auto& [step, lines] : right)
    for (const char* field : {"samples", "crops", "masks"}) EXPECT_EQ(got.at(step)[0].at(field), lines[0].at(field)) << field << " of step " << step;
  const auto a = validation(host), b = validation(device);
  EXPECT_EQ(b.value("images", 0), 30);
  EXPECT_NEAR(b.value("loss", 0.0), a.value("loss", 1.0), 1e-3 * a.value("loss", 1.0));
}

TEST_F(DeviceTrainRun, AResumeInAnotherPrecisionSaysThatMoreThanLastBitsDiffer) {
  const std::string output = out_ + "/precisions";
  ASSERT_EQ(Run(0, output, Steps(2, "cuda")), 0) << last_output_;
  auto rounded = Steps(4, "cuda");
  rounded.insert(rounded.end(), {"--set", "training.precision=bf16"});
  ASSERT_EQ(Run(0, output, rounded), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("precision bf16 (was fp32)"));
  EXPECT_THAT(last_output_, HasSubstr("values are bf16 (8 significant bits) and were fp32"));
  EXPECT_THAT(last_output_, HasSubstr("over 1 rank (1 lane of 24 on rank 0)"));
}

// 25 rows over two ranks: 12 and 13. The stale choice is none that either can build.
TEST_F(DeviceTrainRun, AStaleChoiceInTheMachinesFileGivesWayOnAllRanksAndInTheFile) {
  const std::string first = out_ + "/first", second = out_ + "/second", third = out_ + "/third";
  auto uneven = Steps(4, "cuda");
  uneven.insert(uneven.end(), {"--set", "training.global_batch=25"});
  ASSERT_EQ(Run(2, first, uneven), 0) << last_output_;
  auto cache = nlohmann::json::parse(test::ReadText(Cache()));
  std::string stale;
  for (auto& [key, choice] : cache["choices"].items())
    if (key.starts_with("conv2 forward")) stale = key, choice = "engine 999999 plain";
  ASSERT_NE(stale, "") << cache.dump(1);
  std::ofstream(Cache()) << cache.dump();
  ASSERT_EQ(Run(2, second, uneven), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr(stale + ": the algorithm on record, \"engine 999999 plain\", cannot be used here"));
  const std::string chosen = Choices(second).at(stale);
  EXPECT_NE(chosen, "engine 999999 plain");
  EXPECT_EQ(nlohmann::json::parse(test::ReadText(Cache()))["choices"][stale], chosen);
  ASSERT_EQ(Run(2, third, uneven), 0) << last_output_;
  EXPECT_THAT(last_output_, Not(HasSubstr("cannot be used here")));
  EXPECT_EQ(Choices(third), Choices(second));
  EXPECT_TRUE(Published(third, "model.safetensors") == Published(second, "model.safetensors"));
}

// No checkpoint's choices, and a choice in the file that cannot be built: the test finds its own and leaves the file's to training.
TEST_F(DeviceTrainRun, ATestReplacesNoChoiceOfTrainingInTheMachinesFile) {
  const std::string output = out_ + "/trained";
  ASSERT_EQ(Run(0, output, Steps(1, "cpu")), 0) << last_output_;
  ASSERT_TRUE(Choices(output).empty());
  ASSERT_EQ(Run(0, out_ + "/other", Steps(1, "cuda")), 0) << last_output_;
  auto trained = nlohmann::json::parse(test::ReadText(Cache()));
  for (auto& [key, choice] : trained["choices"].items())
    if (key.starts_with("conv2 forward")) choice = "engine 999999 plain";
  std::ofstream(Cache()) << trained.dump();
  const auto evaluate = [&](const std::string& name) {
    test::Process process(
        {PLATEAU_BIN_DIR "/plateau-worker", "evaluate", output + "/tiny", "--store", store_, "--threads", "1", "--device", "cuda",
         "--precision", "fp32", "--mode", "center", "--batch", "7", "--posteriors", out_ + "/" + name},
        out_ + "/log");
    EXPECT_EQ(process.Wait(), 0) << process.Output();
    return test::ReadText(out_ + "/" + name);
  };
  const std::string once = evaluate("once");
  const std::string kept = test::ReadText(Cache());
  int own = 0;
  const auto choices = nlohmann::json::parse(kept).at("choices");
  for (const auto& [key, choice] : choices.items()) {
    if (trained["choices"].contains(key))
      EXPECT_EQ(choice, trained["choices"][key]) << key;
    else
      EXPECT_TRUE(key.ends_with(", test") && ++own > 0) << key;
  }
  EXPECT_GT(own, 0);
  EXPECT_TRUE(evaluate("twice") == once);
  EXPECT_EQ(test::ReadText(Cache()), kept) << "nothing was timed again";
}

TEST_F(DeviceTrainRun, ATestRunsTheCheckpointsAlgorithmsThenTheMachinesOnAnyNumberOfRanks) {
  const std::string output = out_ + "/tested", run = output + "/tiny";
  auto rounded = Steps(4, "cuda");
  rounded.insert(rounded.end(), {"--set", "training.precision=bf16"});
  ASSERT_EQ(Run(0, output, rounded), 0) << last_output_;
  std::filesystem::remove(Cache());
  const auto evaluate = [&](const std::string& name, int ranks, const std::vector<std::string>& more) {
    std::vector<std::string> command;
    if (ranks > 0) command = {"mpirun", "-np", std::to_string(ranks), "--bind-to", "none"};
    command.insert(command.end(), {PLATEAU_BIN_DIR "/plateau-worker", "evaluate", run, "--store", store_, "--threads", "1", "--device", "cuda",
                                   "--precision", "bf16", "--posteriors", out_ + "/" + name});
    command.insert(command.end(), more.begin(), more.end());
    test::Process process(command, out_ + "/log");
    EXPECT_EQ(process.Wait(), 0) << process.Output();
    last_output_ = process.Output();
    return test::ReadText(out_ + "/" + name);
  };
  const std::string center = evaluate("center", 0, {"--mode", "center"});
  EXPECT_THAT(last_output_, HasSubstr("in bf16 on cuda ("));
  EXPECT_FALSE(std::filesystem::exists(Cache())) << "the checkpoint has recorded them all: nothing was timed";

  const std::vector<std::string> dense{"--mode", "both", "--scales", "30,36", "--limit", "8"};
  const std::string two = evaluate("two", 2, dense);
  ASSERT_FALSE(two.empty());
  const std::string kept = test::ReadText(Cache());
  ASSERT_FALSE(kept.empty()) << "what was timed is kept for the next test";
  const auto timed_here = nlohmann::json::parse(kept).at("choices");
  for (const auto& [key, choice] : timed_here.items())
    EXPECT_TRUE(key.ends_with(", test")) << key << ": training would take what was timed for a test's batch";
  EXPECT_TRUE(evaluate("one", 0, dense) == two);
  EXPECT_TRUE(evaluate("three", 3, dense) == two);
  EXPECT_EQ(test::ReadText(Cache()), kept) << "nothing was timed again";

  std::filesystem::remove(Cache());
  const auto features = [&](const std::string& name) {
    test::Process process({PLATEAU_BIN_DIR "/plateau-worker", "features", run, "--store", store_, "--layer", "fc4", "--threads", "1", "--device",
                           "cuda", "--precision", "bf16", "--out", out_ + "/" + name, "--json"},
                          out_ + "/log");
    EXPECT_EQ(process.Wait(), 0) << process.Output();
    const std::string said = process.Output();
    EXPECT_EQ(nlohmann::json::parse(said.substr(std::min(said.find('{'), said.size()))).at("precision"), "bf16");
    return test::ReadText(out_ + "/" + name);
  };
  const std::string once = features("features-1");
  ASSERT_FALSE(once.empty());
  const std::string timed = test::ReadText(Cache());
  EXPECT_THAT(timed, HasSubstr("fc4 forward")) << "as the last layer it goes without its ReLU, which no checkpoint has recorded";
  EXPECT_TRUE(features("features-2") == once);
  EXPECT_EQ(test::ReadText(Cache()), timed);
}

TEST_F(DeviceTrainRun, ANonFiniteLossNamesItsStepAndLayerAndPublishesNothing) {
  const std::string output = out_ + "/nan";
  auto arguments = Steps(60, "cuda");
  arguments.insert(arguments.end(), {"--set", "lr.initial=1e6", "--set", "checkpoint.every=100it"});
  EXPECT_EQ(Run(2, output, arguments), 3) << last_output_;
  EXPECT_THAT(last_output_, ::testing::ContainsRegex("NAN_LOSS: .*(conv|fc)[0-9_]+"));
  EXPECT_TRUE(Current(output).empty());
}

}  // namespace
}  // namespace plateau
