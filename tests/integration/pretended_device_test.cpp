// The programs with the CUDA backend over stand-ins for CUDA's libraries: verbs that choose a device do so, and agree with the CPU. It
// tests the way from the command line through the shared object and back; it says nothing about a device.
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/safetensors.h"
#include "tests/support/worker_run.h"

namespace plateau {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kPretended = PLATEAU_BIN_DIR "/../tests/libplateau_cuda_pretended.so";

class PretendedDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(std::filesystem::exists(kPretended)) << kPretended;
    ::setenv("PLATEAU_CUDA_LIBRARY", kPretended, 1);
  }
  void TearDown() override { ::unsetenv("PLATEAU_CUDA_LIBRARY"); }

  std::string Run(std::vector<std::string> arguments, int expected = 0) {
    arguments.insert(arguments.begin(), PLATEAU_BIN_DIR "/plateau-worker");
    test::Process process(arguments, folder_.path() + "/out.txt");
    EXPECT_EQ(process.Wait(), expected) << process.Output();
    return process.Output();
  }
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::vector<float> Floats(const std::string& file, const std::string& name) {
    PosixFileSystem files;
    const auto loaded = SafetensorsFile::Load(files, Path(file));
    EXPECT_TRUE(loaded) << loaded.error().message;
    const auto& view = loaded->tensors().at(name);
    std::vector<float> values(view.bytes.size() / sizeof(float));
    std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
    return values;
  }
  static double Distance(const std::vector<float>& a, const std::vector<float>& b) {
    double apart = 0, length = 0;
    for (size_t i = 0; i < a.size(); ++i) apart += (a[i] - b[i]) * (a[i] - b[i]), length += b[i] * b[i];
    return std::sqrt(apart / length);
  }
  test::TempFolder folder_;
};

TEST_F(PretendedDevice, TheDoctorTriesIt) {
  const std::string text = Run({"doctor"});
  for (const char* word : {"libplateau_cuda_pretended.so", "device 0", "convolution in bf16: right", "all-reduce by NCCL", "all that is there works"})
    EXPECT_THAT(text, HasSubstr(word));
}

// Two ranks on one device sum through the host, as training does.
TEST_F(PretendedDevice, TheDoctorSumsOverTheDevicesOfRanks) {
  test::AllowMpirunHere();
  const auto doctor = [&](const char* devices, int expected) {
    ::setenv("PLATEAU_PRETENDED_DEVICES", devices, 1);
    test::Process process({"mpirun", "-np", "2", "--bind-to", "none", PLATEAU_BIN_DIR "/plateau-worker", "doctor"},
                          folder_.path() + "/out.txt");
    EXPECT_EQ(process.Wait(), expected) << process.Output();
    ::unsetenv("PLATEAU_PRETENDED_DEVICES");
    return process.Output();
  };
  const std::string shared = doctor("1", 0);
  EXPECT_THAT(shared, HasSubstr("all-reduce MPI through host memory over 2 ranks: right"));
  const std::string line = "device: auto takes ";
  EXPECT_EQ(shared.find(line), shared.rfind(line)) << "the one device is named once";
  // The emulation's NCCL joins threads only: what matters is that the ranks tried it, and that nobody waited.
  const std::string apart = doctor("2", 1);
  EXPECT_THAT(apart, HasSubstr("the emulation joins threads of one process"));
  EXPECT_THAT(apart, HasSubstr("was still joining; 1 of 2 ranks could not join NCCL"));
}

TEST_F(PretendedDevice, TheBenchmarkTimesStepsAndPassesBesideFloors) {
  const json bench = json::parse(Run({"bench", "vgg-a", "--width", "0.0625", "--crop", "32", "--batch", "2", "--classes", "10", "--steps", "2", "--device",
                                      "cuda", "--precision", "bf16", "--json"}));
  EXPECT_EQ(bench["precision"], "bf16");
  EXPECT_EQ(bench["step_ms"].size(), 2u);
  EXPECT_GT(bench["images_per_s"]["median"], 0);
  EXPECT_GT(bench["gemm_gflops"], 0);
  EXPECT_GT(bench["copy_gb_per_s"], 0);
  EXPECT_TRUE(std::isfinite(bench["last_loss"].get<double>()));
  const json& first = bench["layers"][0];
  EXPECT_EQ(first["name"], "conv1_1");
  EXPECT_GT(first["forward"]["ms"], 0);
  EXPECT_GT(first["forward"]["floor_ms"], 0);
  EXPECT_EQ(first["backward_data"]["floor_ms"], 0);
  const std::string text = Run({"bench", "vgg-a", "--width", "0.0625", "--crop", "32", "--batch", "2", "--classes", "10", "--steps", "1", "--device", "cuda"});
  EXPECT_THAT(text, HasSubstr("of this device's large bf16 products"));
}

