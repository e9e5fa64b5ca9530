// The networks of the table on the CPU engine, narrow and on small crops, against the naive loops. The deeper residual networks are held
// against PyTorch (tests/torch): one ReLU that rounding turns moves their gradients by percents here.
#include "tests/worker/backend/dag_fixture.h"

namespace plateau {
namespace {

constexpr int kBatch = 3;

class PaperNetwork : public testing::TestWithParam<std::string> {
 protected:
  // The smallest crops that leave something for the last layers.
  static int Crop(const std::string& name) {
    if (name == "lenet") return 28;
    if (name == "googlenet") return 80;
    return name == "alexnet" || name == "zfnet" ? 64 : 32;
  }
  static Network Make(const std::string& name) {
    NetworkOptions options = PaperOptions(name);
    options.classes = 7;
    if (name != "lenet") options.width = 0.02;  // sixteen channels nearly everywhere
    return *MakeNetwork(name, options);
  }
};

TEST_P(PaperNetwork, LogitsLossAndEveryGradientEqualTheNaiveLoops) {
  const Network network = Make(GetParam());
  const int crop = Crop(GetParam());
  auto engine = MakeEngine(network, {.threads = 1, .seed = 5, .crop = crop, .convolution = ConvAlgorithm::kDirect});
  const Samples samples = MakeSamples(kBatch, crop, 7, 7, network.channels);
  const StepResult ours = RunStep(*engine, samples.lane(), crop, kBatch);
  const auto right =
      reference::RunNetwork(network, DoubleParameters(engine->parameters()), samples.lane(), crop, crop, kBatch, true, 5, 3);
  EXPECT_LT(RelativeError(ours.logits, right.logits.values), 1e-4);
  EXPECT_NEAR(ours.loss.loss, right.loss, 1e-4 * right.loss);
  ASSERT_EQ(ours.gradients.size(), right.gradients.size());
  double whole = 0;
  for (const auto& gradient : right.gradients)
    for (const double g : gradient) whole += g * g;
  for (size_t p = 0; p < right.gradients.size(); ++p) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < right.gradients[p].size(); ++i) {
      difference += std::pow(ours.gradients[p][i] - right.gradients[p][i], 2);
      size += std::pow(right.gradients[p][i], 2);
    }
    // Biases before batch norm have gradients of nothing but rounding: they are held to the whole gradient's size.
    EXPECT_LT(std::sqrt(difference), 1e-3 * std::sqrt(size) + 1e-6 * std::sqrt(whole))
        << engine->parameters().info(static_cast<int>(p)).name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, PaperNetwork,
                         testing::Values("vgg-a", "vgg-a-lrn", "vgg-b", "vgg-c", "vgg-d", "vgg-e", "vgg-a-bn", "vgg-b-bn", "lenet",
                                         "alexnet", "zfnet", "googlenet", "resnet-18"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace plateau
