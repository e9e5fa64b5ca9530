// Whole runs without a coordinator: the same bits after kill and stop, the same samples on any number of ranks, clear ends.
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>

#include "common/safetensors.h"
#include "tests/support/worker_run.h"
#include "worker/train/run_folder.h"
#include "worker/train/state.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TrainRun : public test::WorkerRun {
 protected:
  // The final tensors and learning rate history of two finished runs are the same to the bit.
  void ExpectSameEnd(const std::string& a, const std::string& b) {
    ASSERT_FALSE(Published(a, "model.safetensors").empty());
    EXPECT_EQ(Current(a).at("step"), Current(b).at("step"));
    EXPECT_TRUE(Published(a, "model.safetensors") == Published(b, "model.safetensors")) << "models differ";
    EXPECT_TRUE(Published(a, "momentum.safetensors") == Published(b, "momentum.safetensors")) << "momenta differ";
    const auto lr = [](const std::string& state) { return nlohmann::json::parse(state).at("lr"); };
    EXPECT_EQ(lr(Published(a, "state.json")), lr(Published(b, "state.json")));
  }
  std::string Undisturbed(int ranks, const std::vector<std::string>& arguments = {}) {
    const std::string output = out_ + "/undisturbed";
    EXPECT_EQ(Run(ranks, output, arguments), 0) << last_output_;
    return output;
  }
  int ErrorLines() const {
    int lines = 0;
    for (size_t at = 0; (at = last_output_.find("Z error ", at)) != std::string::npos; ++at) ++lines;
    return lines;
  }
};

// Long enough that a kill or a stop in the middle cannot come too late; 31 steps are 7.44 epochs: checkpoints lie inside epochs.
const std::vector<std::string> kLong{"--set", "training.max_steps=300", "--set", "checkpoint.every=31it"};

TEST_F(TrainRun, AKilledRankAndARelaunchGiveTheSameBits) {
  const std::string undisturbed = Undisturbed(2, kLong), output = out_ + "/killed";
  {
    test::Process process(Command(2, output, kLong), out_ + "/log");
    ASSERT_TRUE(test::Eventually([&] { return Current(output).value("step", 0) >= 100; })) << process.Output();
    const auto ranks = process.Children();
    ASSERT_EQ(ranks.size(), 2u);
    ASSERT_EQ(kill(ranks[1], SIGKILL), 0);
    EXPECT_NE(process.Wait(), 0);
  }
  const int64_t killed_at = Current(output).at("step");
  ASSERT_LT(killed_at, 300) << "the kill came too late to prove anything";
  ASSERT_EQ(Run(2, output, kLong), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr(fmt::format("resuming from {}/tiny/attempt-1/", output)));
  ExpectSameEnd(undisturbed, output);
}

TEST_F(TrainRun, AStopIsObeyedAtAStepBoundaryAndTheResumeGivesTheSameBits) {
  const std::string undisturbed = Undisturbed(2, kLong), output = out_ + "/stopped";
  {
    test::Process process(Command(2, output, kLong), out_ + "/log");
    ASSERT_TRUE(test::Eventually([&] { return Current(output).value("step", 0) >= 50; })) << process.Output();
    kill(process.pid(), SIGUSR1);  // mpirun hands it to its ranks
    EXPECT_EQ(process.Wait(), 0) << process.Output();
    EXPECT_THAT(process.Output(), HasSubstr("STOPPED"));
  }
  const int64_t stopped_at = Current(output).at("step");
  ASSERT_LT(stopped_at, 300);
  ASSERT_EQ(Run(2, output, kLong), 0) << last_output_;
  ExpectSameEnd(undisturbed, output);
}

TEST_F(TrainRun, ASigtermToTheRanksStopsThemToo) {
  const std::string output = out_ + "/stopped";
  test::Process process(Command(2, output, kLong), out_ + "/log");
  ASSERT_TRUE(test::Eventually([&] { return Current(output).value("step", 0) >= 50; })) << process.Output();
  kill(process.Children().at(0), SIGTERM);  // one of them: the others hear of it with the next step's totals
  EXPECT_EQ(process.Wait(), 0) << process.Output();
  EXPECT_THAT(process.Output(), HasSubstr("STOPPED"));
}

