// The reducer: right sums over lanes and ranks for any bucket size, the same bits on every rank, totals with the last bucket.
#include "worker/train/reducer.h"

#include <cstring>

#include <gtest/gtest.h>

#include "common/checksum.h"
#include "common/random.h"
#include "tests/support/fake_parameters.h"
#include "tests/support/mpirun.h"
#include "worker/collective/mpi.h"
#include "worker/collective/single.h"

namespace plateau {
namespace {

constexpr int kLayers = 5;
const std::vector<int> kBackward{4, 3, 2, 1, 0};

// Small whole numbers, so that every order of summing gives the same value.
float Gradient(int parameter, size_t index, int rank, int lane) {
  return static_cast<float>((parameter * 31 + static_cast<int>(index) * 7 + rank * 3 + lane * 5) % 64);
}

// One backward pass per lane, as step.cpp makes it.
StepTotals RunStep(ParameterStore& parameters, GradientReducer& reducer, int rank, int lanes, const StepTotals& totals) {
  for (int lane = 0; lane < lanes; ++lane)
    for (const int layer : kBackward) {
      for (int p = 2 * layer; p < 2 * layer + 2; ++p) {
        auto gradient = parameters.gradient(p);
        for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = Gradient(p, i, rank, lane);
      }
      reducer.Push(layer, lane);
    }
  return reducer.Finish(totals);
}

// Empty when every sum is right, else what is wrong.
std::string WrongSum(ParameterStore& parameters, const GradientReducer& reducer, int ranks, int lanes) {
  for (int p = 0; p < parameters.count(); ++p)
    for (size_t i = 0; i < parameters.gradient(p).size(); ++i) {
      float expected = 0;
      for (int rank = 0; rank < ranks; ++rank)
        for (int lane = 0; lane < lanes; ++lane) expected += Gradient(p, i, rank, lane);
      if (reducer.gradient(p)[i] != expected)
        return fmt::format("parameter {} value {}: {} instead of {}", p, i, reducer.gradient(p)[i], expected);
    }
  return "";
}

constexpr size_t kBucketBytes[] = {4, 600, 1300, size_t{1} << 20};

TEST(GradientReducer, LanesAreSummedInOneProcess) {
  SingleCollective world;
  for (const size_t bucket_bytes : kBucketBytes)
    for (const int lanes : {1, 2, 3, 4, 5, 7, 8}) {
      test::FakeParameters parameters(test::ChainInfos(kLayers));
      GradientReducer reducer(parameters, kBackward, lanes, world, {.bucket_bytes = bucket_bytes});
      for (int step = 0; step < 2; ++step) {
        const auto totals = RunStep(parameters, reducer, 0, lanes, {.loss = 1.5, .images = 64, .top1_correct = 7, .stop = 1});
        EXPECT_EQ(WrongSum(parameters, reducer, 1, lanes), "") << "bucket " << bucket_bytes << " lanes " << lanes;
        EXPECT_EQ(totals.loss, 1.5);
        EXPECT_EQ(totals.images, 64);
        EXPECT_EQ(totals.top1_correct, 7);
        EXPECT_EQ(totals.stop, 1);
        EXPECT_EQ(totals.nonfinite, 0);
      }
    }
}

// Two lanes on every rank; one rank says that its loss is not finite.
int SumsOverRanks() {
  auto world = std::move(*StartMpiCollective());
  for (const size_t bucket_bytes : kBucketBytes) {
    test::FakeParameters parameters(test::ChainInfos(kLayers));
    const int lanes = 2;
    GradientReducer reducer(parameters, kBackward, lanes, *world, {.bucket_bytes = bucket_bytes});
    const auto totals = RunStep(parameters, reducer, world->rank(), lanes,
                                {.loss = 0.5, .images = world->rank() + 1, .nonfinite = world->rank() == 1 ? 1 : 0});
    const int ranks = world->world_size();
    const std::string wrong = WrongSum(parameters, reducer, ranks, lanes);
    if (!wrong.empty() || totals.loss != 0.5 * ranks || totals.images != ranks * (ranks + 1) / 2 || totals.nonfinite != 1) {
      std::fprintf(stderr, "rank %d bucket %zu: %s loss %g images %ld\n", world->rank(), bucket_bytes, wrong.c_str(), totals.loss,
                   static_cast<long>(totals.images));
      world->Abort(7);
    }
  }
  world->Finish();
  return 0;
}
const test::RankFunction kSums("sums", SumsOverRanks);

// Gradients whose sum depends on its order: all ranks must still hold the same bits, in every step.
int SameBits() {
  auto world = std::move(*StartMpiCollective());
  test::FakeParameters parameters(test::ChainInfos(kLayers));
  GradientReducer reducer(parameters, kBackward, 1, *world, {.bucket_bytes = 900});
  std::string first;
  for (int step = 0; step < 3; ++step) {
    RandomStream random(1, RandomPurpose::kInit, 0, static_cast<uint64_t>(world->rank()));
    for (const int layer : kBackward) {
      for (int p = 2 * layer; p < 2 * layer + 2; ++p)
        for (float& value : parameters.gradient(p)) value = static_cast<float>(random.NextNormal());
      reducer.Push(layer, 0);
    }
    reducer.Finish({});
    ChecksumStream sum;
    for (int p = 0; p < parameters.count(); ++p) sum.Add(reducer.gradient(p).data(), reducer.gradient(p).size_bytes());
    const std::string text = ChecksumText(sum.Value());
    if (step == 0) first = world->BroadcastText(text, 0);
    if (text != first) world->Abort(7);
  }
  world->Finish();
  return 0;
}
const test::RankFunction kBits("bits", SameBits);
// Checksum of the sums of four lanes, cut over `world`'s ranks in order. Their values show every change of order.
std::string FourLanes(Collective& world) {
  test::FakeParameters parameters(test::ChainInfos(kLayers));
  const int lanes = 4 / world.world_size();
  GradientReducer reducer(parameters, kBackward, lanes, world, {.bucket_bytes = 900});
  for (int lane = 0; lane < lanes; ++lane)
    for (const int layer : kBackward) {
      for (int p = 2 * layer; p < 2 * layer + 2; ++p) {
        RandomStream random(1, RandomPurpose::kInit, static_cast<uint64_t>(p), static_cast<uint64_t>(world.rank() * lanes + lane));
        for (float& value : parameters.gradient(p)) value = static_cast<float>(random.NextNormal());
      }
      reducer.Push(layer, lane);
    }
  reducer.Finish({});
  ChecksumStream sum;
  for (int p = 0; p < parameters.count(); ++p) sum.Add(reducer.gradient(p).data(), reducer.gradient(p).size_bytes());
  return ChecksumText(sum.Value());
}
int LanesOverRanks() {
  auto world = std::move(*StartMpiCollective());
  SingleCollective alone;
  const std::string expected = FourLanes(alone), found = FourLanes(*world);
  if (found != expected) world->Abort(7);
  world->Finish();
  return 0;
}
const test::RankFunction kLanes("lanes", LanesOverRanks);
const test::RunRankFunctionIfAsked kRun;

class Ranks : public ::testing::TestWithParam<int> {};
TEST_P(Ranks, SumsAreRightForEveryBucketSize) { EXPECT_EQ(test::RunRanks(GetParam(), "sums"), 0); }
TEST_P(Ranks, EveryRankHoldsTheSameBitsInEveryStep) { EXPECT_EQ(test::RunRanks(GetParam(), "bits"), 0); }
TEST(GradientReducer, TheSameLanesGiveTheSameBitsOnOneTwoAndFourRanks) {
  EXPECT_EQ(test::RunRanks(2, "lanes"), 0);
  EXPECT_EQ(test::RunRanks(4, "lanes"), 0);
}
INSTANTIATE_TEST_SUITE_P(GradientReducer, Ranks, ::testing::Values(2, 3, 4));

}  // namespace
}  // namespace plateau
