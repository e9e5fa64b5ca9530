// Runs of a residual network: batch statistics of lanes, their averages over ranks, and checkpoints that hold them.
#include <cmath>

#include <gmock/gmock.h>

#include "common/safetensors.h"
#include "tests/support/worker_run.h"

namespace plateau {
namespace {

class BatchNormRun : public test::WorkerRun {
 protected:
  // Sixteen channels everywhere; `more` comes later and wins.
  int RunResidual(int ranks, const std::string& output, const std::vector<std::string>& more) {
    std::vector<std::string> arguments;
    for (const char* setting : {"model.network=resnet-18", "model.width=0.03", "lr.initial=0.05", "validation.every=2ep"})
      arguments.insert(arguments.end(), {"--set", setting});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(ranks, output, arguments);
  }
  static std::map<std::string, std::vector<float>> Tensors(const std::string& bytes, const std::string& suffix) {
    const auto file = SafetensorsFile::Parse(bytes, "a checkpoint");
    EXPECT_TRUE(file) << file.error().message;
    std::map<std::string, std::vector<float>> tensors;
    for (const auto& [name, view] : file->tensors()) {
      if (!name.ends_with(suffix)) continue;
      const auto values = *file->Floats(name, view.shape);
      tensors[name].assign(values.begin(), values.end());
    }
    return tensors;
  }
};

// 26 images in lanes of at most five: on one rank six lanes of five with four padding rows, on two ranks three lanes with two.
const std::vector<std::string> kPadded{"--set", "training.global_batch=26", "--set", "training.micro_batch=5"};

TEST_F(BatchNormRun, AResumeGivesTheSameBitsOnOneAndTwoRanks) {
  for (const int ranks : {1, 2}) {
    const std::string whole = fmt::format("{}/whole-{}", out_, ranks), halves = fmt::format("{}/halves-{}", out_, ranks);
    const auto steps = [&](int count) {
      std::vector<std::string> arguments = kPadded;
      arguments.insert(arguments.end(), {"--set", fmt::format("training.max_steps={}", count)});
      return arguments;
    };
    ASSERT_EQ(RunResidual(ranks, whole, steps(16)), 0) << last_output_;
    ASSERT_EQ(RunResidual(ranks, halves, steps(7)), 0) << last_output_;
    ASSERT_EQ(RunResidual(ranks, halves, steps(16)), 0) << last_output_;
    for (const char* file : {"model.safetensors", "momentum.safetensors"}) {
      ASSERT_FALSE(Published(whole, file).empty());
      EXPECT_TRUE(Published(whole, file) == Published(halves, file)) << file << " on " << ranks << " ranks";
    }
  }
}

TEST_F(BatchNormRun, TheSameLanesGiveTheSameBitsOnOneTwoAndFourRanks) {
  for (const int ranks : {1, 2, 4})
    ASSERT_EQ(
        RunResidual(ranks, fmt::format("{}/{}", out_, ranks), {"--set", "training.micro_batch=6", "--set", "training.max_steps=6"}),
        0)
        << last_output_;
  for (const char* file : {"model.safetensors", "momentum.safetensors"}) {
    ASSERT_FALSE(Published(out_ + "/1", file).empty());
    EXPECT_TRUE(Published(out_ + "/1", file) == Published(out_ + "/2", file)) << file;
    EXPECT_TRUE(Published(out_ + "/1", file) == Published(out_ + "/4", file)) << file;
  }
}

TEST_F(BatchNormRun, CheckpointsHoldRunningAveragesThatMoveWithoutMomentum) {
  ASSERT_EQ(RunResidual(2, out_ + "/run", {"--set", "training.max_steps=3"}), 0) << last_output_;
  const std::string model = Published(out_ + "/run", "model.safetensors"),
                    momentum = Published(out_ + "/run", "momentum.safetensors");
  const auto means = Tensors(model, ".running_mean"), variances = Tensors(model, ".running_var");
  ASSERT_EQ(means.size(), 20u);
  ASSERT_EQ(variances.size(), 20u);
  for (const auto& [name, values] : means)
    EXPECT_TRUE(std::ranges::any_of(values, [](float value) { return std::fabs(value) > 1e-4F; })) << name;
  for (const auto& [name, values] : variances) {
    // Three steps from 1: a tenth of the way a step, so above 0.9^3 whatever the batches were.
    EXPECT_TRUE(std::ranges::all_of(values, [](float value) { return value >= 0.7289F && std::isfinite(value); })) << name;
    EXPECT_TRUE(std::ranges::any_of(values, [](float value) { return value != 1; })) << name;
  }
  for (const auto& tensors : {Tensors(momentum, ".running_mean"), Tensors(momentum, ".running_var")}) {
    ASSERT_EQ(tensors.size(), 20u);
    for (const auto& [name, values] : tensors) EXPECT_TRUE(std::ranges::all_of(values, [](float v) { return v == 0; })) << name;
  }
}

TEST_F(BatchNormRun, ValidationByRunningAveragesSeesTheNetworkLearn) {
  ASSERT_EQ(RunResidual(2, out_ + "/run", {"--set", "training.max_steps=100", "--set", "validation.every=50it"}), 0)
      << last_output_;
  const auto history = nlohmann::json::parse(Published(out_ + "/run", "state.json")).at("lr").at("history");
  ASSERT_EQ(history.size(), 2u);
  EXPECT_LT(history.back().at("value").get<double>(), 0.5) << "top-1 error over 4 classes; chance is 0.75";
}

}  // namespace
}  // namespace plateau
