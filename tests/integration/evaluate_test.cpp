// Whole tests of a trained network: the same result on any number of ranks, what validation said, fusion, jobs, and clear refusals.
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>

#include "common/checksum.h"
#include "common/safetensors.h"
#include "tests/support/store_files.h"
#include "tests/support/worker_run.h"
#include "worker/evaluate/posteriors_file.h"

namespace plateau {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// One network trained for six epochs, whose last step ends an epoch: its checkpoint holds the validation made with its weights.
class EvaluateRun : public test::WorkerRun {
 protected:
  static constexpr int64_t kSteps = 25, kImages = 30;

  void SetUp() override {
    test::WorkerRun::SetUp();
    if (!trained_.empty()) return;
    const std::string output = folder_->path() + "/trained";
    ASSERT_EQ(Run(0, output, {"--set", fmt::format("training.max_steps={}", kSteps), "--set", "checkpoint.every=25it"}), 0)
        << last_output_;
    trained_ = output + "/tiny";
  }
  static std::string Checkpoint() {
    return trained_ + "/" + json::parse(test::ReadText(trained_ + "/current.json")).at("path").get<std::string>();
  }

  // Runs `plateau-worker VERB ARGUMENTS`; stdout and stderr lie in last_output_. ranks 0: without mpirun.
  int Verb(const std::string& verb, const std::vector<std::string>& arguments, int ranks = 0) {
    std::vector<std::string> command;
    if (ranks > 0) command = {"mpirun", "-np", std::to_string(ranks), "--bind-to", "none"};
    command.insert(command.end(), {PLATEAU_BIN_DIR "/plateau-worker", verb});
    command.insert(command.end(), arguments.begin(), arguments.end());
    test::Process process(command, out_ + "/log");
    const int code = process.Wait();
    last_output_ = process.Output();
    return code;
  }
  // The JSON result of a test that succeeds.
  json Evaluate(std::vector<std::string> arguments, int ranks = 0) {
    arguments.insert(arguments.begin(), {trained_, "--store", store_, "--threads", "1", "--json"});
    EXPECT_EQ(Verb("evaluate", arguments, ranks), 0) << last_output_;
    const size_t begin = last_output_.find('{');
    if (begin == std::string::npos) return {};
    return json::parse(last_output_.substr(begin, last_output_.rfind('}') + 1 - begin));
  }
  // A job that tests trained_ with posteriors and classes; its folder is out_/test-a.
  std::string JobSpec(const std::string& scales) const {
    const std::string path = fmt::format("{}/test {}.yaml", out_, scales);
    std::ofstream(path) << fmt::format(
        "version: 1\nkind: evaluate\nname: test-a\noutput: {}\n"
        "evaluate: {{checkpoint: {}, store: {}, scales: {}, mode: both, flip: true, posteriors: true, per_class: true}}\n"
        "resources: {{workers: 2, device: cpu, threads_per_worker: 1}}\n",
        out_, trained_, store_, scales);
    return path;
  }
  void ExpectRefused(const std::vector<std::string>& arguments, int code, const std::string& why) {
    EXPECT_EQ(Verb("evaluate", arguments), code) << last_output_;
    EXPECT_THAT(last_output_, HasSubstr(why));
    EXPECT_THAT(last_output_, HasSubstr("plateau-worker evaluate: ")) << "as the other verbs say it";
    EXPECT_THAT(last_output_, ::testing::Not(HasSubstr("Z error"))) << "no line of a log";
  }
  // A copy of the checkpoint whose file has `change` done to it; the manifest is made to fit where `sealed`.
  std::string Changed(const std::string& file, const std::function<void(std::string&)>& change, bool sealed) {
    const std::string copy = out_ + "/changed";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(Checkpoint(), copy);
    std::string bytes = test::ReadText(copy + "/" + file);
    change(bytes);
    std::ofstream(copy + "/" + file, std::ios::binary) << bytes;
    if (!sealed) return copy;
    json manifest = json::parse(test::ReadText(copy + "/manifest.json"));
    for (auto& entry : manifest["files"])
      if (entry["name"] == file) entry["bytes"] = bytes.size(), entry["checksum"] = ChecksumText(Checksum(bytes));
    std::ofstream(copy + "/manifest.json") << manifest.dump();
    return copy;
  }

