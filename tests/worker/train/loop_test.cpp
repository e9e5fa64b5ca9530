// The loop over a trainer that runs a step late: boundaries, stops, orders, NaN, kept batches and traces are the host's.
#include "worker/train/loop.h"

#include <fstream>
#include <functional>
#include <iterator>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/memory_store.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_images.h"
#include "worker/collective/single.h"
#include "worker/nn/init.h"
#include "worker/train/host_trainer.h"

namespace plateau {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kCrop = 32, kBatch = 6, kTrainImages = 20, kClasses = 3;

// Keeps what it is told; decides by the policy.
class NotingAuthority final : public Authority {
 public:
  explicit NotingAuthority(const LrPolicy& policy) : policy_(policy) {}
  Result<LrOutcome> Decide(const ValidationReport& report, double value, const LrState& before) override {
    validated.push_back(report.step);
    return DecideLr(policy_, before, value);
  }
  int64_t CheckpointOrder() const override { return order; }
  Status Publish(const WrittenCheckpoint& written, const CheckpointState& state, bool final, int64_t obeyed) override {
    published.push_back(fmt::format("{}{}", state.train.step, final ? " final" : ""));
    newest = written.folder;
    obeyed_order = obeyed;
    return {};
  }
  void Report(const Metrics& metrics) override { reported.push_back(fmt::format("{} {} {}", metrics.step, metrics.loss, metrics.lr)); }
  Status Finish(const Finished&) override { return {}; }

  std::vector<int64_t> validated;
  std::vector<std::string> published, reported;
  std::string newest;
  int64_t order = 0, obeyed_order = 0;

 private:
  LrPolicy policy_;
};

// A device as the loop sees it: with depth 1 a step is computed when it is settled, from the spans it was enqueued with, so that a
// batch that was not kept shows. After a step that is not finite nothing moves any more.
class LateTrainer final : public Trainer {
 public:
  LateTrainer(Trainer& host, int depth) : host_(host), depth_(depth) {}
  int depth() const override { return depth_; }
  void Enqueue(const StepInput& input) override {
    ASSERT_LE(static_cast<int>(waiting_.size()), depth_);
    waiting_.push_back(input);
    calls.push_back(fmt::format("+{}", input.step));
    if (on_enqueue) on_enqueue(input);
  }
  StepResult Settle() override {
    const StepInput input = waiting_.front();
    waiting_.pop_front();
    calls.push_back(fmt::format("-{}", input.step));
    if (halted_) return {.totals = {.nonfinite = 1}};
    host_.Enqueue(input);
    StepResult result = host_.Settle();
    halted_ = result.totals.nonfinite > 0;
    if (static_cast<int64_t>(input.step) == broken_update) result.nonfinite_parameter = 2;
    return result;
  }

  std::function<void(const StepInput&)> on_enqueue;
  int64_t broken_update = -1;
  std::vector<std::string> calls;

 private:
  Trainer& host_;
  int depth_;
  bool halted_ = false;
  std::deque<StepInput> waiting_;
};

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

testing::MemoryStore MakeStore() {
  testing::MemoryStore store(kClasses);
  for (int i = 0; i < kTrainImages; ++i)
    store.Add("train", testing::MakeJpeg(testing::MakePicture(40 + i % 5, 36 + i % 3, static_cast<uint32_t>(i))), i % kClasses);
  for (int i = 0; i < 7; ++i)
    store.Add("val", testing::MakeJpeg(testing::MakePicture(40, 36 + i, static_cast<uint32_t>(50 + i))), i % kClasses);
  return store;
}

// One rank in this process; `depth` is the trainer's.
struct House {
  explicit House(int depth, int steps = 7) {
    spec.name = "loop";
    spec.training.global_batch = kBatch;
    spec.validation = {.every = {Interval::Unit::kIterations, 3}, .scale = 36};
    spec.checkpoint.every = {Interval::Unit::kIterations, 2};
    options.identity = {.job = "loop", .spec_json = "{}", .metric = "val_top1_error", .network = "vgg-a", .images = kTrainImages};
    Preprocessing& recipe = options.identity.preprocessing;
    recipe.scale_low = recipe.scale_high = 36;
    recipe.crop = kCrop;
    recipe.mean = {120, 110, 100};
    recipe.standard_deviation = {60, 60, 60};
    options.shape = {.lanes = 2, .lane_rows = kBatch / 2};
    options.length = {.images = kTrainImages, .global_batch = kBatch, .total_steps = steps};
    options.decode_threads = 2;
    const Network network = *MakeNetwork("vgg-a", {.width = 0.02, .classes = kClasses});
    engine = *CreateCpuEngine(network, {.crop = kCrop});
    InitParameters(engine->parameters(), spec.training.init, 1);
    training = *engine->Compile({.batch = kBatch / 2, .height = kCrop, .width = kCrop});
    validation = *engine->Compile({.batch = kBatch, .height = kCrop, .width = kCrop, .training = false});
    host = std::make_unique<HostTrainer>(*engine, *training, TrainerOptions{.shape = options.shape, .global_batch = kBatch}, 1, world,
                                         pulse);
    trainer = std::make_unique<LateTrainer>(*host, depth);
    trace = std::move(*TraceWriter::Open(folder / "trace", 0, network, *InferShapes(network, kCrop, kCrop), 1));
  }

