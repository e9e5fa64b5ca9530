// Every file call of a checkpoint's life made to fail, tear, die and lose power, one after the other: the next start recovers.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/random.h"
#include "tests/support/fake_parameters.h"
#include "tests/support/faulty_files.h"
#include "tests/support/temp_folder.h"
#include "worker/train/authority.h"
#include "worker/train/run_folder.h"

namespace plateau {
namespace {

using test::Fault;
using test::FaultyFiles;

constexpr int kLineage = 1;

// What a run holds after `step` steps is a function of the step, as training is.
CheckpointState StateOf(int attempt, int64_t step) {
  CheckpointState state;
  state.identity.spec_json = R"({"reproducibility":{"seed":1}})";
  state.identity.images = 100;
  state.identity.attempt = attempt;
  state.identity.lineage = kLineage;
  state.train.step = step;
  state.train.history.push_back(
      {.report = {.number = static_cast<int>(step / 10), .step = step}, .value = 1.0 / static_cast<double>(step)});
  return state;
}

// Weights and momenta after `step` steps.
struct Trained {
  explicit Trained(int64_t step) {
    for (int p = 0; p < parameters.count(); ++p) {
      RandomStream random(static_cast<uint64_t>(step), RandomPurpose::kInit, 0, static_cast<uint64_t>(p));
      std::vector<float> canonical(static_cast<size_t>(parameters.info(p).CanonicalCount()));
      for (const auto native : {parameters.weight(p), parameters.momentum(p)}) {
        for (float& value : canonical) value = static_cast<float>(random.NextNormal());
        parameters.FromCanonical(p, canonical, native);
      }
    }
    snapshot.Take();
  }
  test::FakeParameters parameters{test::ChainInfos(2)};
  ParameterSnapshot snapshot{parameters, 1};
};

class CheckpointFaults : public ::testing::Test {
 protected:
  // Writes, publishes and retires as rank 0 without a coordinator does: the newest alone is kept.
  Status Save(FileSystem& files, int attempt, int64_t step) {
    const auto authority = MakeLocalAuthority(files, run(), {}, {.keep_last = 1, .keep_best = 0});
    const CheckpointState state = StateOf(attempt, step);
    auto written = WriteCheckpoint(files, fmt::format("{}/attempt-{}", run(), attempt), Trained(step).snapshot, state);
    if (!written) return Fail(written.error());
    return authority->Publish(*written, state, false, 0);
  }
  std::string run() const { return folder_.path() + "/run"; }

  // The run folder as it was, for every case.
  void Keep() { std::filesystem::copy(run(), folder_.path() + "/kept", std::filesystem::copy_options::recursive); }
  void Restore() {
    std::filesystem::remove_all(run());
    if (std::filesystem::exists(folder_.path() + "/kept"))
      std::filesystem::copy(folder_.path() + "/kept", run(), std::filesystem::copy_options::recursive);
    else
      std::filesystem::create_directories(run());
  }

  // A start on what the disk holds now: the step it goes on from, 0 for fresh weights. What it loads is whole and of that step.
  int64_t Start() {
    const auto newest = LoadNewest(sound_, run());
    EXPECT_TRUE(newest) << newest.error().message;
    if (!newest || !*newest) return 0;
    const LoadedCheckpoint& loaded = (*newest)->checkpoint;
    const int64_t step = loaded.state.train.step;
    EXPECT_EQ(EncodeState(loaded.state), EncodeState(StateOf(loaded.state.identity.attempt, step)));
    Trained expected(step);
    test::FakeParameters found(test::ChainInfos(2));
    EXPECT_TRUE(ApplyCheckpoint(loaded, found));
    for (int p = 0; p < found.count(); ++p) {
      EXPECT_TRUE(std::ranges::equal(found.weight(p), expected.parameters.weight(p)));
      EXPECT_TRUE(std::ranges::equal(found.momentum(p), expected.parameters.momentum(p)));
    }
    return step;
  }

