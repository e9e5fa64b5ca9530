// Logits, loss and gradients of the torchvision twins against PyTorch in double precision; skipped where PyTorch is not installed.
#include <gtest/gtest.h>

#include "tests/support/worker_run.h"

namespace plateau {
namespace {

struct Twin {
  std::string ours, theirs;
  int batch, crop;
};

std::string Python() {
  const char* given = std::getenv("PLATEAU_PYTHON");
  return given != nullptr ? given : "/usr/bin/python3";
}

class Parity : public ::testing::TestWithParam<Twin> {
 protected:
  // Exit code of a command whose output lies in output_.
  int Run(const std::vector<std::string>& command) {
    test::Process process(command, folder_ / "log");
    const int code = process.Wait();
    output_ = process.Output();
    return code;
  }
  test::TempFolder folder_;
  std::string output_;
};

TEST_P(Parity, LogitsLossAndGradientsAreTorchvisions) {
  if (Run({Python(), "-c", "import torch, torchvision"}) != 0)
    GTEST_SKIP() << "no PyTorch with torchvision in " << Python() << " (set PLATEAU_PYTHON to one that has them): " << output_;
  const Twin& twin = GetParam();
  const std::string worker = PLATEAU_BIN_DIR "/plateau-worker", weights = folder_ / "weights", input = folder_ / "input",
                    out = folder_ / "out", crop = std::to_string(twin.crop);
  ASSERT_EQ(Run({worker, "init", twin.ours, "--classes", "10", "--crop", crop, "--seed", "3", "--names", "torchvision", "--out", weights}), 0)
      << output_;
  ASSERT_EQ(Run({worker, "probe", "--make-input", std::to_string(twin.batch), "--classes", "10", "--crop", crop, "--out", input}), 0)
      << output_;
  ASSERT_EQ(Run({worker, "probe", twin.ours, "--weights", weights, "--input", input, "--names", "torchvision", "--out", out}), 0) << output_;
  EXPECT_EQ(Run({Python(), PLATEAU_SOURCE_DIR "/tests/torch/parity.py", twin.theirs, weights, input, out}), 0) << output_;
}

INSTANTIATE_TEST_SUITE_P(Small, Parity,
                         testing::Values(Twin{"vgg-a", "vgg11", 4, 64}, Twin{"vgg-a-bn", "vgg11_bn", 8, 64},
                                         Twin{"alexnet", "alexnet", 2, 224}, Twin{"resnet-18", "resnet18", 8, 64},
                                         Twin{"resnet-50", "resnet50", 8, 64}),
                         [](const auto& info) { return info.param.theirs; });

}  // namespace
}  // namespace plateau