TEST_F(TrainRun, RanksDieWithTheirMpirun) {
  test::Process process(Command(2, out_ + "/orphans", kLong), out_ + "/log");
  ASSERT_TRUE(test::Eventually([&] { return Current(out_ + "/orphans").value("step", 0) >= 50; })) << process.Output();
  const auto ranks = process.Children();
  ASSERT_EQ(ranks.size(), 2u);
  kill(process.pid(), SIGKILL);
  for (const pid_t rank : ranks)
    EXPECT_TRUE(test::Eventually(
        [&] { return kill(rank, 0) != 0 || test::ReadText(fmt::format("/proc/{}/stat", rank)).find(") Z") != std::string::npos; }));
}

// Rounding grows by itself in a network that learns fast (a change of lr by 2e-7 of itself does the same), so the steps are small
// here.
const std::vector<std::string> kCalm{"--set", "training.max_steps=50", "--set", "lr.initial=1e-5"};

TEST_F(TrainRun, OneTwoThreeAndFourRanksSeeTheSameAndTheirLossesAgree) {
  std::map<int64_t, std::vector<nlohmann::json>> reference;
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string trace = fmt::format("{}/trace-{}", out_, ranks);
    std::vector<std::string> arguments{"--trace", trace};
    arguments.insert(arguments.end(), kCalm.begin(), kCalm.end());
    ASSERT_EQ(Run(ranks, fmt::format("{}/ranks-{}", out_, ranks), arguments), 0) << last_output_;
    const auto steps = Trace(trace, ranks);
    ASSERT_EQ(steps.size(), 50u);
    if (ranks == 1) reference = steps;
    for (const auto& [step, lines] : steps) {
      ASSERT_EQ(lines.size(), static_cast<size_t>(ranks));
      for (const char* field : {"samples", "crops", "masks"})
        ASSERT_EQ(Joined(lines, field), Joined(reference.at(step), field))
            << field << " of step " << step << " on " << ranks << " ranks";
      const double loss = lines[0].at("loss"), expected = reference.at(step)[0].at("loss");
      EXPECT_NEAR(loss, expected, 1e-3 * expected) << "step " << step << " on " << ranks << " ranks";
    }
  }
  EXPECT_EQ(Joined(reference.at(0), "samples").size(), 24u);
}

TEST_F(TrainRun, TheSameMicroBatchesGiveTheSameBitsOnOneTwoAndFourRanks) {
  const std::vector<std::string> arguments{"--set", "training.micro_batch=6"};  // 4, 2 and 1 lanes a rank
  for (const int ranks : {1, 2, 4}) ASSERT_EQ(Run(ranks, fmt::format("{}/{}", out_, ranks), arguments), 0) << last_output_;
  for (const char* file : {"model.safetensors", "momentum.safetensors"}) {
    const std::string one = Published(out_ + "/1", file);
    ASSERT_FALSE(one.empty());
    EXPECT_TRUE(one == Published(out_ + "/2", file)) << file;
    EXPECT_TRUE(one == Published(out_ + "/4", file)) << file;
  }
}

TEST_F(TrainRun, RanksWithDifferentNumbersOfRowsValidateEveryImageOnce) {
  const std::vector<std::string> arguments{"--set", "training.global_batch=17", "--set", "training.max_steps=6", "--set",
                                           "lr.initial=1e-6"};  // over 2 ranks 8 and 9 rows, over 3 ranks 5, 6 and 6
  std::vector<std::string> lines;
  for (const int ranks : {1, 2, 3}) {
    ASSERT_EQ(Run(ranks, fmt::format("{}/{}", out_, ranks), arguments), 0) << last_output_;
    const auto state = nlohmann::json::parse(Published(fmt::format("{}/{}", out_, ranks), "state.json"));
    std::string counts;
    for (const auto& validation : state.at("lr").at("history"))
      counts += fmt::format("{} {} {};", validation.at("images").get<int64_t>(), validation.at("top1_correct").get<int64_t>(),
                            validation.at("top5_correct").get<int64_t>());
    ASSERT_FALSE(counts.empty());
    lines.push_back(counts);
  }
  EXPECT_EQ(lines[0], lines[1]);
  EXPECT_EQ(lines[0], lines[2]);
}

