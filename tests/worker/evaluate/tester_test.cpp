// Dense and multi-crop posteriors against naive double loops: the head slid over a feature map, fifty explicit crops.
#include "worker/evaluate/tester.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <tuple>

#include <gtest/gtest.h>

#include "common/random.h"
#include "dataset/test_image.h"
#include "worker/evaluate/dense_network.h"
#include "worker/nn/init.h"
#include "worker/nn/reference.h"

namespace plateau {
namespace {

using reference::Map;
constexpr int kCrop = 64, kClasses = 6;  // fc6 of a VGG sees a map of 2x2: sliding it is no 1x1 matter

using Tensors = std::map<std::string, std::vector<float>>;  // canonical

Tensors MakeTensors(Engine& engine) {
  ParameterStore& store = engine.parameters();
  InitParameters(store, InitScheme{}, 5);
  Tensors tensors;
  for (int p = 0; p < store.count(); ++p) {
    std::vector<float> values(static_cast<size_t>(store.info(p).CanonicalCount()));
    store.ToCanonical(p, store.weight(p), values);
    if (store.info(p).role == ParameterRole::kBias)
      for (size_t i = 0; i < values.size(); ++i) values[i] = 0.05F * static_cast<float>(static_cast<int>(i % 7) - 3);
    tensors[store.info(p).name] = values;
  }
  return tensors;
}

void Load(Engine& engine, const Tensors& tensors) {
  ParameterStore& store = engine.parameters();
  for (int p = 0; p < store.count(); ++p) store.FromCanonical(p, tensors.at(store.info(p).name), store.weight(p));
  store.WeightsChanged();
}

class TesterOnVgg : public ::testing::Test {
 protected:
  TesterOnVgg() {
    network_ = *MakeNetwork("vgg-a", {.width = 0.03, .classes = kClasses});
    crops_ = *CreateCpuEngine(network_, {.threads = 1, .crop = kCrop});
    auto dense = CreateCpuEngine(*MakeDense(network_, kCrop), {.threads = 1, .crop = kCrop});
    EXPECT_TRUE(dense) << dense.error().message;
    dense_ = std::move(*dense);
    tensors_ = MakeTensors(*crops_);
    Load(*crops_, tensors_);
    Load(*dense_, tensors_);
  }

  // A group of random images of these scaled sizes.
  LoadedGroup MakeGroup(int images, std::vector<ImageSize> scaled) {
    group_ = {.scaled = std::move(scaled)};
    LoadedGroup loaded{.group = &group_};
    RandomStream random(17, RandomPurpose::kSynthetic, 0, 0);
    for (int i = 0; i < images; ++i) {
      group_.images.push_back(i);
      for (const ImageSize& size : group_.scaled) {
        auto& map = loaded.maps.emplace_back(static_cast<size_t>(3) * size.height * size.width);
        for (float& value : map) value = static_cast<float>(random.NextNormal());
      }
    }
    return loaded;
  }

  std::vector<float> Run(const LoadedGroup& loaded, EvaluationMode mode, bool flip, int batch = 32) {
    TestSettings settings{.mode = mode, .flip = flip, .batch = batch};
    for (const ImageSize& size : loaded.group->scaled) settings.scales.push_back(std::min(size.width, size.height));
    Tester tester({crops_.get(), dense_.get()}, settings, kCrop, 3, kClasses);
    const auto posteriors = tester.Run(loaded);
    return {posteriors.begin(), posteriors.end()};
  }

