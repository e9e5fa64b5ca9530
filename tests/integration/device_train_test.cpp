// Whole runs of the worker on devices that the emulation of CUDA pretends: device, algorithms, late steps and checkpoints together.
// Nothing here is a claim about a real device.
#include <cmath>
#include <cstdlib>

#include <gmock/gmock.h>

#include "common/safetensors.h"
#include "tests/support/worker_run.h"

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
    for (const char* name : {"PLATEAU_CUDA_LIBRARY", "PLATEAU_PRETENDED_DEVICES", "XDG_CACHE_HOME"}) unsetenv(name);
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
