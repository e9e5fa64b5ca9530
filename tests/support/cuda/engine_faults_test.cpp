// The CUDA engine where only the emulation can bring it: at the end of memory, on a device that fails, and counted by its waits.
#include <gmock/gmock.h>

#include "tests/support/cuda/emulation.h"
#include "tests/support/watch_double.h"
#include "tests/worker/backend/cuda/cuda_fixture.h"
#include "worker/nn/scorer.h"

namespace plateau::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kCrop = 32, kClasses = 7;

class EngineFaults : public testing::Test {
 protected:
  void SetUp() override { emulated::Reset(); }
  void TearDown() override { emulated::Reset(); }
  static Network Small() { return MakeTestNetwork("vgg-a", 0.0625, kClasses, 0.5); }
  static PlanOptions Options(int batch) { return {.batch = batch, .height = kCrop, .width = kCrop, .training = true}; }
  static size_t Used() {
    size_t free = 0, total = 0;
    EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
    return total - free;
  }
};

TEST_F(EngineFaults, TheDeviceHoldsWhatWasPredictedAndNothingElse) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const size_t before = Used();
    auto engine = MakeCudaEngine(Small(), {.threads = 1, .crop = kCrop, .precision = precision});
    const CudaPlan* plan = Compile(*engine, Options(6));
    const auto predicted = PredictMemory(Small(), kCrop, Options(6), precision, 6);
    ASSERT_TRUE(predicted.has_value());
    // The prediction's workspace is a bound, and batches are the trainer's.
    const size_t counted = predicted->total() - predicted->workspace - predicted->batches - predicted->copy;
    EXPECT_EQ(Used() - before, counted + AlignedBytes(plan->workspace_bytes()) + AlignedBytes(predicted->copy));
    engine.reset();
    EXPECT_EQ(Used(), before);
  }
}

TEST_F(EngineFaults, MemoryThatEndsWhileAPlanIsBuiltIsNamedWithWhatFitsAndEndsNothing) {
  const Samples samples = MakeSamples(16, kCrop, kClasses);
  auto engine = MakeCudaEngine(Small(), {.threads = 1, .seed = 5, .crop = kCrop});
  const StepResult small = RunStep(*engine, samples.rows(0, 2), kCrop, 2);
  const auto predicted = PredictMemory(Small(), kCrop, Options(16), Precision::kFp32, 16);
  ASSERT_TRUE(predicted.has_value());
  for (int allocation = 0; allocation < 2; ++allocation) {  // of the plan's rows, of the arena
    emulated::FailCall("cudaMalloc", cudaErrorMemoryAllocation, allocation);
    const auto refused = engine->Compile(Options(16));
    ASSERT_FALSE(refused.has_value()) << allocation;
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
    EXPECT_NE(refused.error().message.find("out of memory for a plan of batch 16"), std::string::npos) << refused.error().message;
    EXPECT_NE(refused.error().message.find("largest batch that fits is"), std::string::npos) << refused.error().message;
    emulated::Reset();
    EXPECT_EQ(RunStep(*engine, samples.rows(0, 2), kCrop, 2).gradients, small.gradients);  // finds its memory again
  }
  EXPECT_TRUE(std::isfinite(RunStep(*engine, samples.lane(), kCrop, 16).loss.loss));
}

TEST_F(EngineFaults, ABatchThatWasSaidToFitDoes) {
  auto engine = MakeCudaEngine(Small(), {.threads = 1, .seed = 5, .crop = kCrop});
  emulated::SetMemoryBytes(Used() + (size_t{96} << 20));
  const int largest = *engine->LargestBatch(Options(1));
  ASSERT_GT(largest, 0);
  ASSERT_LT(largest, 4096);
  EXPECT_TRUE(engine->Compile(Options(largest)).has_value());
  const auto refused = engine->Compile(Options(64 * largest));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
}