  std::vector<double> Values(const std::string& name) const {
    const auto& values = tensors_.at(name);
    return {values.begin(), values.end()};
  }
  Map Weight(const std::string& layer, int in_channels, int kernel) const {
    const auto values = Values(layer + ".weight");
    Map map(static_cast<int>(values.size()) / (in_channels * kernel * kernel), in_channels, kernel, kernel);
    map.values = values;
    return map;
  }
  // Scores at every place of the head over the whole image's feature map, averaged.
  std::vector<double> SlidingScores(const Map& image) const {
    Map x = image;
    size_t layer = 0;
    for (; network_.layers[layer].kind != LayerKind::kFullyConnected; ++layer) {
      const LayerDef& def = network_.layers[layer];
      const reference::Window window{def.kernel, def.stride, def.pad};
      if (def.kind == LayerKind::kMaxPool) {
        x = reference::PoolForward(x, window);
        continue;
      }
      x = reference::ConvForward(x, Weight(def.name, x.c, def.kernel), Values(def.name + ".bias"), window);
      reference::Relu(x);
    }
    constexpr int kMap = kCrop / 32;
    std::vector<double> mean(kClasses);
    const int places = (x.h - kMap + 1) * (x.w - kMap + 1);
    EXPECT_GT(places, 0);
    for (int top = 0; top + kMap <= x.h; ++top) {
      for (int left = 0; left + kMap <= x.w; ++left) {
        Map part(1, x.c, kMap, kMap);
        for (int c = 0; c < x.c; ++c)
          for (int y = 0; y < kMap; ++y)
            for (int z = 0; z < kMap; ++z) part.at(0, c, y, z) = x.at(0, c, top + y, left + z);
        for (size_t head = layer; head < network_.layers.size(); ++head) {
          const LayerDef& def = network_.layers[head];
          const int inputs = part.c * part.h * part.w;
          part = reference::FcForward(part, Weight(def.name, inputs, 1), Values(def.name + ".bias"));
          if (def.relu) reference::Relu(part);
        }
        for (int c = 0; c < kClasses; ++c) mean[static_cast<size_t>(c)] += part.at(0, c, 0, 0) / places;
      }
    }
    return mean;
  }

  Network network_;
  std::unique_ptr<Engine> crops_, dense_;
  Tensors tensors_;
  ImageGroup group_;
};

void AddNaiveSoftmax(const std::vector<double>& scores, double weight, std::vector<double>& sum) {
  double total = 0;
  for (const double score : scores) total += std::exp(score);
  for (size_t c = 0; c < scores.size(); ++c) sum[c] += weight * std::exp(scores[c]) / total;
}

// Window of a [3, height, width] map, mirrored or not.
Map Cut(const std::vector<float>& map, const ImageSize& size, const Rectangle& window, bool mirrored) {
  Map out(1, 3, window.height, window.width);
  for (int c = 0; c < 3; ++c)
    for (int y = 0; y < window.height; ++y)
      for (int x = 0; x < window.width; ++x) {
        const int from = mirrored ? window.width - 1 - x : x;
        out.at(0, c, y, x) = double{map[static_cast<size_t>((c * size.height + window.top + y) * size.width + window.left + from)]};
      }
  return out;
}

void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], tolerance) << i;
}
std::vector<double> Doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

TEST_F(TesterOnVgg, DenseIsTheHeadSlidOverTheWholeImagesFeatureMap) {
  const LoadedGroup loaded = MakeGroup(2, {{131, 96}, {100, 74}});
  std::vector<double> expected;
  for (size_t image = 0; image < 2; ++image) {
    std::vector<double> sum(kClasses);
    for (size_t scale = 0; scale < 2; ++scale) {
      const ImageSize size = group_.scaled[scale];
      for (const bool mirrored : {false, true}) {
        const Map view = Cut(loaded.maps[image * 2 + scale], size, {0, 0, size.width, size.height}, mirrored);
        AddNaiveSoftmax(SlidingScores(view), 0.25, sum);
      }
    }
    expected.insert(expected.end(), sum.begin(), sum.end());
  }
  const auto actual = Run(loaded, EvaluationMode::kDense, true);
  ExpectNear(actual, expected, 2e-5);
  double spread = 0;
  for (int c = 0; c < kClasses; ++c) spread = std::max(spread, std::abs(expected[static_cast<size_t>(c)] - 1.0 / kClasses));
  EXPECT_GT(spread, 0.01) << "the posterior must say something, or nothing was compared";
}

TEST_F(TesterOnVgg, AnImageOfTheCropsSizeIsItsCentreCrop) {
  const LoadedGroup loaded = MakeGroup(3, {{kCrop, kCrop}});
  for (const bool flip : {false, true}) {
    const auto dense = Run(loaded, EvaluationMode::kDense, flip);
    ExpectNear(dense, Doubles(Run(loaded, EvaluationMode::kCenter, flip)), 1e-5);
    ExpectNear(dense, Doubles(Run(loaded, EvaluationMode::kMultiCrop, flip)), 1e-5);
  }
}

