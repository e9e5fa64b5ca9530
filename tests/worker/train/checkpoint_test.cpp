// Checkpoints: what is written is read back to the bit, every damage is seen, and a full disk harms nothing.
#include "worker/train/checkpoint.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/random.h"
#include "tests/support/fake_parameters.h"
#include "tests/support/faulty_files.h"
#include "tests/support/temp_folder.h"

namespace plateau {
namespace {

CheckpointState State(int64_t step) {
  CheckpointState state;
  state.identity = {
      .job = "job-1",
      .attempt = 3,
      .lineage = 2,
      .spec_json = R"({"reproducibility":{"seed":1}})",
      .metric = "val_top1_error",
      .global_batch = 64,
      .fingerprint = {.ranks = 2, .device = "cpu", .algorithms = {"conv1_1 forward direct"}},
      .preprocessing = {.crop = 56, .mean = {123.68F, 116.779F, 103.939F}, .standard_deviation = {58.1F, 57.2F, 57.3F}},
      .validation_scale = 64,
      .network = "vgg-a",
      .width = 0.5,
      .classes = {{"n01", "cat"}, {"n02", "dog"}},
      .store_name = "pets",
      .store_checksum = "abc",
      .images = 1000};
  state.train.step = step;
  state.train.lr = {.lr = 0.001, .best = 0.25, .validations = 2, .best_validation = 1, .bad = 1, .decays = 1};
  state.train.history = {
      {.report =
           {.number = 1, .step = 16, .epoch = 1.024, .images = 100, .top1_correct = 75, .top5_correct = 90, .loss = 0.1 + 0.2},
       .value = 0.25,
       .decision = {.validation = 1, .lr = 0.01, .improved = true, .reason = "first"}},
      {.report = {.number = 2, .step = 32, .images = 100, .loss = std::nan("")},
       .value = 1.0,
       .decision = {.validation = 2, .action = LrAction::kDecay, .lr = 0.001, .reason = "worse"}}};
  state.train.last_validation_step = 32;
  state.train.seconds_since_checkpoint = 1.5;
  return state;
}

void Fill(ParameterStore& parameters, uint64_t salt) {
  for (int p = 0; p < parameters.count(); ++p) {
    RandomStream random(salt, RandomPurpose::kInit, 0, static_cast<uint64_t>(p));
    std::vector<float> canonical(static_cast<size_t>(parameters.info(p).CanonicalCount()));
    for (const auto native : {parameters.weight(p), parameters.momentum(p)}) {
      for (float& value : canonical) value = static_cast<float>(random.NextNormal());
      parameters.FromCanonical(p, canonical, native);
    }
  }
}

class Checkpoint : public ::testing::Test {
 protected:
  Checkpoint() { Fill(parameters_, 1); }
  WrittenCheckpoint Write(int64_t step) {
    ParameterSnapshot snapshot(parameters_, 1);
    snapshot.Take();
    auto written = WriteCheckpoint(files_, folder_.path(), snapshot, State(step));
    EXPECT_TRUE(written) << written.error().message;
    return *written;
  }
  test::TempFolder folder_;
  test::FaultyFiles files_;
  test::FakeParameters parameters_{test::ChainInfos(3)};
};

TEST_F(Checkpoint, EveryPartWrittenCountsAsProgress) {
  auto infos = test::ChainInfos(3);
  infos[0].shape = {5'000, 1'000};  // 20 MB: written in five parts of at most 4 MiB
  test::FakeParameters large(infos);
  ParameterSnapshot snapshot(large, 1);
  snapshot.Take();
  std::atomic<int64_t> progress{0};
  ASSERT_TRUE(WriteCheckpoint(files_, folder_.path(), snapshot, State(1), &progress));
  const int64_t tensors = 2 * large.count(), headers = 2, state = 1, syncs = 3;
  EXPECT_EQ(progress, tensors + 2 * 4 + headers + state + syncs);
}

TEST_F(Checkpoint, ComesBackToTheBit) {
  const auto written = Write(123);
  EXPECT_EQ(written.folder, folder_.path() + "/step-000000123");
  const auto loaded = LoadCheckpoint(files_, written.folder);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(EncodeState(loaded->state), EncodeState(State(123)));
  EXPECT_EQ(loaded->state.train.history[0].report.loss, 0.1 + 0.2);
  EXPECT_TRUE(std::isnan(loaded->state.train.history[1].report.loss));
  EXPECT_EQ(loaded->state.train.history[1].decision, State(1).train.history[1].decision);
  EXPECT_EQ(loaded->state.train.lr, State(1).train.lr);
  test::FakeParameters other(test::ChainInfos(3));
  ASSERT_TRUE(ApplyCheckpoint(*loaded, other));
  EXPECT_EQ(other.changes, 1);
  for (int p = 0; p < other.count(); ++p) {
    EXPECT_TRUE(std::ranges::equal(other.weight(p), parameters_.weight(p)));
    EXPECT_TRUE(std::ranges::equal(other.momentum(p), parameters_.momentum(p)));
  }
  EXPECT_EQ(*ManifestChecksum(files_, written.folder), written.manifest_checksum);
}

TEST_F(Checkpoint, TheModelFileHoldsNothingOfTheAttempt) {
  const auto first = Write(5);
  const std::string bytes = *files_.Read(first.folder + "/model.safetensors");
  auto state = State(5);
  state.identity.attempt = 9;
  state.identity.job = "another";
  state.identity.fingerprint.ranks = 7;
  ParameterSnapshot snapshot(parameters_, 1);
  snapshot.Take();
  const auto again = WriteCheckpoint(files_, folder_.path() + "/b", snapshot, state);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*files_.Read(again->folder + "/model.safetensors"), bytes);
}

TEST_F(Checkpoint, AFlippedByteInAnyFileIsSeen) {
  const auto written = Write(7);
  for (const std::string name : {"model.safetensors", "momentum.safetensors", "state.json", "manifest.json"}) {
    const std::string path = written.folder + "/" + name;
    const std::string good = *files_.Read(path);
    for (const size_t at : {size_t{3}, good.size() / 2, good.size() - 5}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x10);
      ASSERT_TRUE(WriteFileAtomic(files_, path, bad));
      const auto loaded = LoadCheckpoint(files_, written.folder);
      ASSERT_FALSE(loaded) << name << " at " << at;
      EXPECT_THAT(loaded.error().message, ::testing::HasSubstr(written.folder));
    }
    ASSERT_TRUE(WriteFileAtomic(files_, path, good.substr(0, good.size() / 2)));
    EXPECT_FALSE(LoadCheckpoint(files_, written.folder)) << name << " cut short";
    ASSERT_TRUE(WriteFileAtomic(files_, path, good));
  }
  EXPECT_TRUE(LoadCheckpoint(files_, written.folder));
}