// The images of a rank on their way to the device, and the open sums of lanes, do not shrink with the lanes.
TEST_F(EngineFaults, ARankThatNoCutFitsIsToldWhatWasTriedAndHowManyImagesARankMayHave) {
  auto engine = MakeCudaEngine(Small(), {.threads = 1, .seed = 5, .crop = kCrop});
  emulated::SetMemoryBytes(Used() + (size_t{96} << 20));
  const auto fits = [&](int rows) { return engine->LargestBatch(Options(rows)).has_value(); };
  const int most = 1 << 14;
  ASSERT_FALSE(fits(most));
  const auto refused = engine->LargestBatch(Options(most));
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr(fmt::format("the {} images of a rank at 32x32 do not fit into ", most)),
                                             HasSubstr(" of device 0 at once ("), HasSubstr("nor in lanes: "),
                                             HasSubstr("open sums"), HasSubstr("use more ranks"), Not(HasSubstr("auto"))));
  int named = 0;
  const size_t at = refused.error().message.find("a rank of ");
  ASSERT_NE(at, std::string::npos) << refused.error().message;
  named = std::stoi(refused.error().message.substr(at + 10));
  EXPECT_TRUE(fits(named)) << refused.error().message;
  EXPECT_FALSE(fits(named + 1)) << refused.error().message;
}

TEST_F(EngineFaults, WhereNotEvenOneImageFitsThatIsSaid) {
  auto engine = MakeCudaEngine(Small(), {.threads = 1, .seed = 5, .crop = kCrop});
  emulated::SetMemoryBytes(Used() + (size_t{1} << 20));
  const auto refused = engine->LargestBatch(Options(8));
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("not even a batch of 1 fits"));
}

// Each plans with an equal part of what was free before any of them took memory.
TEST_F(EngineFaults, RanksThatShareADevicePlanWithTheirParts) {
  emulated::SetMemoryBytes(Used() + (size_t{192} << 20));
  const auto rows = [](const EngineOptions& options) { return *MakeCudaEngine(Small(), options)->LargestBatch(Options(1)); };
  const int alone = rows({.threads = 1, .crop = kCrop});
  const EngineOptions shared{
      .threads = 1, .crop = kCrop, .ranks = 2, .device_sharers = 2, .device_free_bytes = uint64_t{192} << 20};
  auto first = MakeCudaEngine(Small(), shared), second = MakeCudaEngine(Small(), shared);
  const int of_first = *first->LargestBatch(Options(1)), of_second = *second->LargestBatch(Options(1));
  EXPECT_EQ(of_first, of_second) << "what the first one holds is not the second one's loss";
  EXPECT_LT(of_first, alone / 2 + 1);
  EXPECT_TRUE(first->Compile(Options(of_first)).has_value());
  EXPECT_TRUE(second->Compile(Options(of_second)).has_value()) << "both fit at the same time";
  const auto refused = second->Compile(Options(alone));
  ASSERT_FALSE(refused.has_value()) << "the device would have had room for it";
  EXPECT_THAT(refused.error().message, HasSubstr("this rank's part of device 0, which 2 ranks share"));
}

TEST_F(EngineFaults, ARankThatMayTakeNcclLeavesItMoreMemory) {
  const auto rows = [](const EngineOptions& options) { return *MakeCudaEngine(Small(), options)->LargestBatch(Options(1)); };
  const EngineOptions alone{.threads = 1, .crop = kCrop};
  EngineOptions ranks = alone, through_the_host = alone;
  ranks.ranks = through_the_host.ranks = 2;
  through_the_host.collective = CollectiveKind::kMpi;
  EXPECT_LT(rows(ranks), rows(alone));
  EXPECT_EQ(rows(through_the_host), rows(alone));
}

TEST_F(EngineFaults, AStepThatIsEnqueuedWaitsForNothingAndAllocatesNothing) {
  auto engine = MakeCudaEngine(InceptionNetwork(kClasses), {.threads = 1, .crop = kCrop});
  CudaPlan* plan = Compile(*engine, {.batch = 2, .height = kCrop, .width = kCrop, .training = true});
  const DeviceBuffer images(size_t{2} * 3 * kCrop * kCrop * sizeof(float)), labels(2 * sizeof(int32_t)), weights(2 * sizeof(float)),
      index(2 * sizeof(uint64_t)), loss(sizeof(DeviceLoss)), scalars(sizeof(StepScalars));
  const DeviceRows rows{.images = images.as<float>(), .labels = labels.as<int32_t>(), .weights = weights.as<float>(),
                        .sample_index = index.as<uint64_t>(), .rows = 2};
  const size_t used = Used();
  emulated::Reset();
  plan->EnqueueForward(rows, scalars.as<StepScalars>());
  plan->EnqueueLoss(rows, 0.5F, loss.as<DeviceLoss>());
  for (int layer = static_cast<int>(plan->network().layers.size()) - 1; layer >= 0; --layer) {
    plan->EnqueueBackwardData(layer);
    plan->EnqueueBackwardWeights(layer);
  }
  EXPECT_EQ(emulated::HostWaits(), 0);
  EXPECT_EQ(emulated::OperationsRun(), 0);  // nobody has waited for them yet
  EXPECT_EQ(Used(), used);
  plan->libraries().stream().Wait();
  EXPECT_GT(emulated::OperationsRun(), 100);
}