  static inline std::string trained_;
};

TEST_F(EvaluateRun, RanksChangeNoBitAndBatchesNoCount) {
  const std::vector<std::string> what{"--mode", "both", "--scales", "36,50,64", "--flip"};
  const auto with = [&](const std::string& file, std::vector<std::string> more = {}) {
    more.insert(more.begin(), what.begin(), what.end());
    more.insert(more.end(), {"--posteriors", out_ + "/" + file});
    return more;
  };
  const json alone = Evaluate(with("1"));
  EXPECT_EQ(alone["images"], kImages);
  EXPECT_THAT(alone["device"].get<std::string>(), ::testing::StartsWith("cpu ("));
  EXPECT_EQ(alone["precision"], "fp32");
  EXPECT_EQ(alone["scales"], (std::vector<int>{36, 50, 64}));
  const std::string bytes = test::ReadText(out_ + "/1");
  ASSERT_FALSE(bytes.empty());
  for (const int ranks : {2, 4}) {
    const json many = Evaluate(with("many"), ranks);
    EXPECT_EQ(many["ranks"], ranks);
    for (const char* count : {"images", "correct1", "correct5"})
      EXPECT_EQ(many[count], alone[count]) << count << " on " << ranks << " ranks";
    EXPECT_TRUE(test::ReadText(out_ + "/many") == bytes) << "posteriors of " << ranks << " ranks differ";
  }
  const json batches = Evaluate(with("batch", {"--batch", "5"}), 2);
  for (const char* count : {"images", "correct1", "correct5"}) EXPECT_EQ(batches[count], alone[count]) << count;
  PosixFileSystem files;
  const auto a = ReadPosteriors(files, out_ + "/1"), b = ReadPosteriors(files, out_ + "/batch");
  ASSERT_TRUE(a && b);
  for (size_t i = 0; i < a->values.size(); ++i) ASSERT_NEAR(a->values[i], b->values[i], 1e-5);
}

TEST_F(EvaluateRun, TheCentreCropIsWhatValidationSaw) {
  const json state = json::parse(test::ReadText(Checkpoint() + "/state.json"));
  const json& validation = state.at("lr").at("history").back();
  ASSERT_EQ(validation.at("step"), kSteps);
  const json result = Evaluate({"--mode", "center", "--per-class"});
  EXPECT_EQ(result["scales"], (std::vector<int>{40})) << "the checkpoint's validation scale";
  EXPECT_EQ(result["correct1"], validation["top1_correct"]);
  EXPECT_EQ(result["correct5"], validation["top5_correct"]);
  EXPECT_NEAR(result["loss"].get<double>(), validation["loss"].get<double>(), 1e-4);
  int64_t images = 0, right = 0, confused = 0;
  for (size_t c = 0; c < 4; ++c) {
    const json& row = result["per_class"]["classes"][c];
    images += row["images"].get<int64_t>();
    right += row["correct1"].get<int64_t>();
    for (const json& cell : result["per_class"]["confusion"][c]) confused += cell.get<int64_t>();
    EXPECT_EQ(row["correct1"], result["per_class"]["confusion"][c][c]);
  }
  EXPECT_EQ(images, kImages);
  EXPECT_EQ(confused, kImages);
  EXPECT_EQ(right, result["correct1"]);
}

TEST_F(EvaluateRun, TheFirstImagesAreTheFirstImages) {
  const json all = Evaluate({"--mode", "multicrop", "--scales", "40", "--posteriors", out_ + "/all"});
  const json some = Evaluate({"--mode", "multicrop", "--scales", "40", "--limit", "7", "--posteriors", out_ + "/some"}, 3);
  EXPECT_EQ(some["images"], 7);
  PosixFileSystem files;
  const auto a = ReadPosteriors(files, out_ + "/all"), b = ReadPosteriors(files, out_ + "/some");
  ASSERT_TRUE(a && b);
  for (size_t row = 0; row < 7; ++row) EXPECT_EQ(a->head.ordinals[row], b->head.ordinals[row]);
  for (size_t i = 0; i < b->values.size(); ++i) ASSERT_NEAR(a->values[i], b->values[i], 1e-5);
}

TEST_F(EvaluateRun, FusionCountsItself) {
  const json dense = Evaluate({"--mode", "dense", "--scales", "48", "--posteriors", out_ + "/dense"});
  Evaluate({"--mode", "multicrop", "--scales", "40", "--posteriors", out_ + "/crops"});
  ASSERT_EQ(Verb("fuse", {out_ + "/dense", "--json"}), 0) << last_output_;
  const json alone = json::parse(last_output_);
  for (const char* field : {"images", "correct1", "correct5"}) EXPECT_EQ(alone[field], dense[field]) << field;
  ASSERT_EQ(Verb("fuse", {out_ + "/dense", out_ + "/crops", "--json", "--posteriors", out_ + "/both"}), 0) << last_output_;
  const json fused = json::parse(last_output_);
  EXPECT_EQ(fused["images"], kImages);
  ASSERT_EQ(fused["models"].size(), 2u);
  EXPECT_EQ(fused["models"][0]["correct1"], dense["correct1"]);
  ASSERT_EQ(Verb("fuse", {out_ + "/both", "--json"}), 0) << last_output_;
  EXPECT_EQ(json::parse(last_output_)["correct1"], fused["correct1"]) << "the written mean is what was counted";
  Evaluate({"--mode", "center", "--limit", "9", "--posteriors", out_ + "/few"});
  EXPECT_EQ(Verb("fuse", {out_ + "/dense", out_ + "/few"}), 2);
  EXPECT_THAT(last_output_, HasSubstr("it has 9 images, the first 30"));
}

TEST_F(EvaluateRun, AJobsFilesLieInTheFolderOfItsAttempt) {
  ASSERT_EQ(Verb("evaluate", {"--spec", JobSpec("[36, 44]")}, 2), 0) << last_output_;
  const json result = json::parse(test::ReadText(out_ + "/test-a/attempt-1/result.json"));
  EXPECT_EQ(result["images"], kImages);
  EXPECT_EQ(result["scales"], (std::vector<int>{36, 44}));
  EXPECT_EQ(result["mode"], "both");
  EXPECT_EQ(result["flip"], true);
  EXPECT_EQ(result["checkpoint"], Checkpoint());
  EXPECT_DOUBLE_EQ(result["top1_error"].get<double>(), (kImages - result["correct1"].get<double>()) / kImages);
  PosixFileSystem files;
  const auto posteriors = ReadPosteriors(files, out_ + "/test-a/" + result["posteriors"].get<std::string>());
  ASSERT_TRUE(posteriors) << posteriors.error().message;
  EXPECT_EQ(posteriors->head.metadata.at("checkpoint_checksum"), result["checkpoint_checksum"]);
  const json classes = json::parse(test::ReadText(out_ + "/test-a/" + result["per_class"].get<std::string>()));
  EXPECT_EQ(classes["classes"].size(), 4u);
  EXPECT_FALSE(std::filesystem::exists(out_ + "/test-a/result.json"));
}

TEST_F(EvaluateRun, ALaterAttemptReportsWhatAnEarlierOneHadEnded) {
  const std::string spec = JobSpec("[40]"), job = out_ + "/test-a";
  const auto attempt = [&](int number, const std::string& from) {
    EXPECT_EQ(Verb("evaluate", {"--spec", from, "--attempt", std::to_string(number), "--json"}, 2), 0) << last_output_;
    return std::filesystem::exists(fmt::format("{}/attempt-{}/result.json", job, number));
  };
  ASSERT_TRUE(attempt(1, spec));
  const json first = json::parse(test::ReadText(job + "/attempt-1/result.json"));
  EXPECT_EQ(first["posteriors"], "attempt-1/posteriors.safetensors");
  EXPECT_FALSE(attempt(2, spec)) << "tested again";
  EXPECT_THAT(last_output_, HasSubstr("attempt 1 of this job had ended this test"));
  EXPECT_THAT(last_output_, HasSubstr(first["posteriors"].get<std::string>()));
  EXPECT_TRUE(attempt(3, JobSpec("[44]"))) << "other scales are another test";
  std::filesystem::remove(job + "/attempt-1/posteriors.safetensors");
  EXPECT_TRUE(attempt(4, spec)) << "its posteriors are gone";
  std::ofstream(job + "/attempt-4/result.json") << "{\"version\": 1, \"ki";
  EXPECT_TRUE(attempt(5, spec)) << "a torn result stands for nothing";
}

TEST_F(EvaluateRun, WhatCannotBeTestedIsRefusedByName) {
  ExpectRefused({out_ + "/absent", "--store", store_}, 2, out_ + "/absent: there is no such checkpoint");
  ExpectRefused({Checkpoint() + "/model.safetensors", "--store", store_}, 2, "give the folder of a checkpoint");
  ExpectRefused({folder_->path(), "--store", store_}, 2, "neither manifest.json");
  ExpectRefused({trained_, "--store", store_, "--scales", "40,31"}, 2, "31 is smaller than the checkpoint's crop of 32");
  ExpectRefused({trained_, "--store", store_, "--mode", "sparse"}, 2, "sparse");
  ExpectRefused({trained_, "--store", store_, "--split", "test"}, 2, "val (30 images)");
  ExpectRefused({trained_}, 2, "--store is missing");
  ExpectRefused({trained_, "--store", store_, "--posteriors", out_ + "/absent/p"}, 2, "/absent/p");
  EXPECT_THAT(last_output_, ::testing::Not(HasSubstr("top-1"))) << "seen before the work, not after it";
  ExpectRefused({Changed(
                     "model.safetensors", [](std::string& b) { b.back() = static_cast<char>(b.back() ^ 1); }, false),
                 "--store", store_},
                1, "the file is damaged");
}

TEST_F(EvaluateRun, WeightsThatAreNotFiniteOrNotItsOwnAreNamed) {
  const float nan = std::nanf("");
  const std::string broken = Changed(
      "model.safetensors", [&](std::string& b) { std::memcpy(b.data() + b.size() - sizeof(nan), &nan, sizeof(nan)); }, true);
  ExpectRefused({broken, "--store", store_}, 3, "fc8.bias holds nan");
  const std::string other = Changed(
      "state.json",
      [](std::string& text) {
        json state = json::parse(text);
        state["model"]["network"] = "vgg-d";
        text = state.dump();
      },
      true);
  ExpectRefused({other, "--store", store_}, 2, "model.safetensors");
}

TEST_F(EvaluateRun, AStoreOfOtherClassesIsRefused) {
  const std::string other = out_ + "/other";
  PosixFileSystem files;
  auto source = OpenSynthetic({.classes = 3, .train = 20, .val = 6, .side = 40});
  ASSERT_TRUE(Ingest(files, SystemClock(), *source, {.out = other, .quiet = true}));
  ExpectRefused({trained_, "--store", other}, 2, "trained on 4 classes, data set other has 3");
  const std::string renamed = Changed(
      "state.json",
      [](std::string& text) {
        json state = json::parse(text);
        state["classes"][2]["synset"] = "n09999999";
        text = state.dump();
      },
      true);
  ExpectRefused({renamed, "--store", store_}, 2, "its class 2 is n09999999");
}

// A store of the trained classes whose val images are these; train has one image a class.
void MakeOddStore(const std::string& out, const std::vector<std::pair<std::string, std::string>>& images) {
  DataSource source;
  source.classes = OpenSynthetic({.classes = 4, .train = 4, .val = 4, .side = 40})->classes;
  source.description = "odd images";
  for (const char* name : {"train", "val"}) source.splits.push_back(std::make_unique<testing::MemorySource>(name));
  for (int c = 0; c < 4; ++c)
    testing::Memory(source, 0).Add(fmt::format("{}.jpg", c), c, testing::MakeJpeg(testing::MakePicture(40, 40)));
  for (size_t i = 0; i < images.size(); ++i)
    testing::Memory(source, 1).Add(images[i].first, static_cast<int32_t>(i % 4), images[i].second);
  PosixFileSystem files;
  const auto report = Ingest(files, SystemClock(), source, {.out = out, .quiet = true});
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_EQ(report->manifest.Split("val")->records, images.size());
}

TEST_F(EvaluateRun, OddImagesAreTestedAndHugeOnesRefusedByName) {
  const Image picture = testing::MakePicture(37, 52);
  std::vector<uint8_t> deep;
  for (const uint8_t byte : picture.pixels) deep.insert(deep.end(), {byte, byte});
  const std::vector<std::pair<std::string, std::string>> odd{{"pixel.png", testing::MakePng(testing::MakePicture(1, 1))},
                                                             {"line.jpg", testing::MakeJpeg(testing::MakePicture(90, 2))},
                                                             {"deep.png", testing::MakePng(deep, 37, 52, PNG_COLOR_TYPE_RGB, 16)},
                                                             {"wide.jpg", testing::MakeJpeg(testing::MakePicture(3000, 300))}};
  const std::string store = out_ + "/odd";
  MakeOddStore(store, odd);
  const std::vector<std::string> all{trained_, "--store", store, "--mode", "both", "--scales", "36,40", "--flip", "--json"};
  ASSERT_EQ(Verb("evaluate", all), 0) << last_output_;
  EXPECT_EQ(json::parse(last_output_)["images"], 4);

  auto huge = odd;
  huge.emplace_back("strip.jpg", testing::MakeJpeg(std::vector<uint8_t>(30000 * 8 * 3, 99), 30000, 8));
  MakeOddStore(out_ + "/huge", huge);
  ExpectRefused({trained_, "--store", out_ + "/huge", "--scales", "64", "--mode", "dense"}, 2, "\"strip.jpg\"): 30000 x 8 pixels");
  EXPECT_EQ(Verb("evaluate", {trained_, "--store", out_ + "/huge", "--scales", "64", "--mode", "center"}), 0) << last_output_;
}

}  // namespace
}  // namespace plateau
