// The pipeline: the same samples and pixels for any number of ranks and threads, in order, from any step; errors; prompt endings.
#include "dataset/pipeline.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataset/augment.h"
#include "dataset/sampler.h"
#include "tests/support/memory_store.h"
#include "tests/support/test_images.h"

namespace plateau {
namespace {

using ::testing::HasSubstr;
using testing::MakeJpeg;
using testing::MakePicture;
using testing::MemoryStore;

constexpr int kTrainRecords = 37, kValRecords = 23;
constexpr uint64_t kPadding = ~uint64_t{0};

// Two rejected sources in the training split, so that dense numbers and ordinals differ.
MemoryStore MakeStore() {
  MemoryStore store;
  for (int i = 0; i < kTrainRecords + 2; ++i)
    store.Add("train", i == 5 || i == 20 ? "" : MakeJpeg(MakePicture(50 + i % 7, 44 + i % 5, static_cast<uint32_t>(i))), i % 10);
  for (int i = 0; i < kValRecords; ++i) store.Add("val", MakeJpeg(MakePicture(48, 40 + i, static_cast<uint32_t>(100 + i))), i % 10);
  return store;
}

Preprocessing SmallRecipe() {
  Preprocessing out;
  out.scale_low = 32;
  out.scale_high = 40;
  out.crop = 24;
  out.mean = {120, 110, 100};
  out.standard_deviation = {60, 60, 60};
  out.colour_eigenvalues = {0.2, 0.02, 0.005};
  out.colour_eigenvectors = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  return out;
}

PipelineOptions Training(int global_batch, int rank = 0, int world_size = 1, int threads = 2) {
  PipelineOptions out;
  out.global_batch = global_batch;
  out.rank = rank;
  out.world_size = world_size;
  out.rows = RankRows(global_batch, rank, world_size).size();
  out.threads = threads;
  out.queue_batches = 3;
  return out;
}

PipelineOptions Validation(int global_batch, int rank = 0, int world_size = 1) {
  PipelineOptions out = Training(global_batch, rank, world_size);
  out.training = false;
  out.split = "val";
  out.rows = (global_batch + world_size - 1) / world_size;
  return out;
}

std::unique_ptr<Pipeline> StartOrDie(const StoreReader& store, const PipelineOptions& options) {
  auto pipeline = Pipeline::Start(store, SmallRecipe(), options);
  EXPECT_TRUE(pipeline) << pipeline.error().message;
  return std::move(*pipeline);
}

// A sample as delivered, for comparing runs.
struct Seen {
  uint64_t ordinal;
  int32_t label;
  std::vector<float> image;
  bool operator==(const Seen&) const = default;
};

void Append(const Batch& batch, std::vector<Seen>& out) {
  const auto values = static_cast<size_t>(3 * batch.side * batch.side);
  for (size_t row = 0; row < static_cast<size_t>(batch.rows); ++row) {
    if (batch.weights[row] == 0) continue;
    const auto begin = batch.images.begin() + static_cast<std::ptrdiff_t>(row * values);
    out.push_back({batch.sample_index[row], batch.labels[row], {begin, begin + static_cast<std::ptrdiff_t>(values)}});
  }
}

// Samples of steps [first, first + steps) in stream order, put together from all ranks.
std::vector<Seen> RunSteps(const StoreReader& store, int global_batch, int world_size, int threads, int64_t first, int steps) {
  std::vector<std::unique_ptr<Pipeline>> ranks;
  for (int rank = 0; rank < world_size; ++rank) {
    PipelineOptions options = Training(global_batch, rank, world_size, threads);
    options.first_batch = first;
    ranks.push_back(StartOrDie(store, options));
  }
  std::vector<Seen> out;
  for (int step = 0; step < steps; ++step)
    for (auto& pipeline : ranks) {
      auto batch = pipeline->Next();
      EXPECT_TRUE(batch && *batch);
      EXPECT_EQ((*batch)->number, first + step);
      Append(**batch, out);
      pipeline->Recycle(std::move(*batch));
    }
  return out;
}

TEST(Training, EveryRecordOncePerEpochOverAnyNumberOfRanks) {
  const MemoryStore store = MakeStore();
  for (const int world : {1, 2, 3, 4}) {
    const auto seen = RunSteps(store, 10, world, 2, 0, 3 * kTrainRecords / 10 + 1);  // 12 steps of 10: three epochs and more
    for (int epoch = 0; epoch < 3; ++epoch) {
      std::set<uint64_t> ordinals;
      for (int i = 0; i < kTrainRecords; ++i) ordinals.insert(seen[static_cast<size_t>(epoch * kTrainRecords + i)].ordinal);
      EXPECT_EQ(ordinals.size(), static_cast<size_t>(kTrainRecords));
      EXPECT_EQ(ordinals.count(5) + ordinals.count(20), 0u);
    }
  }
}

TEST(Training, OneTwoThreeAndFourRanksSeeTheSamePixelsPerStep) {
  const MemoryStore store = MakeStore();
  const auto single = RunSteps(store, 13, 1, 1, 0, 6);
  ASSERT_EQ(single.size(), 13u * 6);
  for (const int world : {2, 3, 4}) EXPECT_EQ(RunSteps(store, 13, world, 2, 0, 6), single) << world << " ranks";
  EXPECT_EQ(RunSteps(store, 13, 1, 4, 0, 6), single) << "four threads";
}

TEST(Training, RowsAreWhatSamplerAndAugmenterSay) {
  const MemoryStore store = MakeStore();
  const auto seen = RunSteps(store, 8, 2, 2, 3, 2);
  const Sampler sampler(1, kTrainRecords);
  Augmenter augmenter(SmallRecipe());
  std::vector<float> expected(3 * 24 * 24);
  for (size_t i = 0; i < seen.size(); ++i) {
    const StreamSample sample = sampler.At(3 * 8 + i);
    const SplitInfo& split = store.manifest().splits[0];
    RecordBuffer buffer;
    ASSERT_EQ(seen[i].ordinal, SourceOrdinal(split, sample.dense));
    ASSERT_TRUE(store.Read(split, seen[i].ordinal, buffer));
    ASSERT_TRUE(augmenter.Train(buffer.record, 1, sample.epoch, expected.data()));
    EXPECT_EQ(seen[i].image, expected);
    EXPECT_EQ(seen[i].label, static_cast<int32_t>(seen[i].ordinal % 10));
  }
}

// The values of a batch of bytes: what a device makes of them.
std::vector<float> ValuesOf(const Batch& batch) {
  std::vector<float> values(batch.pixels.size());
  const size_t count = batch.pixels.size() / static_cast<size_t>(batch.rows);
  for (size_t row = 0; row < static_cast<size_t>(batch.rows); ++row)
    ToValues(std::span(batch.pixels).subspan(row * count, count), batch.scales[row], batch.side,
             std::span(values).subspan(row * count, count));
  return values;
}

TEST(Pixels, AreTheSameBatchesWithTheSameValues) {
  const MemoryStore store = MakeStore();
  for (const bool training : {true, false})
    for (int rank = 0; rank < 2; ++rank) {
      PipelineOptions options = training ? Training(7, rank, 2) : Validation(7, rank, 2);
      options.rows = 5;  // the last one or two are padding
      auto floats = StartOrDie(store, options);
      options.pixels = true;
      auto bytes = StartOrDie(store, options);
      for (int step = 0; step < (training ? 12 : 4); ++step) {
        auto a = floats->Next(), b = bytes->Next();
        ASSERT_TRUE(a && b && *a && *b);
        EXPECT_TRUE((*a)->pixels.empty() && (*a)->scales.empty());
        EXPECT_TRUE((*b)->images.empty());
        EXPECT_EQ((*b)->pixels.size(), size_t{5} * 3 * 24 * 24);
        EXPECT_EQ((*b)->scales.size(), 5u);
        EXPECT_EQ(ValuesOf(**b), (*a)->images) << "padding is 0 in both";
        EXPECT_EQ((*b)->labels, (*a)->labels);
        EXPECT_EQ((*b)->weights, (*a)->weights);
        EXPECT_EQ((*b)->sample_index, (*a)->sample_index);
        floats->Recycle(std::move(*a));
        bytes->Recycle(std::move(*b));
      }
    }
}

TEST(Training, StartsAtAnyStepAndSeeksAnywhere) {
  const MemoryStore store = MakeStore();
  const auto whole = RunSteps(store, 7, 1, 2, 0, 12);
  const auto tail = RunSteps(store, 7, 1, 2, 9, 3);
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), whole.begin() + 7 * 9, whole.end()));
  auto pipeline = StartOrDie(store, Training(7));
  for (const int64_t step : std::initializer_list<int64_t>{4, 0, 9, 1'000'000'000'000}) {
    pipeline->Seek(step);
    auto batch = pipeline->Next();
    ASSERT_TRUE(batch && *batch);
    EXPECT_EQ((*batch)->number, step);
    std::vector<Seen> seen;
    Append(**batch, seen);
    if (step < 12) {
      EXPECT_TRUE(std::equal(seen.begin(), seen.end(), whole.begin() + 7 * step));
    }
    pipeline->Recycle(std::move(*batch));
  }
}