  tl::expected<std::string, TrainFault> Run(TrainState state = {}) {
    options.spec = spec;
    NotingAuthority& told = *authority;
    CheckpointSaver saver(files, folder.path(), told, engine->parameters(), 1, pulse);
    Reporter reporter({.metrics_path = folder / "metrics.jsonl",
                       .first_step = state.step,
                       .total_steps = options.length.total_steps,
                       .images_per_epoch = kTrainImages,
                       .global_batch = kBatch},
                      clock, told);
    RankZeroParts zero{told, saver, reporter};
    state.lr = InitialLrState(spec.lr);
    TrainLoop loop(options,
                   {*engine, *trainer, *training, *validation, store, world, clock, pulse, stop, &zero, trace.get()}, state);
    auto end = loop.Run();
    if (const Status written = saver.Wait(); !written) ADD_FAILURE() << written.error().message;
    return end;
  }
  std::string Weights() {
    std::string bytes;
    ParameterStore& parameters = engine->parameters();
    for (int p = 0; p < parameters.count(); ++p)
      bytes.append(reinterpret_cast<const char*>(parameters.weight(p).data()), parameters.weight(p).size_bytes());
    return bytes;
  }

  const test::TempFolder folder{test::FastFolder()};
  const testing::MemoryStore store = MakeStore();
  PosixFileSystem files;
  ManualClock clock{1'000};
  SingleCollective world;
  Pulse pulse;
  StopFlag stop;
  JobSpec spec;
  LoopOptions options;
  std::unique_ptr<NotingAuthority> authority = std::make_unique<NotingAuthority>(spec.lr);
  std::unique_ptr<Engine> engine;
  Plan* training = nullptr;
  Plan* validation = nullptr;
  std::unique_ptr<HostTrainer> host;
  std::unique_ptr<LateTrainer> trainer;
  std::unique_ptr<TraceWriter> trace;
};

TEST(TrainLoop, ALateTrainerMeetsTheSameBoundariesWithTheSameBits) {
  House host(0), late(1);
  for (House* house : {&host, &late}) {
    const auto end = house->Run();
    ASSERT_TRUE(end) << end.error().error.message;
    EXPECT_EQ(*end, "MAX_EPOCHS");
    EXPECT_THAT(house->authority->validated, ElementsAre(3, 6, 7));
    EXPECT_THAT(house->authority->published, ElementsAre("2", "4", "6", "7 final"));
    EXPECT_EQ(house->pulse.step, 7);
  }
  EXPECT_THAT(host.trainer->calls, ElementsAre("+0", "-0", "+1", "-1", "+2", "-2", "+3", "-3", "+4", "-4", "+5", "-5", "+6", "-6"));
  EXPECT_THAT(late.trainer->calls, ElementsAre("+0", "+1", "-0", "-1", "+2", "-2", "+3", "-3", "+4", "+5", "-4", "-5", "+6", "-6"))
      << "two at once, but none across a boundary";
  EXPECT_TRUE(host.Weights() == late.Weights());
  EXPECT_EQ(host.authority->reported, late.authority->reported);
  EXPECT_EQ(host.authority->reported.size(), 1u);
  EXPECT_EQ(ReadAll(host.folder / "trace.rank-0"), ReadAll(late.folder / "trace.rank-0")) << "samples, crops, masks and losses";
  for (const char* file : {"/model.safetensors", "/momentum.safetensors", "/state.json"})
    EXPECT_TRUE(ReadAll(host.authority->newest + file) == ReadAll(late.authority->newest + file)) << file;
}

// Steps run two at a time when nothing is due, and each batch is whole when its step is computed.
TEST(TrainLoop, BatchesAreKeptUntilTheirStepIsSettled) {
  House host(0, 12), late(1, 12);
  for (House* house : {&host, &late}) {
    house->spec.validation.every = house->spec.checkpoint.every = {Interval::Unit::kIterations, 100};
    ASSERT_TRUE(house->Run());
  }
  EXPECT_EQ(ReadAll(host.folder / "trace.rank-0"), ReadAll(late.folder / "trace.rank-0"));
  EXPECT_TRUE(host.Weights() == late.Weights());
}

TEST(TrainLoop, AStopTakesEffectOneStepLaterAndItsCheckpointHoldsThatStep) {
  for (const int depth : {0, 1}) {
    House house(depth, 50);
    house.spec.validation.every = house.spec.checkpoint.every = {Interval::Unit::kIterations, 100};
    house.trainer->on_enqueue = [&](const StepInput& input) {
      if (input.step == 2) house.stop.Raise();  // step 3 is the first that votes for it
    };
    const auto end = house.Run();
    ASSERT_TRUE(end);
    EXPECT_EQ(*end, "STOPPED");
    EXPECT_THAT(house.authority->published, ElementsAre(std::to_string(4 + depth)));
    EXPECT_EQ(house.trainer->calls.back(), fmt::format("-{}", 3 + depth)) << "nothing is left unsettled";
  }
}

TEST(TrainLoop, VotesForACheckpointAreObeyedOneStepLater) {
  for (const int depth : {0, 1}) {
    House house(depth, 12);
    house.spec.validation.every = {Interval::Unit::kIterations, 100};
    house.spec.checkpoint.every = {Interval::Unit::kSeconds, 10};
    house.trainer->on_enqueue = [&](const StepInput& input) {
      if (input.step == 2) house.clock.AdvanceMs(10'000);  // step 3 votes
      if (input.step == 7) house.authority->order = 4;     // step 8 votes
    };
    ASSERT_TRUE(house.Run());
    EXPECT_THAT(house.authority->published, ElementsAre(std::to_string(4 + depth), std::to_string(9 + depth), "12 final"));
    EXPECT_EQ(house.authority->obeyed_order, 4);
  }
}

TEST(TrainLoop, ALossThatIsNotFiniteIsNamedWithItsOwnStepFromTheKeptBatch) {
  House sound(0, 3);
  sound.spec.validation.every = sound.spec.checkpoint.every = {Interval::Unit::kIterations, 100};
  ASSERT_TRUE(sound.Run());
  for (const int depth : {0, 1}) {
    House house(depth, 12);
    house.spec.validation.every = house.spec.checkpoint.every = {Interval::Unit::kIterations, 100};
    house.trainer->on_enqueue = [&](const StepInput& input) {
      if (input.step == 3) const_cast<float&>(input.rows.images[5]) = std::numeric_limits<float>::quiet_NaN();
    };
    const auto end = house.Run();
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().reason, "NAN_LOSS");
    EXPECT_EQ(end.error().step, 3);
    EXPECT_EQ(end.error().layer, "input");
    EXPECT_THAT(end.error().error.message, AllOf(HasSubstr("step 3 is not finite"), HasSubstr("rank 0")));
    EXPECT_THAT(house.authority->published, ElementsAre());
    EXPECT_TRUE(house.Weights() == sound.Weights()) << "those behind step 2";
    EXPECT_EQ(house.trainer->calls.back(), fmt::format("-{}", 3 + depth)) << "the step behind it is dropped, not left";
  }
}

TEST(TrainLoop, AnUpdateThatIsNotFiniteNamesItsStepAndParameter) {
  for (const int depth : {0, 1}) {
    House house(depth, 12);
    house.spec.validation.every = house.spec.checkpoint.every = {Interval::Unit::kIterations, 100};
    house.trainer->broken_update = 4;
    const auto end = house.Run();
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().step, 4);
    EXPECT_THAT(end.error().error.message, HasSubstr("update of step 4 made conv2_1.weight"));
    EXPECT_EQ(house.trainer->calls.back(), fmt::format("-{}", 4 + depth));
  }
}

}  // namespace
}  // namespace plateau
