// A machine with neither driver nor CUDA, made of a mount namespace that hides the Toolkit: a build with CUDA starts there, trains on the
// CPU and says why. Needs the right to mount; skipped with a message without it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/worker_run.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class WithoutCuda : public test::WorkerRun {
 protected:
  // Runs `command` where /usr/local/cuda* is empty and nothing in the environment points elsewhere.
  static std::vector<std::string> Hidden(const std::vector<std::string>& command) {
    std::vector<std::string> all{"env", "-u", "LD_LIBRARY_PATH", "-u", "CUDA_HOME", "-u", "CUDA_PATH", "-u", "PLATEAU_CUDA_PATH",
                                 "unshare", "-m", "sh", "-c",
                                 "for d in /usr/local/cuda*; do [ ! -d \"$d\" ] || mount -t tmpfs none \"$(readlink -f \"$d\")\" || exit 99; done; "
                                 "for f in /usr/local/cuda*/*; do [ ! -e \"$f\" ] || exit 98; done; exec \"$@\"",
                                 "sh"};
    all.insert(all.end(), command.begin(), command.end());
    return all;
  }
  std::string RunHidden(const std::vector<std::string>& command, int expected) {
    test::Process process(Hidden(command), out_ + "/log");
    EXPECT_EQ(process.Wait(), expected) << process.Output();
    return process.Output();
  }
  void SetUp() override {
    test::WorkerRun::SetUp();
    test::Process probe(Hidden({"true"}), out_ + "/probe");
    if (probe.Wait() != 0) GTEST_SKIP() << "hiding /usr/local/cuda is not allowed here: " << probe.Output();
  }
};

TEST_F(WithoutCuda, TheDoctorIsContentAndSaysWhyThereIsNoDevice) {
  const std::string text = RunHidden({PLATEAU_BIN_DIR "/plateau-worker", "doctor"}, 0);
  EXPECT_THAT(text, HasSubstr("device: auto takes the CPU: "));
  EXPECT_THAT(text, HasSubstr("convolution, CPU"));
  EXPECT_THAT(text, Not(HasSubstr("FAIL")));
}

TEST_F(WithoutCuda, TrainingTakesTheCpuWithAutoAndIsRefusedWithCuda) {
  const std::string spec = Spec(out_, store_);
  const std::string worker = PLATEAU_BIN_DIR "/plateau-worker";
  const std::string log = RunHidden({worker, "train", spec, "--set", "resources.device=auto", "--set", "training.max_steps=3"}, 0);
  EXPECT_THAT(log, HasSubstr("auto takes the CPU: "));
  EXPECT_EQ(Current(out_)["step"], 3);
  const std::string refused = RunHidden({worker, "train", spec, "--set", "resources.device=cuda"}, 2);
  EXPECT_THAT(refused, HasSubstr("--set resources.device=cuda: cuda cannot be had: "));
}

}  // namespace
}  // namespace plateau
