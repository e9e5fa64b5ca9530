// From IDX files to a trained network: a gray store gives networks of one input channel, in whole runs and across a resume.
#include <gmock/gmock.h>

#include "common/random.h"
#include "common/safetensors.h"
#include "dataset/readers/mnist.h"
#include "tests/support/worker_run.h"

namespace plateau {
namespace {

using ::testing::ElementsAre;

std::string BigEndian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

class GrayRun : public test::WorkerRun {
 protected:
  // Images of 28 x 28: label 1 is bright above, label 0 below.
  std::string MakeStore() {
    constexpr uint32_t kImages = 120, kSide = 28;
    std::string images = BigEndian(2051) + BigEndian(kImages) + BigEndian(kSide) + BigEndian(kSide);
    std::string labels = BigEndian(2049) + BigEndian(kImages);
    RandomStream noise(3, RandomPurpose::kSynthetic, 0, 0);
    for (uint32_t image = 0; image < kImages; ++image) {
      labels += static_cast<char>(image % 2);
      for (uint32_t y = 0; y < kSide; ++y)
        for (uint32_t x = 0; x < kSide; ++x)
          images += static_cast<char>(((y < kSide / 2) == (image % 2 == 1) ? 180 : 20) + noise.NextBelow(40));
    }
    std::ofstream(out_ + "/images", std::ios::binary) << images;
    std::ofstream(out_ + "/labels", std::ios::binary) << labels;
    const auto source = OpenMnist({out_ + "/images", out_ + "/labels", "", "", 20, ""});
    EXPECT_TRUE(source) << source.error().message;
    PosixFileSystem files;
    const auto report = Ingest(files, SystemClock(), *source, {.out = out_ + "/gray", .quiet = true});
    EXPECT_TRUE(report) << report.error().message;
    return out_ + "/gray";
  }
};

TEST_F(GrayRun, ANetworkOfOneChannelLearnsAndResumesToTheSameBits) {
  const std::string store = MakeStore();
  const auto steps = [](int count) { return std::vector<std::string>{"--set", fmt::format("training.max_steps={}", count)}; };
  ASSERT_EQ(Run(2, out_ + "/whole", steps(40), store), 0) << last_output_;
  ASSERT_EQ(Run(2, out_ + "/parts", steps(20), store), 0) << last_output_;
  ASSERT_EQ(Run(2, out_ + "/parts", steps(40), store), 0) << last_output_;
  EXPECT_TRUE(Published(out_ + "/whole", "model.safetensors") == Published(out_ + "/parts", "model.safetensors"));

  PosixFileSystem files;
  const auto model = SafetensorsFile::Load(
      files, fmt::format("{}/whole/tiny/{}/model.safetensors", out_, Current(out_ + "/whole").value("path", "absent")));
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_TRUE(model->tensors().contains("conv1_1.weight"));
  EXPECT_THAT(model->tensors().at("conv1_1.weight").shape, ElementsAre(16, 1, 3, 3));

  std::ifstream metrics(out_ + "/whole/tiny/attempt-1/metrics.jsonl");
  double error = 1;
  for (std::string line; std::getline(metrics, line);) {
    const auto point = nlohmann::json::parse(line);
    if (point.contains("top1_error")) error = point.at("top1_error");
  }
  EXPECT_LT(error, 0.2) << "two classes that a single pixel tells apart";
}

}  // namespace
}  // namespace plateau