TEST_F(TrainRun, EveryImageIsSeenOncePerEpoch) {
  const std::string trace = out_ + "/trace";
  ASSERT_EQ(Run(2, out_ + "/run", {"--trace", trace, "--set", "training.max_steps=25"}), 0)
      << last_output_;  // 600 images: six epochs
  std::vector<uint64_t> stream;
  for (const auto& [step, lines] : Trace(trace, 2))
    for (const auto& sample : Joined(lines, "samples")) stream.push_back(sample);
  ASSERT_EQ(stream.size(), 600u);
  for (size_t epoch = 0; epoch < 6; ++epoch) {
    std::set<uint64_t> seen(stream.begin() + static_cast<long>(epoch * 100), stream.begin() + static_cast<long>((epoch + 1) * 100));
    EXPECT_EQ(seen.size(), 100u) << "epoch " << epoch;
    EXPECT_EQ(*seen.rbegin(), 99u);
  }
  EXPECT_NE(std::vector(stream.begin(), stream.begin() + 100), std::vector(stream.begin() + 100, stream.begin() + 200));
}

TEST_F(TrainRun, AResumeOnAnotherNumberOfRanksSaysSoAndSeesTheSame) {
  const auto with = [](std::vector<std::string> more) {
    std::vector<std::string> all = kCalm;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const std::string output = out_ + "/run", trace = out_ + "/trace";
  ASSERT_EQ(Run(2, out_ + "/reference", with({"--trace", trace + "-a"})), 0) << last_output_;
  ASSERT_EQ(Run(2, output, with({"--set", "training.max_steps=20"})), 0) << last_output_;
  ASSERT_EQ(Run(3, output, with({"--trace", trace + "-b"})), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("ranks 3 (was 2)"));
  const auto reference = Trace(trace + "-a", 2), resumed = Trace(trace + "-b", 3);
  ASSERT_EQ(resumed.size(), 30u);
  for (const auto& [step, lines] : resumed) {
    for (const char* field : {"samples", "crops", "masks"}) ASSERT_EQ(Joined(lines, field), Joined(reference.at(step), field));
    const double expected = reference.at(step)[0].at("loss");
    EXPECT_NEAR(lines[0].at("loss").get<double>(), expected, 1e-3 * expected);
  }
}

TEST_F(TrainRun, OneProcessTrainsWithoutMpirun) {
  EXPECT_EQ(Run(0, out_ + "/alone"), 0) << last_output_;
  EXPECT_EQ(Run(1, out_ + "/one"), 0) << last_output_;
  ExpectSameEnd(out_ + "/alone", out_ + "/one");
}

TEST_F(TrainRun, TheNetworkLearns) {
  const std::string output = Undisturbed(2, {"--set", "training.max_steps=250", "--set", "validation.every=50it", "--set",
                                             "lr.initial=0.01", "--set", "model.width=0.125", "--set", "training.dropout=0"});
  const auto history = nlohmann::json::parse(Published(output, "state.json")).at("lr").at("history");
  ASSERT_EQ(history.size(), 5u);
  EXPECT_LT(history.back().at("value").get<double>(), 0.5) << "top-1 error over 4 classes; chance is 0.75";
  for (const auto& validation : history) EXPECT_EQ(validation.at("images"), 30);
  int checkpoints = 0;  // each says in metrics.jsonl what it cost the training thread
  std::ifstream metrics(output + "/tiny/attempt-1/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) {
    const auto point = nlohmann::json::parse(line);
    if (point.at("type") != "checkpoint") continue;
    ++checkpoints;
    EXPECT_GE(point.at("snapshot_s").get<double>(), 0);
    EXPECT_TRUE(point.contains("waited_s"));
  }
  EXPECT_EQ(checkpoints, 25);
}

TEST_F(TrainRun, AFinishedRunStaysFinishedAndMoreStepsGoOn) {
  const std::string output = Undisturbed(1);
  const std::string model = Published(output, "model.safetensors");
  EXPECT_EQ(Run(1, output), 0);
  EXPECT_THAT(last_output_, HasSubstr("ended at step 60: MAX_STEPS"));
  EXPECT_EQ(Published(output, "model.safetensors"), model);
  EXPECT_EQ(Run(1, output, {"--set", "training.max_steps=70"}), 0) << last_output_;
  EXPECT_EQ(Current(output).at("step"), 70);
}

// Its checkpoint was renamed, and then the process was killed: nothing names it.
TEST_F(TrainRun, AFinishedRunThatWasNotPublishedIsPublishedByTheNextStart) {
  const std::string output = Undisturbed(1), model = Published(output, "model.safetensors");
  ASSERT_TRUE(std::filesystem::remove(output + "/tiny/current.json"));
  ASSERT_EQ(Run(1, output), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("ended at step 60: MAX_STEPS"));
  EXPECT_EQ(Current(output).value("path", ""), "attempt-2/step-000000060");
  EXPECT_TRUE(Published(output, "model.safetensors") == model);
}

TEST_F(TrainRun, ResumeNoneBeginsAnewAndLeavesTheOldRunAlone) {
  const std::string output = Undisturbed(1), model = Published(output, "model.safetensors");
  ASSERT_EQ(Run(1, output, {"--resume", "none", "--set", "training.max_steps=20"}), 0) << last_output_;
  EXPECT_EQ(Current(output).at("path"), "attempt-2/step-000000020");
  EXPECT_TRUE(std::filesystem::exists(output + "/tiny/attempt-1/step-000000060/manifest.json"));
  ASSERT_EQ(Run(1, output), 0) << last_output_;  // goes on with the new run, not with the old one's 60 steps
  EXPECT_THAT(last_output_, HasSubstr("at step 20"));
  EXPECT_TRUE(Published(output, "model.safetensors") == model);
  EXPECT_EQ(Current(output).at("path"), "attempt-3/step-000000060");
}

TEST_F(TrainRun, OldCheckpointsGoTheLastAndTheBestStay) {
  const std::string output = Undisturbed(1, {"--set", "checkpoint.keep_last=2", "--set", "checkpoint.keep_best=0"});
  PosixFileSystem files;
  const auto entries = ListCheckpoints(files, output + "/tiny");
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].step, 60);
  EXPECT_EQ((*entries)[1].step, 50);
}