TEST_F(TesterOnVgg, MultiCropIsTheMeanOfFiftyExplicitCrops) {
  const LoadedGroup loaded = MakeGroup(1, {{91, 70}});
  std::vector<double> expected(kClasses);
  int views = 0;
  for (int row = 0; row < 5; ++row)
    for (int column = 0; column < 5; ++column)
      for (const bool mirrored : {false, true}) {
        // A regular grid from corner to corner: spare pixels 27 and 6, in four steps.
        const int left = static_cast<int>(std::floor(27 * column / 4.0 + 0.5)),
                  top = static_cast<int>(std::floor(6 * row / 4.0 + 0.5));
        AddNaiveSoftmax(SlidingScores(Cut(loaded.maps[0], {91, 70}, {left, top, kCrop, kCrop}, mirrored)), 1.0 / 50, expected);
        ++views;
      }
  ASSERT_EQ(views, 50);
  ExpectNear(Run(loaded, EvaluationMode::kMultiCrop, true), expected, 2e-5);
}

TEST_F(TesterOnVgg, BothIsTheMeanOfDenseAndMultiCrop) {
  const LoadedGroup loaded = MakeGroup(2, {{80, 70}, {96, 84}});
  const auto dense = Run(loaded, EvaluationMode::kDense, true), crops = Run(loaded, EvaluationMode::kMultiCrop, true);
  std::vector<double> mean(dense.size());
  for (size_t i = 0; i < mean.size(); ++i) mean[i] = (double{dense[i]} + crops[i]) / 2;
  ExpectNear(Run(loaded, EvaluationMode::kBoth, true), mean, 1e-6);
}

TEST_F(TesterOnVgg, AnyBatchGivesTheSamePosteriors) {
  const LoadedGroup loaded = MakeGroup(5, {{86, 70}});
  for (const EvaluationMode mode : {EvaluationMode::kDense, EvaluationMode::kMultiCrop}) {
    const auto expected = Doubles(Run(loaded, mode, true, 32));
    for (const int batch : {1, 3, 7, 64}) ExpectNear(Run(loaded, mode, true, batch), expected, 1e-5);
  }
}

TEST_F(TesterOnVgg, PosteriorsAreDistributions) {
  const LoadedGroup loaded = MakeGroup(4, {{kCrop, kCrop}, {kCrop, kCrop}});
  const auto posteriors = Run(loaded, EvaluationMode::kCenter, true, 3);
  for (int image = 0; image < 4; ++image) {
    double sum = 0;
    for (int c = 0; c < kClasses; ++c) sum += posteriors[static_cast<size_t>(image * kClasses + c)];
    EXPECT_NEAR(sum, 1, 1e-5);
  }
}

// Notes what it is asked to compile.
class NotedEngine final : public Engine {
 public:
  explicit NotedEngine(Engine& engine) : engine_(engine) {}
  const Network& network() const override { return engine_.network(); }
  ParameterStore& parameters() override { return engine_.parameters(); }
  Result<Plan*> Compile(const PlanOptions& options) override {
    asked.push_back(options);
    return engine_.Compile(options);
  }
  std::string description() const override { return engine_.description(); }
  std::vector<PlanOptions> asked;

 private:
  Engine& engine_;
};

// On devices rank 0 compiles what PassesOf names, and the other ranks find nothing else.
TEST_F(TesterOnVgg, PassesAreWhatIsCompiled) {
  const LoadedGroup loaded = MakeGroup(3, {{96, 74}, {131, 96}});
  for (const EvaluationMode mode :
       {EvaluationMode::kDense, EvaluationMode::kMultiCrop, EvaluationMode::kBoth, EvaluationMode::kCenter})
    for (const int batch : {4, 32}) {
      const TestSettings settings{.scales = {74, 96}, .mode = mode, .flip = true, .batch = batch};
      NotedEngine crops(*crops_), dense(*dense_);
      const TestEngines engines{&crops, &dense};
      Tester(engines, settings, kCrop, 3, kClasses).Run(loaded);
      std::vector<PlanOptions> of_crops, of_dense;
      for (const TestPass& pass : PassesOf(engines, settings, kCrop, group_))
        (pass.engine == &crops ? of_crops : of_dense).push_back(pass.options);
      const auto expect_same = [](const std::vector<PlanOptions>& named, const std::vector<PlanOptions>& compiled) {
        ASSERT_EQ(named.size(), compiled.size());
        for (size_t i = 0; i < named.size(); ++i) {
          EXPECT_EQ(named[i].batch, compiled[i].batch);
          EXPECT_EQ(named[i].height, compiled[i].height);
          EXPECT_EQ(named[i].width, compiled[i].width);
          EXPECT_EQ(named[i].training, compiled[i].training);
        }
      };
      expect_same(of_crops, crops.asked);
      expect_same(of_dense, dense.asked);
      EXPECT_GT(crops.asked.size() + dense.asked.size(), 0u);
    }
}