TEST_F(Checkpoint, AFullDiskAtAnyPointLeavesTheOlderOneAndNothingElse) {
  const auto older = Write(1);
  files_.operations = 0;
  ParameterSnapshot snapshot(parameters_, 1);
  snapshot.Take();
  ASSERT_TRUE(WriteCheckpoint(files_, folder_.path(), snapshot, State(2)));
  const int operations = files_.operations;
  ASSERT_TRUE(files_.RemoveAll(folder_.path() + "/step-000000002"));
  ASSERT_GT(operations, 20);
  for (int fail = 0; fail + 1 < operations; ++fail) {  // the last one syncs the folder after the rename
    files_.operations = 0;
    files_.fail_at = fail;
    const auto written = WriteCheckpoint(files_, folder_.path(), snapshot, State(2));
    ASSERT_FALSE(written) << "operation " << fail;
    EXPECT_EQ(written.error().code, ErrorCode::kIo);
    EXPECT_THAT(written.error().message, ::testing::HasSubstr("No space left"));
    EXPECT_EQ(*files_.List(folder_.path()), std::vector<std::string>{"step-000000001"}) << "operation " << fail;
    EXPECT_TRUE(LoadCheckpoint(files_, older.folder));
  }
}

TEST_F(Checkpoint, WeightsOfAnotherShapeAreRefusedByName) {
  const auto loaded = LoadCheckpoint(files_, Write(1).folder);
  ASSERT_TRUE(loaded);
  auto infos = test::ChainInfos(3);
  infos[2].shape = {10, 21};
  test::FakeParameters other(infos);
  const Status applied = ApplyCheckpoint(*loaded, other);
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().message, ::testing::HasSubstr("fc1.weight"));
}