TEST(Validation, EveryRecordOnceInSourceOrderPaddedAndWithTheSameNumberOfBatchesOnEveryRank) {
  const MemoryStore store = MakeStore();
  for (const int world : {1, 2, 3, 5}) {
    std::map<uint64_t, int> times;
    std::vector<std::unique_ptr<Pipeline>> ranks;
    for (int rank = 0; rank < world; ++rank) ranks.push_back(StartOrDie(store, Validation(8, rank, world)));
    for (int pass = 0; pass < 2; ++pass) {
      uint64_t last = 0;
      for (int64_t number = 0; number < 3; ++number)
        for (auto& pipeline : ranks) {
          EXPECT_EQ(pipeline->batches_per_pass(), 3);
          auto batch = pipeline->Next();
          ASSERT_TRUE(batch && *batch);
          EXPECT_EQ((*batch)->number, number);
          EXPECT_EQ((*batch)->rows, (8 + world - 1) / world);
          for (size_t row = 0; row < static_cast<size_t>((*batch)->rows); ++row) {
            const uint64_t ordinal = (*batch)->sample_index[row];
            const float* image = (*batch)->images.data() + row * 3 * 24 * 24;
            if ((*batch)->weights[row] == 0) {
              EXPECT_EQ(ordinal, kPadding);
              EXPECT_EQ((*batch)->labels[row], 0);
              EXPECT_TRUE(std::all_of(image, image + 3 * 24 * 24, [](float v) { return v == 0; }));
            } else {
              EXPECT_GE(ordinal, last) << "source order";
              last = ordinal;
              ++times[ordinal];
            }
          }
          pipeline->Recycle(std::move(*batch));
        }
      for (auto& pipeline : ranks) {
        auto end = pipeline->Next();
        ASSERT_TRUE(end);
        EXPECT_EQ(*end, nullptr);
        pipeline->Seek(0);
      }
    }
    EXPECT_EQ(times.size(), static_cast<size_t>(kValRecords));
    for (const auto& [ordinal, count] : times) EXPECT_EQ(count, 2) << ordinal << ", once a pass";
  }
}

