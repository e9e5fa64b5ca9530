// Parameters on the device and their copies on the host: layouts, the way there and back, and what is zero stays zero.
#include <bit>
#include <set>

#include "tests/worker/backend/cuda/cuda_fixture.h"
#include "worker/backend/cuda/kernels/kernels.h"

namespace plateau::cuda {
namespace {

constexpr int kClasses = 7;

class CudaParameters : public DeviceTest {
 protected:
  static std::unique_ptr<Engine> Make(const Network& network, int crop, Precision precision = Precision::kFp32) {
    return MakeCudaEngine(network, {.threads = 2, .seed = 3, .crop = crop, .precision = precision});
  }
  static CudaParameterStore& Store(Engine& engine) { return static_cast<CudaParameterStore&>(engine.parameters()); }
};

TEST_F(CudaParameters, EveryOneComesBackFromItsNativeLayoutWholeAndByRows) {
  for (const auto& [network, crop] : {std::pair{OddNetwork(kClasses), 28}, std::pair{InceptionNetwork(kClasses), 32},
                                      std::pair{ResidualNetwork(kClasses), 32}, std::pair{DirectNetwork(kClasses), 12}}) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      auto engine = Make(network, crop, precision);
      ParameterStore& store = engine->parameters();
      for (int p = 0; p < store.count(); ++p) {
        const auto count = static_cast<size_t>(store.info(p).CanonicalCount());
        std::vector<float> canonical(count), native(store.weight(p).size(), -1.0F), back(count);
        for (size_t i = 0; i < count; ++i) canonical[i] = static_cast<float>(i + 1);
        store.FromCanonical(p, canonical, native);
        store.ToCanonical(p, native, back);
        EXPECT_EQ(back, canonical) << store.info(p).name;
        EXPECT_EQ(std::count(native.begin(), native.end(), 0.0F), static_cast<int64_t>(native.size() - count)) << "padding is zero";
        const auto row = count / static_cast<size_t>(store.info(p).shape[0]);
        if (store.info(p).shape[0] < 3) continue;
        std::vector<float> rows(2 * row);
        store.RowsToCanonical(p, native, 1, rows);
        EXPECT_TRUE(std::equal(rows.begin(), rows.end(), canonical.begin() + static_cast<int64_t>(row)));
      }
    }
  }
}

TEST_F(CudaParameters, LieInBackwardOrderApartByMultiplesOf64) {
  auto engine = Make(ResidualNetwork(kClasses), 32);
  const CudaParameterStore& store = Store(*engine);
  int64_t end = 0;
  int layer = store.info(store.count() - 1).layer;
  std::set<int> seen;
  for (const int parameter : store.order()) {
    EXPECT_EQ(store.layout(parameter).begin % 64, 0);
    EXPECT_GE(store.layout(parameter).begin, end);
    EXPECT_LT(store.layout(parameter).begin, end + 64);
    EXPECT_LE(store.info(parameter).layer, layer);
    layer = store.info(parameter).layer;
    end = store.layout(parameter).begin + store.layout(parameter).count();
    seen.insert(parameter);
  }
  EXPECT_LE(end, store.total());
  EXPECT_EQ(static_cast<int>(seen.size()), store.count());
}

TEST_F(CudaParameters, SpansCarryDecayOrTheAveragesShare) {
  auto engine = Make(ResidualNetwork(kClasses), 32);
  const CudaParameterStore& store = Store(*engine);
  for (const bool decay_biases : {true, false}) {
    const auto spans = store.Spans(0.25, decay_biases);
    ASSERT_EQ(static_cast<int>(spans.size()), store.count());
    for (size_t s = 0; s < spans.size(); ++s) {
      const int parameter = store.order()[s];
      const ParameterInfo& info = store.info(parameter);
      EXPECT_EQ(spans[s].begin, store.layout(parameter).begin);
      EXPECT_EQ(spans[s].count, store.layout(parameter).count());
      EXPECT_EQ(spans[s].average_momentum, static_cast<float>(info.average_momentum));
      const bool decays = info.learned() && (decay_biases || info.role == ParameterRole::kWeight);
      EXPECT_EQ(spans[s].weight_decay, decays ? 0.25F : 0.0F) << info.name;
    }
  }
}

TEST_F(CudaParameters, WeightsAndMomentaTravelThereAndBack) {
  auto engine = Make(OddNetwork(kClasses), 28);
  CudaParameterStore& store = Store(*engine);
  store.momentum(1)[2] = 7;  // before there is a training plan, as a resume sets it
  store.weight(0)[3] = 5;
  store.WeightsChanged();
  const Samples samples = MakeSamples(2, 28, kClasses, 7, 1);
  RunStep(*engine, samples.lane(), 28, 2);
  store.momentum(1)[2] = store.weight(0)[3] = -1;
  store.Fetch();
  EXPECT_EQ(store.momentum(1)[2], 7);
  EXPECT_EQ(store.weight(0)[3], 5);
}

TEST_F(CudaParameters, PaddingStaysZeroUnderTraining) {
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    const Network network = TangledNetwork(kClasses);
    auto engine = Make(network, 16, precision);
    ParameterStore& store = engine->parameters();
    const Samples samples = MakeSamples(3, 16, kClasses);
    RunStep(*engine, samples.lane(), 16, 3);
    for (int p = 0; p < store.count(); ++p) {
      const auto gradient = store.gradient(p);
      std::vector<float> canonical(static_cast<size_t>(store.info(p).CanonicalCount())), native(gradient.size());
      store.ToCanonical(p, gradient, canonical);
      store.FromCanonical(p, canonical, native);
      EXPECT_TRUE(std::equal(native.begin(), native.end(), gradient.begin())) << store.info(p).name;
    }
  }
}

TEST_F(CudaParameters, TheBf16CopyIsTheWeightsRoundedToNearest) {
  auto engine = Make(OddNetwork(kClasses), 28, Precision::kBf16);
  CudaParameterStore& store = Store(*engine);
  const CudaPlan* plan = Compile(*engine, {.batch = 1, .height = 28, .width = 28, .training = false});
  std::vector<uint16_t> copy(static_cast<size_t>(store.total()));
  const cudaStream_t stream = plan->libraries().stream().get();
  CopyToHost(copy.data(), store.copy(), copy.size() * 2, stream);
  plan->libraries().stream().Wait();
  for (int p = 0; p < store.count(); ++p) {
    const auto weight = store.weight(p);
    for (size_t i = 0; i < weight.size(); ++i) {
      const uint32_t bits = uint32_t{copy[static_cast<size_t>(store.layout(p).begin) + i]} << 16;
      EXPECT_LE(std::abs(std::bit_cast<float>(bits) - weight[i]), std::abs(weight[i]) / 256) << store.info(p).name << " " << i;
    }
  }
}

}  // namespace
}  // namespace plateau::cuda