TEST_F(Checkpoint, ANonFiniteWeightIsNamedAndNotWritten) {
  parameters_.momentum(3)[0] = std::numeric_limits<float>::infinity();
  ParameterSnapshot snapshot(parameters_, 1);
  snapshot.Take();
  const auto written = WriteCheckpoint(files_, folder_.path(), snapshot, State(1));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kNumeric);
  EXPECT_THAT(written.error().message, ::testing::HasSubstr("the momentum of fc1.bias holds a NaN or infinity"));
  EXPECT_TRUE(files_.List(folder_.path())->empty());
}

TEST(CheckpointState, WhatForbidsAResumeIsNamed) {
  const RunIdentity then = State(1).identity;
  EXPECT_EQ(WhyNotResumable(then, then), "");
  RunIdentity now = then;
  now.global_batch = 32;
  EXPECT_THAT(WhyNotResumable(now, then), ::testing::HasSubstr("global_batch is 32 now and was 64"));
  now = then;
  now.preprocessing.standard_deviation = {1, 1, 1};
  EXPECT_THAT(WhyNotResumable(now, then), ::testing::HasSubstr("data.normalize"));
  now = then;
  now.spec_json = R"({"reproducibility":{"seed":2}})";
  EXPECT_THAT(WhyNotResumable(now, then), ::testing::HasSubstr("seed"));
}

TEST(CheckpointState, AnotherFingerprintIsDescribed) {
  const Fingerprint then = State(1).identity.fingerprint;
  EXPECT_EQ(FingerprintDifference(then, then), "");
  Fingerprint now = then;
  now.ranks = 4;
  EXPECT_EQ(FingerprintDifference(now, then), "ranks 4 (was 2)");
  now = then;
  now.algorithms = {"conv1_1 forward winograd"};
  EXPECT_EQ(FingerprintDifference(now, then), "algorithms of some layers");
  now.precision = "bf16";
  EXPECT_EQ(FingerprintDifference(now, then), "algorithms of some layers") << "the checkpoint does not say its precision";
}

TEST(CheckpointState, ADifferenceSaysWhetherItIsOneOfLastBits) {
  using ::testing::HasSubstr, ::testing::Not;
  Fingerprint then = State(1).identity.fingerprint;
  then.precision = "bf16";
  Fingerprint now = then;
  now.device = "cpu (oneDNN 2.6.3, 2 threads)";
  EXPECT_THAT(DifferenceMeans(now, then, true), HasSubstr("differ in their last bits"));
  now.precision = "fp32";
  EXPECT_EQ(FingerprintDifference(now, then), "device cpu (oneDNN 2.6.3, 2 threads) (was cpu), precision fp32 (was bf16)");
  const std::string precision = DifferenceMeans(now, then, false);
  EXPECT_THAT(precision, HasSubstr("values are fp32 (24 significant bits) and were bf16 (8 significant bits)"));
  EXPECT_THAT(precision, HasSubstr("by far more than their last bits"));
  EXPECT_THAT(DifferenceMeans(then, now, false), HasSubstr("values are bf16 (8 significant bits) and were fp32"));
  now = then;
  now.lanes = 3;
  EXPECT_THAT(DifferenceMeans(now, then, false), HasSubstr("differ in their last bits"));
  EXPECT_THAT(DifferenceMeans(now, then, true), HasSubstr("batch norm takes mean and variance of other lanes"));
}

TEST(CheckpointState, ThePrecisionOfOlderFilesIsWhatTheCpuHadOrUnknown) {
  CheckpointState state = State(1);
  const auto decoded = [&](const std::string& device, bool with_precision) {
    state.identity.fingerprint.device = device;
    state.identity.fingerprint.precision = "tf32";
    auto json = nlohmann::json::parse(EncodeState(state));
    if (!with_precision) json["fingerprint"].erase("precision");
    return DecodeState(json.dump(), "state.json")->identity.fingerprint.precision;
  };
  EXPECT_EQ(decoded("cuda (NVIDIA H200)", true), "tf32");
  EXPECT_EQ(decoded("cpu (oneDNN 2.6.3, AVX-512, 2 threads)", false), "fp32");
  EXPECT_EQ(decoded("cuda (NVIDIA H200)", false), "");
}

}  // namespace
}  // namespace plateau
