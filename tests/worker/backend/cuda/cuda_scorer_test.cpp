// Validation behind the host: the sums of plans that the host drives, batch for batch.
#include "tests/worker/backend/cuda/cuda_fixture.h"
#include "worker/nn/scorer.h"

namespace plateau::cuda {
namespace {

constexpr int kCrop = 32, kClasses = 7, kRows = 5;

class CudaScorerTest : public DeviceTest {
 protected:
  std::unique_ptr<Engine> Make(int channels, Precision precision = Precision::kFp32) {
    const Network network = *MakeNetwork("vgg-a", {.width = 0.0625, .classes = kClasses, .channels = channels});
    return MakeCudaEngine(network, {.threads = 2, .seed = 5, .crop = kCrop, .precision = precision});
  }
  CudaPlan* Evaluation(Engine& engine) {
    return Compile(engine, {.batch = kRows, .height = kCrop, .width = kCrop, .training = false});
  }
  // Another one each, some with padding.
  static Samples Batch(int number, int channels) {
    Samples samples = MakePixelSamples(kRows, kCrop, kClasses, 40 + static_cast<uint64_t>(number), channels);
    for (int row = kRows - number % 3; row < kRows; ++row) samples.weights[static_cast<size_t>(row)] = 0;
    return samples;
  }
};

void ExpectSame(const LossSums& got, const LossSums& right, int batch) {
  EXPECT_EQ(got.loss, right.loss) << "batch " << batch;
  EXPECT_EQ(got.images, right.images) << "batch " << batch;
  EXPECT_EQ(got.top1_correct, right.top1_correct) << "batch " << batch;
  EXPECT_EQ(got.top5_correct, right.top5_correct) << "batch " << batch;
}

TEST_F(CudaScorerTest, EachBatchHasTheSumsOfAPlanThatTheHostDrives) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16})
    for (const auto& [channels, pixels] : {std::pair{3, true}, {3, false}, {1, true}, {4, false}}) {
      auto engine = Make(channels, precision);
      CudaPlan* plan = Evaluation(*engine);
      const auto batch = [&](int number) {
        if (pixels) return Batch(number, channels);
        Samples samples = MakeSamples(kRows, kCrop, kClasses, 40 + static_cast<uint64_t>(number), channels);
        samples.weights[0] = number % 2 == 0 ? 0.0F : 1.0F;
        return samples;
      };
      const auto lane = [&](const Samples& samples) { return pixels ? samples.pixel_lane() : samples.lane(); };
      auto scorer = engine->CreateScorer(*plan, pixels);
      ASSERT_TRUE(scorer.has_value()) << scorer.error().message;
      EXPECT_EQ((*scorer)->depth(), 1);
      std::vector<LossSums> got, right;
      for (int number = 0; number < 6; ++number) {
        Samples samples = batch(number);
        (*scorer)->Enqueue(lane(samples));
        // Its spans are read: the loader may fill them again.
        std::ranges::fill(samples.images, NAN);
        std::ranges::fill(samples.pixels, uint8_t{0});
        std::ranges::fill(samples.labels, 0);
        if (number > 0) got.push_back((*scorer)->Settle());
      }
      got.push_back((*scorer)->Settle());
      for (int number = 0; number < 6; ++number) {
        const Samples samples = batch(number);
        plan->Forward(lane(samples), 0);
        ExpectSame(got[static_cast<size_t>(number)], plan->Loss(lane(samples), 1), number);
      }
    }
}

// A pass between training steps finds the buffers that the engine's other plans share taken, also where a larger plan moved them.
TEST_F(CudaScorerTest, OtherPlansMayRunBetweenItsBatches) {
  auto engine = Make(3);
  CudaPlan* plan = Evaluation(*engine);
  auto scorer = std::move(*engine->CreateScorer(*plan, true));
  const Samples samples = Batch(1, 3);
  const auto score = [&] {
    scorer->Enqueue(samples.pixel_lane());
    return scorer->Settle();
  };
  const LossSums before = score();
  RunStep(*engine, MakeSamples(3 * kRows, kCrop, kClasses).lane(), kCrop, 15);
  ExpectSame(score(), before, 1);
}

TEST_F(CudaScorerTest, ALabelThatNoClassHasIsRefused) {
  auto engine = Make(3);
  auto scorer = std::move(*engine->CreateScorer(*Evaluation(*engine), true));
  Samples samples = Batch(0, 3);
  samples.labels[1] = kClasses;
  EXPECT_THROW(scorer->Enqueue(samples.pixel_lane()), Failure);
  samples.labels[1] = 0;
  scorer->Enqueue(samples.pixel_lane());
  EXPECT_EQ(scorer->Settle().images, kRows);
}

// A fault above leaves a batch unsettled: memory goes only behind the device's work.
TEST_F(CudaScorerTest, MayGoWithABatchUnsettled) {
  auto engine = Make(3);
  auto scorer = std::move(*engine->CreateScorer(*Evaluation(*engine), true));
  scorer->Enqueue(Batch(0, 3).pixel_lane());
}

}  // namespace
}  // namespace plateau::cuda