TEST_F(EngineFaults, AValidationBatchIsCopiedAndQueuedWhileTheOneBeforeItRuns) {
  auto engine = MakeCudaEngine(Small(), {.threads = 1, .crop = kCrop});
  PlanOptions options = Options(3);
  options.training = false;
  auto scorer = std::move(*engine->CreateScorer(*Compile(*engine, options), true));
  const Samples samples = MakePixelSamples(3, kCrop, kClasses);
  scorer->Enqueue(samples.pixel_lane());
  scorer->Settle();
  const size_t used = Used();
  emulated::Reset();
  scorer->Enqueue(samples.pixel_lane());
  scorer->Enqueue(samples.pixel_lane());
  EXPECT_EQ(emulated::HostWaits(), 0);
  EXPECT_EQ(emulated::OperationsRun(), 0);  // nobody has waited for them yet
  EXPECT_EQ(Used(), used);
  EXPECT_EQ(scorer->Settle().images, 3);
  EXPECT_EQ(scorer->Settle().images, 3);
}

TEST_F(EngineFaults, AValidationThatFindsNoRoomSaysSo) {
  auto engine = MakeCudaEngine(Small(), {.threads = 1, .crop = kCrop});
  PlanOptions options = Options(3);
  options.training = false;
  CudaPlan* plan = Compile(*engine, options);
  for (int allocation = 0; allocation < 4; ++allocation) {  // two of batches, two of sums
    emulated::FailCall("cudaMalloc", cudaErrorMemoryAllocation, allocation);
    const auto refused = engine->CreateScorer(*plan, true);
    ASSERT_FALSE(refused.has_value()) << allocation;
    EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
    EXPECT_NE(refused.error().message.find("two validation batches of 3 rows"), std::string::npos) << refused.error().message;
    emulated::Reset();
  }
  EXPECT_TRUE(engine->CreateScorer(*plan, true).has_value());
}

TEST_F(EngineFaults, ADeviceThatFailsUnderAStepIsAFailureInItsWords) {
  const Samples samples = MakeSamples(2, kCrop, kClasses);
  auto engine = MakeCudaEngine(Small(), {.threads = 1, .crop = kCrop, .device = 3});
  CudaPlan* plan = Compile(*engine, Options(2));
  emulated::FailDevice(3, cudaErrorIllegalAddress);
  try {
    plan->Forward(samples.lane(), 0);
    plan->Loss(samples.lane(), 2);
    FAIL() << "the fault was not seen";
  } catch (const Failure& failure) {
    EXPECT_NE(std::string(failure.what()).find("illegal memory access"), std::string::npos) << failure.what();
  }
}

// Between any two pieces of choosing algorithms a stop is heard; what was built until then is given back, and the engine lives on.
TEST_F(EngineFaults, AStopWhileAlgorithmsAreChosenEndsThePlanAndNotTheEngine) {
  RecordedChoices first;
  test::WatchDouble whole;
  {
    auto engine = MakeCudaEngine(Small(), {.threads = 1, .crop = kCrop, .choices = &first, .watch = &whole});
    Compile(*engine, Options(2));
  }
  EXPECT_THAT(whole.begun, testing::ElementsAre("choosing algorithms"));
  EXPECT_EQ(whole.last_pieces, "layers");
  EXPECT_EQ(whole.done, whole.last_all) << "all layers";
  EXPECT_EQ(whole.ended, 1);
  EXPECT_GT(whole.questions, 100) << "also between the candidates of a pass";
  for (const int asked : {0, 7, whole.questions / 2, whole.questions - 1}) {
    RecordedChoices choices;
    test::WatchDouble watch(asked);
    auto engine = MakeCudaEngine(Small(), {.threads = 1, .crop = kCrop, .choices = &choices, .watch = &watch});
    const auto refused = engine->Compile(Options(2));
    ASSERT_FALSE(refused.has_value()) << asked;
    EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
    EXPECT_THAT(refused.error().message, testing::HasSubstr("choosing algorithms was given up: this process was asked to stop"));
    EXPECT_EQ(watch.questions, asked + 1) << "nothing goes on behind it";
    EXPECT_EQ(watch.ended, 1);
    Compile(*engine, Options(2));
  }
}

}  // namespace
}  // namespace plateau::cuda