TEST(Validation, PixelsAreTheCentreCropAndDoNotDependOnSeedOrRank) {
  const MemoryStore store = MakeStore();
  PipelineOptions options = Validation(8, 1, 2);
  options.seed = 99;
  auto pipeline = StartOrDie(store, options);
  auto batch = pipeline->Next();
  ASSERT_TRUE(batch && *batch);
  EXPECT_EQ((*batch)->sample_index, (std::vector<uint64_t>{4, 5, 6, 7}));
  RecordBuffer buffer;
  std::vector<float> expected(3 * 24 * 24);
  ASSERT_TRUE(store.Read(store.manifest().splits[1], 6, buffer));
  ASSERT_TRUE(Augmenter(SmallRecipe()).Evaluate(buffer.record, expected.data()));
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), (*batch)->images.begin() + 2 * 3 * 24 * 24));
}

TEST(Validation, APassGivenUpInTheMiddleBeginsAgain) {
  const MemoryStore store = MakeStore();
  auto pipeline = StartOrDie(store, Validation(4));
  for (int trial = 0; trial < 20; ++trial) {
    auto batch = pipeline->Next();
    ASSERT_TRUE(batch && *batch);
    EXPECT_EQ((*batch)->number, 0);
    EXPECT_EQ((*batch)->sample_index.front(), 0u);
    pipeline->Recycle(std::move(*batch));
    pipeline->Seek(0);
  }
}