  // Runs `act` once with every call going wrong in every way, and `check` on the disk after each.
  void Matrix(const char* name, const std::function<Status(FileSystem&)>& act, const std::function<void(bool done)>& check) {
    FaultyFiles counting;
    Restore();
    counting.Arm(-1, Fault::kFail);
    ASSERT_TRUE(act(counting));
    const int calls = counting.operations;
    std::printf("%s: %s, each made to fail, tear, die and lose power\n", name, counting.Summary().c_str());
    ASSERT_GT(calls, 20);
    for (const Fault fault : test::kEveryFault) {
      for (int n = 0; n < calls; ++n) {
        SCOPED_TRACE(fmt::format("{} at call {}: {}", test::FaultName(fault), n, counting.calls[static_cast<size_t>(n)]));
        Restore();
        FaultyFiles files;
        files.Arm(n, fault);
        const bool done = act(files).has_value();
        ASSERT_TRUE(files.reached());
        check(done);
        if (HasFailure()) return;
      }
    }
  }

  // After the next start's own checkpoint nothing is left of what went wrong.
  void ExpectOnly(const std::string& current) {
    const auto entries = ListCheckpoints(sound_, run());
    ASSERT_TRUE(entries);
    std::vector<std::string> paths;
    for (const auto& entry : *entries) paths.push_back(entry.path);
    EXPECT_THAT(paths, ::testing::ElementsAre(current));
    for (const auto& entry : std::filesystem::recursive_directory_iterator(run()))
      EXPECT_THAT(entry.path().filename().string(), ::testing::Not(::testing::HasSubstr(".tmp"))) << entry.path();
    const auto pointer = ReadCurrent(sound_, run());
    ASSERT_TRUE(pointer && *pointer);
    EXPECT_EQ((*pointer)->path, current);
    EXPECT_EQ((*pointer)->checksum, *ManifestChecksum(sound_, run() + "/" + current));
  }

  test::TempFolder folder_;
  FaultyFiles sound_;  // never fails, and does not wait for the disk
};

TEST_F(CheckpointFaults, TheNextStartFindsTheNewestWholeOneWhateverCallGoesWrong) {
  ASSERT_TRUE(Save(sound_, 1, 10));
  ASSERT_TRUE(Save(sound_, 1, 20));
  Keep();
  int fell_back = 0, went_on = 0;
  Matrix(
      "checkpoint, publication and deletion of the old one", [&](FileSystem& files) { return Save(files, 1, 30); },
      [&](bool done) {
        const int64_t step = Start();
        EXPECT_TRUE(step == 20 || step == 30) << step;
        EXPECT_TRUE(!done || step == 30) << "the checkpoint was said to be published";
        ++(step == 20 ? fell_back : went_on);
        // The next attempt trains on; its next boundary comes sooner than the step of a checkpoint that was given up.
        ASSERT_TRUE(Save(sound_, 2, step + 5));
        EXPECT_EQ(Start(), step + 5);
        ExpectOnly(fmt::format("attempt-2/{}", CheckpointFolderName(step + 5)));
      });
  EXPECT_GT(fell_back, 20);
  EXPECT_GT(went_on, 5);
  std::printf("  %d starts went on from the checkpoint before, %d from the new one\n", fell_back, went_on);
}

TEST_F(CheckpointFaults, TheFirstOneOfARunIsWholeOrNotThere) {
  Matrix(
      "first checkpoint of a run", [&](FileSystem& files) { return Save(files, 1, 10); },
      [&](bool done) {
        const int64_t step = Start();
        EXPECT_TRUE(step == 0 || step == 10) << step;
        EXPECT_TRUE(!done || step == 10) << "the checkpoint was said to be published";
        ASSERT_TRUE(Save(sound_, 2, step + 5));
        EXPECT_EQ(Start(), step + 5);
        ExpectOnly(fmt::format("attempt-2/{}", CheckpointFolderName(step + 5)));
      });
}

TEST_F(CheckpointFaults, AStepWrittenAgainByTheSameAttemptIsWholeOrGoneWhenNothingIsPublished) {
  ASSERT_TRUE(WriteCheckpoint(sound_, run() + "/attempt-1", Trained(10).snapshot, StateOf(1, 10)));
  Keep();
  Matrix(
      "the same step again", [&](FileSystem& files) { return Save(files, 1, 10); },
      [&](bool done) {
        const int64_t step = Start();
        EXPECT_TRUE(step == 0 || step == 10) << step;
        EXPECT_TRUE(!done || step == 10) << "the checkpoint was said to be published";
      });
}

}  // namespace
}  // namespace plateau