TEST_F(TrainRun, ADamagedNewestCheckpointIsReportedAndTheOneBeforeUsed) {
  const std::string undisturbed = Undisturbed(1), output = out_ + "/damaged";
  ASSERT_EQ(Run(1, output, {"--set", "training.max_steps=30"}), 0) << last_output_;
  const std::string path = fmt::format("{}/tiny/{}/momentum.safetensors", output, Current(output).at("path").get<std::string>());
  std::string bytes = test::ReadText(path);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  std::ofstream(path, std::ios::binary) << bytes;
  ASSERT_EQ(Run(1, output), 0) << last_output_;
  EXPECT_THAT(last_output_, HasSubstr("momentum.safetensors: checksum is"));
  EXPECT_THAT(last_output_, HasSubstr("at step 20"));
  ExpectSameEnd(undisturbed, output);
}

TEST_F(TrainRun, ASecondRunOnTheSameFolderIsRefused) {
  const std::string output = out_ + "/locked";
  std::filesystem::create_directories(output + "/tiny");
  const auto lock = FolderLock::Take(output + "/tiny");
  ASSERT_TRUE(lock);
  EXPECT_EQ(Run(2, output), 1);
  EXPECT_THAT(last_output_, HasSubstr("is locked by another run"));
  EXPECT_EQ(ErrorLines(), 1) << last_output_;
}