TEST(Buffers, AreRecycledAndBounded) {
  const MemoryStore store = MakeStore();
  auto pipeline = StartOrDie(store, Training(6));
  std::set<const float*> buffers;
  for (int step = 0; step < 60; ++step) {
    auto batch = pipeline->Next();
    ASSERT_TRUE(batch && *batch);
    buffers.insert((*batch)->images.data());
    pipeline->Recycle(std::move(*batch));
  }
  EXPECT_LE(buffers.size(), 4u) << "three in the queue, one with the consumer";
}

TEST(Errors, ADamagedRecordIsNamedAfterTheBatchesBeforeIt) {
  MemoryStore store = MakeStore();
  const Sampler sampler(1, kTrainRecords);
  const uint64_t damaged = SourceOrdinal(store.manifest().splits[0], sampler.At(2 * 6 + 3).dense);
  const uint64_t later = SourceOrdinal(store.manifest().splits[0], sampler.At(2 * 6 + 5).dense);
  store.Overwrite("train", damaged, "GIF89a");
  store.Overwrite("train", later, "GIF89a");
  for (int trial = 0; trial < 10; ++trial) {
    auto pipeline = StartOrDie(store, Training(6, 0, 1, 3));
    for (int step = 0; step < 2; ++step) ASSERT_TRUE(pipeline->Next());
    for (int again = 0; again < 2; ++again) {
      const auto failed = pipeline->Next();
      ASSERT_FALSE(failed);
      EXPECT_THAT(failed.error().message,
                  HasSubstr(fmt::format("record {} of split train (\"train_{}.JPEG\"): not a JPEG", damaged, damaged)))
          << "the first row's error, whichever thread was faster";
      EXPECT_THAT(failed.error().message, HasSubstr("plateau dataset verify"));
    }
    pipeline->Seek(0);
    EXPECT_TRUE(pipeline->Next()) << "a seek clears the error";
  }
}

TEST(Errors, OfTheStoreComeThroughUnchanged) {
  MemoryStore store = MakeStore();
  store.FailReadsOf("val", 9, {ErrorCode::kIo, "/data/x/val/00000/000008.sst: block checksum mismatch"});
  auto pipeline = StartOrDie(store, Validation(8));
  ASSERT_TRUE(pipeline->Next());
  const auto failed = pipeline->Next();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_EQ(failed.error().message, "/data/x/val/00000/000008.sst: block checksum mismatch");
}

TEST(Errors, ALabelBeyondTheClassesIsRefused) {
  MemoryStore store(3);
  store.Add("train", MakeJpeg(MakePicture(40, 40)), 3);
  const auto failed = StartOrDie(store, Training(1))->Next();
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("label 3, but the store has 3 classes"));
}