// Makes values of bytes as a device does, and lets the CPU compute.
class PixelPlan final : public Plan {
 public:
  explicit PixelPlan(Plan& plan) : plan_(plan) {}
  const PlanOptions& options() const override { return plan_.options(); }
  void Forward(const LaneBatch& lane, uint64_t step) override {
    EXPECT_TRUE(lane.images.empty());
    const auto rows = static_cast<size_t>(options().batch), width = static_cast<size_t>(options().width);
    ASSERT_EQ(lane.scales.size(), rows);
    std::vector<float> images(lane.pixels.size());
    const size_t image = images.size() / rows, plane = static_cast<size_t>(options().height) * width;
    for (size_t i = 0; i < images.size(); ++i) {
      const PixelScale& scale = lane.scales[i / image];
      const size_t channel = i % image / plane, column = i % width, from = scale.flip != 0 ? i - column + width - 1 - column : i;
      images[i] = static_cast<float>(lane.pixels[from]) * scale.gain[channel] + scale.offset[channel];
    }
    plan_.Forward({images, lane.labels, lane.weights, lane.sample_index}, step);
  }
  LossSums Loss(const LaneBatch& lane, int global_batch) override { return plan_.Loss(lane, global_batch); }
  const std::vector<int>& backward_layers() const override { return plan_.backward_layers(); }
  void BackwardData(int layer) override { plan_.BackwardData(layer); }
  void BackwardWeights(int layer) override { plan_.BackwardWeights(layer); }
  bool HiddenFinite() const override { return plan_.HiddenFinite(); }
  std::span<const float> logits() const override { return plan_.logits(); }
  std::string FirstNonFiniteLayer(const LaneBatch& lane, uint64_t step) override { return plan_.FirstNonFiniteLayer(lane, step); }
  std::span<const double> forward_seconds() const override { return plan_.forward_seconds(); }
  std::vector<std::string> algorithms() const override { return plan_.algorithms(); }

 private:
  Plan& plan_;
};

class PixelEngine final : public Engine {
 public:
  explicit PixelEngine(Engine& engine) : engine_(engine) {}
  const Network& network() const override { return engine_.network(); }
  ParameterStore& parameters() override { return engine_.parameters(); }
  Result<Plan*> Compile(const PlanOptions& options) override {
    PLATEAU_ASSIGN(Plan * plan, engine_.Compile(options));
    return plans_.emplace_back(std::make_unique<PixelPlan>(*plan)).get();
  }
  std::string description() const override { return engine_.description(); }
  bool takes_pixels() const override { return true; }

 private:
  Engine& engine_;
  std::vector<std::unique_ptr<PixelPlan>> plans_;
};

TEST_F(TesterOnVgg, GroupsOfBytesGiveTheBitsOfTheirValuesInEveryMode) {
  LoadedGroup values = MakeGroup(3, {{96, 74}, {131, 96}});
  LoadedGroup bytes{.group = &group_, .scale = {.gain = {0.02F, 0.017F, 0.023F}, .offset = {-2.1F, -1.9F, -2.3F}}};
  RandomStream random(29, RandomPurpose::kSynthetic, 0, 0);
  for (std::vector<float>& map : values.maps) {
    auto& pixels = bytes.pixels.emplace_back(map.size());
    for (size_t i = 0; i < map.size(); ++i) {
      const size_t channel = i / (map.size() / 3);
      pixels[i] = static_cast<uint8_t>(random.NextBelow(256));
      map[i] = static_cast<float>(pixels[i]) * bytes.scale.gain[channel] + bytes.scale.offset[channel];
    }
  }
  PixelEngine crops(*crops_), dense(*dense_);
  for (const EvaluationMode mode : {EvaluationMode::kDense, EvaluationMode::kMultiCrop, EvaluationMode::kBoth}) {
    const TestSettings settings{.scales = {74, 96}, .mode = mode, .flip = true, .batch = 7};
    Tester tester({&crops, &dense}, settings, kCrop, 3, kClasses);
    const auto posteriors = tester.Run(bytes);
    EXPECT_EQ(std::vector<float>(posteriors.begin(), posteriors.end()), Run(values, mode, true, 7));
  }
}

