// init, probe, summary and bench as a user calls them, on small networks.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "common/safetensors.h"
#include "worker/bench_verb.h"
#include "worker/init_verb.h"
#include "worker/nn/reference.h"
#include "worker/probe_verb.h"
#include "worker/summary_verb.h"

namespace plateau {
namespace {

struct Ran {
  int exit_code = 0;
  std::string out, err;
};

Ran Run(const std::function<void(CLI::App&)>& parse) {
  CLI::App app;
  Ran ran;
  AddInitVerb(app, ran.exit_code);
  AddProbeVerb(app, ran.exit_code);
  AddSummaryVerb(app, ran.exit_code);
  AddBenchVerb(app, ran.exit_code);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  try {
    parse(app);
  } catch (const CLI::ParseError& refused) {  // as the program's main prints it
    ran.exit_code = 2;
    std::fprintf(stderr, "%s\n", refused.what());
  }
  std::fflush(nullptr);
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

Ran RunVerb(const std::string& line) {
  return Run([&](CLI::App& app) { app.parse(line); });
}

// Of a list a word may be empty.
Ran RunWords(std::vector<std::string> words) {
  std::ranges::reverse(words);  // as CLI11 takes them
  return Run([&](CLI::App& app) { app.parse(words); });
}

class EngineVerbs : public testing::Test {
 protected:
  EngineVerbs() : folder_(std::filesystem::temp_directory_path() / fmt::format("plateau-verbs-{}", getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~EngineVerbs() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  SafetensorsFile Load(const std::string& name) {
    PosixFileSystem files;
    auto file = SafetensorsFile::Load(files, Path(name));
    EXPECT_TRUE(file.has_value()) << file.error().message;
    return std::move(*file);
  }
  static std::vector<float> Values(const SafetensorsFile& file, const std::string& name) {
    const auto& view = file.tensors().at(name);
    EXPECT_EQ(view.type, TensorType::kF32) << name;
    std::vector<float> values(view.bytes.size() / sizeof(float));
    std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
    return values;
  }
  void MakeFiles(const std::string& names = "canonical") {
    const auto init =
        RunVerb("init --network vgg-a --classes 7 --crop 40 --width 0.0625 --seed 3 --names " + names + " --out " + Path("w"));
    ASSERT_EQ(init.exit_code, 0) << init.err;
    const auto input = RunVerb("probe --make-input 3 --classes 7 --crop 40 --seed 9 --out " + Path("in"));
    ASSERT_EQ(input.exit_code, 0) << input.err;
  }
  std::string Probe(const std::string& more = "") const {
    return "probe --network vgg-a --threads 1 --weights " + Path("w") + " --input " + Path("in") + " --out " + Path("out") + more;
  }
  std::filesystem::path folder_;
};

TEST_F(EngineVerbs, SummaryPredictsTheMemoryOfACudaDeviceWithoutOne) {
  const auto bf16 = RunVerb("summary vgg-a --batch 8 --device cuda --precision bf16 --memory 16 --json");
  ASSERT_EQ(bf16.exit_code, 0) << bf16.err;
  const auto memory = nlohmann::json::parse(bf16.out)["device_memory"];
  EXPECT_EQ(memory["precision"], "bf16");
  EXPECT_GE(memory["weights_bytes"], 132863336 * 4LL);  // the paper's parameters, and some padding
  EXPECT_LT(memory["weights_bytes"], 132863336 * 4LL + (1 << 20));
  EXPECT_EQ(memory["momenta_bytes"], memory["weights_bytes"]);
  EXPECT_EQ(memory["copy_bytes"].get<int64_t>() * 2, memory["weights_bytes"].get<int64_t>());
  int64_t sum = 0;
  for (const char* part : {"weights", "momenta", "gradients", "copy", "arena", "workspace", "rows", "batches"})
    sum += memory[fmt::format("{}_bytes", part)].get<int64_t>();
  EXPECT_EQ(sum, memory["bytes"]);
  const int largest = memory["largest_batch"];
  EXPECT_GT(largest, 8);
  const auto fits = RunVerb(fmt::format("summary vgg-a --batch {} --device cuda --precision bf16 --json", largest));
  const auto more = RunVerb(fmt::format("summary vgg-a --batch {} --device cuda --precision bf16 --json", largest + 1));
  EXPECT_EQ(memory["device_bytes"], int64_t{16} << 30);
  EXPECT_EQ(memory["planning_bytes"], int64_t{15} << 30) << "the rest is the libraries'";
  EXPECT_LE(nlohmann::json::parse(fits.out)["device_memory"]["bytes"], memory["planning_bytes"]);
  EXPECT_GT(nlohmann::json::parse(more.out)["device_memory"]["bytes"], memory["planning_bytes"]);
  const auto text = RunVerb("summary vgg-a --batch 8 --device cuda");
  EXPECT_NE(text.out.find("training on a CUDA device, batch 8, bf16"), std::string::npos) << text.out;
  EXPECT_EQ(RunVerb("summary vgg-a --device tpu").exit_code, 2);
  EXPECT_EQ(RunVerb("summary vgg-a --precision bf16").exit_code, 2);
}

TEST_F(EngineVerbs, SummaryPlansForRanksThatShareADeviceOrTakeNccl) {
  const auto planned = [](const std::string& more) {
    const auto ran = RunVerb("summary vgg-d --batch 1024 --device cuda --memory 24GiB --json" + more);
    EXPECT_EQ(ran.exit_code, 0) << ran.err;
    return nlohmann::json::parse(ran.out)["device_memory"];
  };
  const auto alone = planned(""), nccl = planned(" --ranks 4"), shared = planned(" --sharers 2");
  EXPECT_EQ(alone["planning_bytes"], int64_t{23} << 30);
  EXPECT_EQ(nccl["planning_bytes"], int64_t{22} << 30);
  EXPECT_EQ(shared["planning_bytes"], (int64_t{12} << 30) - (int64_t{12} << 30) / 16);
  EXPECT_EQ(shared["ranks"], 2);
  EXPECT_GT(alone["lane_rows"], 0);
  EXPECT_LT(alone["lane_rows"], 1024);
  EXPECT_LT(shared["largest_batch"], nccl["largest_batch"]);
  const std::string cut = RunVerb("summary vgg-d --batch 1024 --device cuda --memory 24GiB").out;
  EXPECT_NE(cut.find("of 24.0 GiB free on the device a rank alone plans with 23.0 GiB"), std::string::npos) << cut;
  EXPECT_NE(cut.find("auto computes a rank's 1024 images in "), std::string::npos) << cut;
  const std::string none = RunVerb("summary vgg-d --batch 4000 --device cuda --memory 4GiB --precision bf16").out;
  EXPECT_NE(none.find("a rank's 4000 images do not fit in any number of lanes; "), std::string::npos) << none;
}

TEST_F(EngineVerbs, ProbeWritesTheLogitsLossAndGradientsOfTheNaiveLoops) {
  MakeFiles();
  for (const std::string algorithm : {"direct", "train", "winograd"}) {
    const auto probe = RunVerb(Probe(" --dropout 0 --algorithm " + algorithm));
    ASSERT_EQ(probe.exit_code, 0) << probe.err;
    const auto weights = Load("w"), input = Load("in"), out = Load("out");
    const auto network = *MakeNetwork("vgg-a", {.width = 0.0625, .classes = 7, .dropout = 0});
    const auto infos = ListParameters(network, *InferShapes(network, 40, 40));
    std::vector<std::vector<double>> parameters;
    for (const ParameterInfo& info : infos) {
      const auto values = *weights.Floats(info.name, info.shape);
      parameters.emplace_back(values.begin(), values.end());
    }
    std::vector<int32_t> labels;
    for (int n = 0; n < 3; ++n) {
      int64_t label = 0;
      std::memcpy(&label, input.tensors().at("labels").bytes.data() + n * sizeof(label), sizeof(label));
      labels.push_back(static_cast<int32_t>(label));
    }
    const auto images = Values(input, "images");
    const std::vector<float> ones(3, 1);
    const auto right = reference::RunNetwork(network, parameters, {images, labels, ones, {}}, 40, 40, 3, false, 1, 0);
    EXPECT_NEAR(Values(out, "loss").at(0), right.loss / 3, 1e-5 * right.loss);
    EXPECT_EQ(out.tensors().at("logits").shape, (std::vector<int64_t>{3, 7}));
    for (size_t p = 0; p < infos.size(); ++p) {
      const auto ours = *out.Floats("grad." + infos[p].name, infos[p].shape);
      double difference = 0, size = 0;
      for (size_t i = 0; i < ours.size(); ++i) {
        difference += std::pow(ours[i] - right.gradients[p][i], 2);
        size += std::pow(right.gradients[p][i], 2);
      }
      EXPECT_LT(std::sqrt(difference / size), 1e-4) << infos[p].name << " " << algorithm;
    }
  }
}

TEST_F(EngineVerbs, TorchvisionNamesHoldTheSameValues) {
  MakeFiles();
  ASSERT_EQ(RunVerb(Probe()).exit_code, 0);
  const auto canonical = Values(Load("out"), "grad.fc6.weight");
  MakeFiles("torchvision");
  EXPECT_EQ(Load("w").tensors().count("features.0.weight"), 1u);
  const auto refused = RunVerb(Probe());
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_NE(refused.err.find("--names torchvision"), std::string::npos) << refused.err;
  ASSERT_EQ(RunVerb(Probe(" --names torchvision")).exit_code, 0);
  EXPECT_EQ(Values(Load("out"), "grad.classifier.0.weight"), canonical);
}

TEST_F(EngineVerbs, InitGivesTheSameFileForTheSameSeedOnly) {
  const auto weights = [&](const std::string& seed) {
    EXPECT_EQ(
        RunVerb("init vgg-a --classes 5 --crop 32 --width 0.0625 --init glorot --seed " + seed + " --out " + Path("w")).exit_code,
        0);
    return Values(Load("w"), "conv3_1.weight");
  };
  const auto one = weights("1");
  EXPECT_EQ(weights("1"), one);
  EXPECT_NE(weights("2"), one);
}

TEST_F(EngineVerbs, BadInputIsRefusedWithTheReason) {
  MakeFiles();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"init vgg-q --out " + Path("x"), "did you mean vgg-"},
      {"init vgg-a --crop 31 --out " + Path("x"), "pool5"},
      {"init vgg-a --init uniform --out " + Path("x"), "uniform"},
      {"init vgg-a --crop 32 --width 0.0625 --out /nonexistent-folder/x", "/nonexistent-folder/x"},
      {Probe(" --algorithm fast"), "fast"},
      {"probe --network vgg-d --weights " + Path("w") + " --input " + Path("in") + " --out " + Path("out"),
       "no tensor 'conv1_2.weight'; the file looks like vgg-a"},
      {"probe --network vgg-a --weights " + Path("none") + " --input " + Path("in") + " --out " + Path("out"), Path("none")},
      {"probe --network vgg-a --weights " + Path("in") + " --input " + Path("w") + " --out " + Path("out"), "images"},
      {"summary vgg-a --input 3x31x224", "pool5"},
      {"summary vgg-a --input 224", "--input"},
      {"summary VGG-D", "did you mean vgg-d"},
      {"summary vgg-d --classes 0", "--classes: Value 0 not in range 1 to 1000000"},
      {"summary vgg-d --batch 0", "--batch: Value 0 not in range"},
      {"summary vgg-d --device cuda --batch 1000000", "--batch 1000000: vgg-d: a batch of 1000000 has maps"},
      {"summary vgg-d --device cuda --memory nan", "--memory nan: not a size"},
      {"summary vgg-d --device cuda --memory 0", "--memory 0: not a size"},
      {"summary vgg-d --device cuda --memory=-4", "80GiB"},
      {"summary vgg-d --device cuda --sharers 2", "--memory 80GiB"},
      {"summary vgg-d --memory 80GiB", "belong to --device cuda"},
      {"summary vgg-d --device cuda --memory=", "--memory"},
      {"summary vgg-d --device cuda --memory 80 --ranks 2 --sharers 3", "--sharers 3: a job of --ranks 2"},
      {"summary vgg-d --device cuda --memory 80 --ranks 1 --sharers 2", "--sharers 2: a job of --ranks 1"},
      {"init vgg-a --classes 0 --out " + Path("x"), "--classes: Value 0 not in range"},
      {Probe(" --threads -3"), "--threads: Value -3 not in range 1 to 1024"},
      {"bench vgg-a --batch 2000000000", "--batch: Value 2000000000 not in range 1 to 1048576"},
      {"bench vgg-e --batch 1000000 --device cpu", "--batch 1000000: vgg-e would take an estimated "},
      {"bench vgg-a --threads 0", "--threads: Value 0 not in range 1 to 1024"},
      {"bench vgg-a --steps 0", "--steps: Value 0 not in range"}};
  for (const auto& [line, reason] : cases) {
    const auto ran = RunVerb(line);
    EXPECT_NE(ran.exit_code, 0) << line;
    EXPECT_NE(ran.err.find(reason), std::string::npos) << line << "\n" << ran.err;
  }
  const auto empty = RunWords({"summary", "vgg-d", "--device", "cuda", "--memory", ""});
  EXPECT_NE(empty.exit_code, 0);
  EXPECT_NE(empty.err.find("--memory: is empty"), std::string::npos) << empty.err;
  const auto misplaced = RunWords({"summary", "vgg-d", "--memory", ""});
  EXPECT_NE(misplaced.exit_code, 0);
  EXPECT_NE(misplaced.err.find("belong to --device cuda"), std::string::npos) << misplaced.err;
  // Another crop than the weights are for.
  ASSERT_EQ(RunVerb("probe --make-input 1 --classes 7 --crop 64 --out " + Path("in")).exit_code, 0);
  const auto ran = RunVerb(Probe());
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_NE(ran.err.find("fc6.weight"), std::string::npos) << ran.err;
}

TEST_F(EngineVerbs, SummaryAddsUp) {
  const auto ran = RunVerb("summary vgg-d --batch 2 --json");
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const auto document = nlohmann::json::parse(ran.out);
  EXPECT_EQ(document["totals"]["params"], 138357544);
  EXPECT_EQ(document["totals"]["macs"], 15470264320);
  EXPECT_EQ(document["layers"][0]["output"], (std::vector<int>{64, 224, 224}));
  EXPECT_EQ(document["layers"][0]["output_bytes"], 2 * 4 * 64 * 224 * 224);
  EXPECT_NE(RunVerb("summary vgg-d").out.find("138357544"), std::string::npos);
}

TEST_F(EngineVerbs, SummaryTakesANetworksOwnInputAndClasses) {
  const auto lenet = nlohmann::json::parse(RunVerb("summary lenet --json").out);
  EXPECT_EQ(lenet["input"], (std::vector<int>{1, 28, 28}));
  EXPECT_EQ(lenet["params"], 61706);
  const auto alexnet = nlohmann::json::parse(RunVerb("summary alexnet --json").out);
  EXPECT_EQ(alexnet["layers"][0]["memory_kb"], 784.0);
  EXPECT_EQ(alexnet["layers"][0]["params"], 23296);
  EXPECT_EQ(alexnet["layers"][0]["macs_with_bias"], 73056256);
  EXPECT_EQ(nlohmann::json::parse(RunVerb("summary alexnet --input 3x224x224 --json").out)["macs"], 714188480);
  const auto googlenet = nlohmann::json::parse(RunVerb("summary googlenet --json").out);
  EXPECT_EQ(googlenet["params"], 6998552);
  EXPECT_EQ(googlenet["aux_params"], (std::vector<int>{3188840, 3190888}));
  double macs = 0;
  for (const auto& share : googlenet["shares"]) macs += share["macs"].get<double>();
  EXPECT_NEAR(macs, 1, 1e-12);
  const std::string text = RunVerb("summary googlenet").out;
  for (const char* word : {"inception_4a/5x5_reduce", "auxiliary classifier 2: 3190888", "fp32", "bf16", "share of"})
    EXPECT_NE(text.find(word), std::string::npos) << word;
}

TEST_F(EngineVerbs, SummaryComparesNetworks) {
  const auto ran = RunVerb("summary --compare vgg-d alexnet");
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  for (const char* word : {"15470264320 (21.58x)", "716767232", "138357544 (2.26x)", "3x227x227"})
    EXPECT_NE(ran.out.find(word), std::string::npos) << word << "\n" << ran.out;
  const auto json = nlohmann::json::parse(RunVerb("summary --compare vgg-d alexnet --json").out);
  EXPECT_EQ(json.at(1)["network"], "alexnet");
  EXPECT_EQ(RunVerb("summary").exit_code, 2);
  EXPECT_NE(RunVerb("summary --compare vgg-d alexnot").err.find("did you mean alexnet"), std::string::npos);
}

TEST_F(EngineVerbs, BenchTimesStepsThatLearnAndNamesItsUnits) {
  const auto ran = RunVerb("bench vgg-a --width 0.0625 --crop 32 --classes 3 --batch 4 --threads 1 --steps 3 --json");
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const auto document = nlohmann::json::parse(ran.out);
  EXPECT_GT(document["images_per_s"]["median"].get<double>(), 0);
  EXPECT_GE(document["images_per_s"]["best"].get<double>(), document["images_per_s"]["median"].get<double>());
  EXPECT_EQ(document["step_ms"].size(), 3u);
  EXPECT_EQ(document["layers"].size(), 16u);
  EXPECT_GT(document["gemm_gflops"].get<double>(), 0);
  EXPECT_NE(document["first_loss"], document["last_loss"]);
  const auto table = RunVerb("bench vgg-a --width 0.0625 --crop 32 --classes 3 --batch 4 --threads 1 --steps 1");
  EXPECT_NE(table.out.find("direct-equivalent"), std::string::npos) << table.out;
}

}  // namespace
}  // namespace plateau