TEST(Errors, ABadStartSaysWhy) {
  const MemoryStore store = MakeStore(), empty;
  PipelineOptions options = Training(8);
  options.split = "test";
  EXPECT_THAT(Pipeline::Start(store, SmallRecipe(), options).error().message, HasSubstr("no split \"test\" (it has: train, val)"));
  EXPECT_THAT(Pipeline::Start(empty, SmallRecipe(), Training(8)).error().message, HasSubstr("is empty"));
  Preprocessing recipe = SmallRecipe();
  recipe.crop = 33;
  EXPECT_THAT(Pipeline::Start(store, recipe, Training(8)).error().message, HasSubstr("crop of 33 pixels"));
  options = Training(8);
  options.rows = 7;
  EXPECT_THAT(Pipeline::Start(store, SmallRecipe(), options).error().message, HasSubstr("has 8 rows"));
}

// Reads wait at a gate, so that a test decides when decoding goes on.
class GatedStore final : public StoreReader {
 public:
  explicit GatedStore(const StoreReader& inner) : inner_(inner) {}
  const Manifest& manifest() const override { return inner_.manifest(); }
  Status Read(const SplitInfo& split, uint64_t ordinal, RecordBuffer& out) const override {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    lock.unlock();
    return inner_.Read(split, ordinal, out);
  }
  void AwaitReaders(int count) const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  const StoreReader& inner_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable int waiting_ = 0;
  bool open_ = false;
};

TEST(Ending, WaitsForTheReadsUnderWay) {
  const MemoryStore inner = MakeStore();
  GatedStore store(inner);
  auto pipeline = StartOrDie(store, Training(32, 0, 1, 3));
  store.AwaitReaders(3);  // every thread is inside a read
  std::thread destroy([&] { pipeline.reset(); });
  store.Open();
  destroy.join();
}

TEST(Ending, AtAnyMoment) {
  const MemoryStore store = MakeStore();
  for (int trial = 0; trial < 60; ++trial) {
    auto pipeline = StartOrDie(store, Training(5, 0, 1, 1 + trial % 4));
    for (int step = 0; step < trial % 5; ++step) ASSERT_TRUE(pipeline->Next());
  }
}

TEST(Preprocessing, ComesFromSpecAndMoments) {
  Manifest manifest;
  manifest.moments.mean = {123, 117, 104};
  manifest.moments.standard_deviation = {58, 57, 0};
  manifest.moments.covariance_eigenvalues = {0.2, 0.02, 0.005};
  manifest.moments.covariance_eigenvectors[2][0] = 0.5;
  JobSpec spec;
  spec.data.train_scale_low = 256;
  spec.data.train_scale_high = 512;
  spec.data.crop = 200;
  spec.data.flip = false;
  spec.validation.scale = 384;
  const auto training = MakePreprocessing(spec, manifest);
  EXPECT_EQ(training.scale_low, 256);
  EXPECT_EQ(training.scale_high, 512);
  EXPECT_EQ(training.crop, 200);
  EXPECT_FALSE(training.flip);
  EXPECT_TRUE(training.colour);
  EXPECT_EQ(training.mean, (std::array<float, 3>{123, 117, 104}));
  EXPECT_EQ(training.standard_deviation, (std::array<float, 3>{58, 57, 1})) << "a constant channel is not divided";
  EXPECT_EQ(training.colour_eigenvectors[2][0], 0.5);
  spec.data.normalize = Normalize::kMean;
  const auto evaluation = MakeEvaluationPreprocessing(spec, manifest);
  EXPECT_EQ(evaluation.scale_low, 384);
  EXPECT_EQ(evaluation.scale_high, 384);
  EXPECT_FALSE(evaluation.colour);
  EXPECT_EQ(evaluation.standard_deviation, (std::array<float, 3>{1, 1, 1}));
}

}  // namespace
}  // namespace plateau