TEST_F(TesterOnVgg, AStopIsSeenBeforeTheNextPass) {
  const LoadedGroup loaded = MakeGroup(4, {{kCrop, kCrop}});
  int asked = 0;
  const TestSettings settings{.scales = {kCrop}, .mode = EvaluationMode::kCenter, .batch = 1};
  Tester tester({crops_.get(), nullptr}, settings, kCrop, 3, kClasses, [&asked] { return ++asked > 2; });
  EXPECT_TRUE(tester.Run(loaded).empty());
  EXPECT_LE(asked, 4) << "two passes of four ran";
}

TEST_F(TesterOnVgg, ScoresThatAreNotFiniteAreNamed) {
  LoadedGroup loaded = MakeGroup(2, {{kCrop, kCrop}});
  auto tensors = tensors_;
  tensors["fc8.bias"][2] = std::nanf("");
  Load(*crops_, tensors);
  try {
    Run(loaded, EvaluationMode::kCenter, false);
    FAIL() << "no fault";
  } catch (const Failure& fault) {
    EXPECT_EQ(fault.code(), ErrorCode::kNumeric);
    EXPECT_NE(std::string(fault.what()).find("image 0"), std::string::npos) << fault.what();
  }
}

// Inception and residual networks end in a global pool: the naive network runs over the whole image as it is.
TEST(TesterOnPooledNetworks, DenseIsTheNetworkOnTheWholeImage) {
  for (const auto& [name, crop, size] :
       {std::tuple{"resnet-18", 64, ImageSize{99, 70}}, std::tuple{"googlenet", 64, ImageSize{70, 97}}}) {
    const Network network = WithoutAuxiliary(*MakeNetwork(name, {.width = 0.03, .classes = kClasses}));
    const auto engine = *CreateCpuEngine(*MakeDense(network, crop), {.threads = 1, .crop = crop});
    Tensors tensors = MakeTensors(*engine);
    std::vector<std::vector<double>> parameters;
    for (int p = 0; p < engine->parameters().count(); ++p) {
      const ParameterInfo& info = engine->parameters().info(p);
      auto& values = tensors.at(info.name);
      for (size_t i = 0; i < values.size() && !info.learned(); ++i) values[i] += 0.1F * static_cast<float>(i % 5);
      parameters.emplace_back(values.begin(), values.end());
    }
    Load(*engine, tensors);

    const ImageGroup group{.images = {0}, .scaled = {size}};
    LoadedGroup loaded{.group = &group};
    RandomStream random(23, RandomPurpose::kSynthetic, 0, 0);
    auto& map = loaded.maps.emplace_back(static_cast<size_t>(3) * size.height * size.width);
    for (float& value : map) value = static_cast<float>(random.NextNormal());
    const std::vector<int32_t> label{0};
    const std::vector<float> weight{1};
    const std::vector<uint64_t> index{0};
    std::vector<double> expected(kClasses);
    for (const bool mirrored : {false, true}) {
      const Map view = Cut(map, size, {0, 0, size.width, size.height}, mirrored);
      const std::vector<float> images(view.values.begin(), view.values.end());
      const auto naive =
          reference::RunNetwork(network, parameters, {images, label, weight, index}, size.height, size.width, 1, false, 1, 0);
      AddNaiveSoftmax(naive.logits.values, 0.5, expected);
    }
    const TestSettings settings{.scales = {std::min(size.width, size.height)}, .mode = EvaluationMode::kDense, .flip = true};
    Tester tester({nullptr, engine.get()}, settings, crop, 3, kClasses);
    const auto posteriors = tester.Run(loaded);
    ExpectNear({posteriors.begin(), posteriors.end()}, expected, 2e-5);
  }
}

TEST(MostRows, MemoryBoundsLargeImages) {
  const Network network = *MakeNetwork("vgg-d", {});
  EXPECT_EQ(MostRows(network, 224, 224, 16), 16);
  const int rows = MostRows(*MakeDense(network, 224), 512, 683, 256);
  EXPECT_GE(rows, 1);
  EXPECT_LE(2 * int64_t{64} * 512 * 683 * 4 * rows, kPassBytes) << "conv1_1 and conv1_2 are the largest neighbours";
  EXPECT_EQ(MostRows(*MakeDense(network, 224), 2048, 2048, 256), 1) << "one image always passes";
}

}  // namespace
}  // namespace plateau
