// Snapshots: what is written later is what the parameters were, in canonical form.
#include "worker/train/snapshot.h"

#include <gtest/gtest.h>

#include "common/random.h"
#include "common/safetensors.h"
#include "tests/support/temp_folder.h"
#include "worker/nn/plan.h"

namespace plateau {
namespace {

// Weights and momenta of a real engine, whose native layouts are blocked and padded.
std::unique_ptr<Engine> MakeEngine() {
  auto network = MakeNetwork("vgg-a", {.width = 0.3, .classes = 7});
  EXPECT_TRUE(network);
  auto engine = CreateCpuEngine(std::move(*network), {.threads = 2, .crop = 64});
  EXPECT_TRUE(engine);
  EXPECT_TRUE((*engine)->Compile({.batch = 2, .height = 64, .width = 64, .training = true}));
  ParameterStore& store = (*engine)->parameters();
  for (int p = 0; p < store.count(); ++p) {
    RandomStream random(3, RandomPurpose::kInit, 0, static_cast<uint64_t>(p));
    std::vector<float> canonical(static_cast<size_t>(store.info(p).CanonicalCount()));
    for (const auto native : {store.weight(p), store.momentum(p)}) {
      for (float& value : canonical) value = static_cast<float>(random.NextNormal());
      store.FromCanonical(p, canonical, native);
    }
  }
  return std::move(*engine);
}

class Snapshot : public ::testing::Test {
 protected:
  std::string Written(const ParameterSnapshot& snapshot, ParameterSnapshot::Values values) {
    const std::string path = folder_.path() + "/file";
    auto file = files_.Create(path);
    EXPECT_TRUE(file);
    EXPECT_TRUE(snapshot.Write(**file, values, {{"format", "x"}}));
    EXPECT_TRUE((*file)->Close());
    return *files_.Read(path);
  }
  // The form that another path of the code gives: whole tensors, converted by the store.
  std::string Expected(ParameterStore& store, bool momentum) {
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (int p = 0; p < store.count(); ++p) {
      auto& canonical = values.emplace_back(static_cast<size_t>(store.info(p).CanonicalCount()));
      store.ToCanonical(p, momentum ? store.momentum(p) : store.weight(p), canonical);
      tensors.push_back({store.info(p).name,
                         {TensorType::kF32,
                          store.info(p).shape,
                          {reinterpret_cast<const char*>(canonical.data()), canonical.size() * sizeof(float)}}});
    }
    const std::string path = folder_.path() + "/expected";
    auto file = files_.Create(path);
    EXPECT_TRUE(file);
    EXPECT_TRUE(WriteSafetensors(**file, tensors, {{"format", "x"}}));
    EXPECT_TRUE((*file)->Close());
    return *files_.Read(path);
  }
  PosixFileSystem files_;
  test::TempFolder folder_;
};

TEST_F(Snapshot, LaterUpdatesDoNotShowAndTheBytesAreThoseOfWholeTensors) {
  const auto engine = MakeEngine();
  ParameterStore& store = engine->parameters();
  const std::string weights = Expected(store, false), momenta = Expected(store, true);
  ParameterSnapshot snapshot(store, 2);
  snapshot.Take();
  for (int p = 0; p < store.count(); ++p)
    for (const auto values : {store.weight(p), store.momentum(p)}) std::fill(values.begin(), values.end(), -1.0F);
  EXPECT_TRUE(Written(snapshot, ParameterSnapshot::Values::kWeights) == weights);
  EXPECT_TRUE(Written(snapshot, ParameterSnapshot::Values::kMomenta) == momenta);
  snapshot.Take();  // its memory is used again
  EXPECT_TRUE(Written(snapshot, ParameterSnapshot::Values::kWeights) == Expected(store, false));
}

}  // namespace
}  // namespace plateau