TEST_F(PretendedDevice, TheBenchmarkTakesTheAlgorithmsThatTheMachineTimedBefore) {
  ::setenv("XDG_CACHE_HOME", folder_.path().c_str(), 1);
  const std::vector<std::string> arguments{"bench",     "vgg-a", "--width", "0.0625", "--crop",   "32",   "--batch", "2",
                                           "--classes", "10",    "--steps", "1",      "--device", "cuda", "--json"};
  const json first = json::parse(Run(arguments));
  PosixFileSystem files;
  const std::string path = Path("plateau/algorithms.json");
  const auto kept = files.Read(path);
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_GT(json::parse(*kept)["choices"].size(), 10u);
  const json second = json::parse(Run(arguments));
  EXPECT_EQ(second["algorithms"], first["algorithms"]);
  EXPECT_EQ(files.Read(path).value(), *kept) << "nothing was timed again";
  ::unsetenv("XDG_CACHE_HOME");
}

TEST_F(PretendedDevice, ProbesAgreeWithTheCpus) {
  Run({"init", "--network", "vgg-a", "--classes", "7", "--crop", "32", "--width", "0.0625", "--seed", "3", "--out", Path("w")});
  Run({"probe", "--make-input", "3", "--classes", "7", "--crop", "32", "--seed", "9", "--out", Path("in")});
  const auto probe = [&](const std::string& device, const std::string& out) {
    Run({"probe", "--network", "vgg-a", "--threads", "1", "--weights", Path("w"), "--input", Path("in"), "--out", Path(out), "--device", device,
         "--precision", "fp32"});
  };
  probe("cpu", "cpu.out");
  probe("cuda", "cuda.out");
  EXPECT_LT(Distance(Floats("cuda.out", "logits"), Floats("cpu.out", "logits")), 1e-4);
  for (const char* name : {"grad.conv1_1.weight", "grad.conv5_2.bias", "grad.fc6.weight", "grad.fc8.bias"})
    EXPECT_LT(Distance(Floats("cuda.out", name), Floats("cpu.out", name)), 1e-3) << name;
}

TEST_F(PretendedDevice, AProbesAlgorithmIsRefusedOnADeviceAndAutoIsNot) {
  Run({"init", "--network", "vgg-a", "--classes", "7", "--crop", "32", "--width", "0.0625", "--out", Path("w")});
  Run({"probe", "--make-input", "1", "--classes", "7", "--crop", "32", "--out", Path("in")});
  const auto probe = [&](const std::string& algorithm, int expected) {
    return Run({"probe", "--network", "vgg-a", "--threads", "1", "--weights", Path("w"), "--input", Path("in"), "--out",
                Path("out"), "--device", "cuda", "--precision", "fp32", "--algorithm", algorithm},
               expected);
  };
  for (const char* named : {"direct", "winograd"})
    EXPECT_THAT(probe(named, 2), HasSubstr(fmt::format("--algorithm {}: belongs to the CPU, and this runs on ", named)));
  EXPECT_FALSE(std::filesystem::exists(Path("out")));
  for (const char* chosen : {"auto", "train"}) probe(chosen, 0);
}

TEST_F(PretendedDevice, WhatItCannotDoIsRefusedOnTheCpu) {
  EXPECT_THAT(Run({"bench", "vgg-a", "--device", "cpu", "--precision", "bf16"}, 2), HasSubstr("--precision: bf16 needs a CUDA device"));
  EXPECT_THAT(Run({"bench", "vgg-a", "--device", "tpu"}, 2), HasSubstr("--device: \"tpu\" is not one of auto, cpu, cuda"));
  EXPECT_THAT(Run({"bench", "vgg-a", "--device", "gpu"}, 2), HasSubstr("did you mean cuda?"));
  ::setenv("PLATEAU_PRETENDED_DEVICES", "0", 1);
  EXPECT_THAT(Run({"bench", "vgg-a", "--device", "cuda"}, 2), HasSubstr("--device: cuda cannot be had: "));
  ::unsetenv("PLATEAU_PRETENDED_DEVICES");
}

TEST_F(PretendedDevice, TheBenchmarkRefusesWhatADeviceCannotNamingTheFlag) {
  const std::vector<std::string> small{"bench",     "vgg-a", "--width", "0.0625", "--crop",   "32",
                                       "--classes", "10",    "--steps", "1",      "--device", "cuda"};
  const auto with = [&](const std::string& flag, const std::string& value) {
    auto arguments = small;
    arguments.insert(arguments.end(), {flag, value});
    return Run(arguments, 2);
  };
  EXPECT_THAT(with("--algorithm", "direct"), HasSubstr("--algorithm direct: belongs to the CPU"));
  const std::string full = with("--batch", "400000");
  EXPECT_THAT(full, HasSubstr("--batch 400000: vgg-a: "));
  EXPECT_THAT(full, HasSubstr("the largest batch that fits is "));
  EXPECT_THAT(full, ::testing::Not(HasSubstr("micro_batch")));
}

}  // namespace
}  // namespace plateau