TEST_F(TrainRun, ANonFiniteLossStopsAllRanksAndNamesStepAndLayer) {
  for (const int ranks : {1, 2}) {
    const std::string output = fmt::format("{}/nan-{}", out_, ranks);
    EXPECT_EQ(Run(ranks, output, {"--set", "data.normalize=mean", "--force", "--set", "lr.initial=1"}), 3) << last_output_;
    EXPECT_THAT(last_output_,
                ::testing::ContainsRegex("NAN_LOSS: step [0-9]+ is not finite; the first layer whose output is NaN or "
                                         "infinite is (conv|fc)[0-9_]+ "));
    EXPECT_EQ(ErrorLines(), 1) << last_output_;
    EXPECT_TRUE(Current(output).empty()) << "nothing that is not finite is published";
  }
}

TEST_F(TrainRun, NanThatReluHidesFromTheLossStopsTheRunToo) {
  const std::string output = out_ + "/nan";
  EXPECT_EQ(Run(2, output, {"--set", "lr.initial=1e6"}), 3) << last_output_;
  EXPECT_THAT(last_output_, ::testing::ContainsRegex("NAN_LOSS: .*(conv|fc)[0-9_]+"));
  EXPECT_EQ(ErrorLines(), 1) << last_output_;
  EXPECT_TRUE(Current(output).empty());
}

struct BadInput {
  std::vector<std::string> arguments;
  std::string message;
  std::string store;  // instead of the test's
};

TEST_F(TrainRun, BadInputEndsWithOneClearErrorAndCodeTwo) {
  const std::vector<BadInput> cases{
      {{}, "no-such-store", out_ + "/no-such-store"},
      {{"--set", "data.crop=64"}, "smaller than the crop 64"},
      {{"--set", "model.network=vgg-aa"}, "vgg-a"},
      {{"--set", "training.globl_batch=3"}, "global_batch"},
      {{"--set", "training.global_batch=1"}, "global batch of 1"},
      {{"--set", "training.global_batch=1", "--set", "resources.workers=1"}, "cannot be split over 2 ranks"},
      {{"--set", "data.normalize=mean"}, "--force"},
      {{"--set", "resources.device=cuda"}, "cuda"},
      {{"--resume", out_ + "/no-checkpoint"}, "no-checkpoint"},
  };
  for (const BadInput& bad : cases) {
    EXPECT_EQ(Run(2, out_ + "/bad", bad.arguments, bad.store.empty() ? store_ : bad.store), 2) << last_output_;
    EXPECT_THAT(last_output_, HasSubstr(bad.message));
    EXPECT_EQ(ErrorLines(), 1) << last_output_;
  }
  ASSERT_EQ(Run(2, out_ + "/bad", {"--set", "training.max_steps=10"}), 0) << last_output_;
  EXPECT_EQ(Run(2, out_ + "/bad", {"--set", "training.global_batch=20"}), 2);
  EXPECT_THAT(last_output_, HasSubstr("training.global_batch is 20 now and was 24"));
}

TEST_F(TrainRun, AStoreWithoutValidationImagesIsRefused) {
  PosixFileSystem files;
  auto source = OpenSynthetic({.classes = 4, .train = 40, .val = 8, .side = 40});
  ASSERT_TRUE(source);
  source->splits.pop_back();
  const std::string store = out_ + "/train-only";
  const auto report = Ingest(files, SystemClock(), *source, {.out = store, .quiet = true});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(Run(1, out_ + "/run", {}, store), 2);
  EXPECT_THAT(last_output_, HasSubstr("has no val images"));
}

TEST_F(TrainRun, TheLogDirectoryGetsOneFileARank) {
  const std::string logs = out_ + "/logs";
  std::filesystem::create_directories(logs);
  setenv("PLATEAU_LOG_DIR", logs.c_str(), 1);
  EXPECT_EQ(Run(2, out_ + "/run", {"--set", "training.max_steps=5"}), 0);
  unsetenv("PLATEAU_LOG_DIR");
  EXPECT_THAT(test::ReadText(logs + "/rank-0.log"), HasSubstr("ended at step 5"));
  EXPECT_TRUE(std::filesystem::exists(logs + "/rank-1.log"));
  EXPECT_THAT(last_output_, Not(HasSubstr("ended at step 5")));
}

}  // namespace
}  // namespace plateau
