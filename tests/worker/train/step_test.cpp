// A step on a plan played by the test: order of the passes, lanes, votes, and nothing updated after a loss that is not finite.
#include "worker/train/step.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_parameters.h"
#include "worker/collective/single.h"

namespace plateau {
namespace {

using ::testing::ElementsAre;

// Two layers; notes every call. Its loss is the lane's first pixel; a gradient is the lane's first label.
class FakePlan final : public Plan {
 public:
  explicit FakePlan(ParameterStore& parameters) : parameters_(parameters) {}
  const PlanOptions& options() const override { return options_; }
  void Forward(const LaneBatch& lane, uint64_t step) override {
    calls.push_back(fmt::format("forward {} step {}", lane.sample_index[0], step));
    label_ = lane.labels[0];
  }
  LossSums Loss(const LaneBatch& lane, int) override {
    calls.push_back("loss");
    int64_t images = 0;
    for (const float weight : lane.weights) images += weight > 0 ? 1 : 0;
    return {.loss = lane.images[0], .images = images, .top1_correct = 1};
  }
  const std::vector<int>& backward_layers() const override { return layers_; }
  void BackwardData(int layer) override { calls.push_back(fmt::format("data {}", layer)); }
  void BackwardWeights(int layer) override {
    calls.push_back(fmt::format("weights {}", layer));
    for (int p = 2 * layer; p < 2 * layer + 2; ++p) std::ranges::fill(parameters_.gradient(p), static_cast<float>(label_));
  }
  bool HiddenFinite() const override { return hidden_finite; }
  std::span<const float> logits() const override { return {}; }
  std::string FirstNonFiniteLayer(const LaneBatch& lane, uint64_t) override { return lane.sample_index[0] == 12 ? "fc1" : ""; }
  std::span<const double> forward_seconds() const override { return {}; }
  std::vector<std::string> algorithms() const override { return {}; }

  std::vector<std::string> calls;
  bool hidden_finite = true;

 private:
  ParameterStore& parameters_;
  PlanOptions options_;
  std::vector<int> layers_{1, 0};
  int label_ = 0;
};

class Step : public ::testing::Test {
 protected:
  Step() {
    network_.layers = {{.name = "fc0"}, {.name = "fc1"}};
    batch_ = {.rows = 4,
              .side = 1,
              .images = {0.5F, 0, 0, 0, 0, 0, 0.25F, 0, 0, 0, 0, 0},
              .labels = {1, 0, 2, 0},
              .weights = {1, 1, 1, 0},
              .sample_index = {10, 11, 12, ~uint64_t{0}}};
  }
  StepResult Run(const StepTotals& votes = {}) {
    return TrainStep(parts_, {.rows = RowsOf(batch_), .step = 5, .lr = 1.0, .votes = votes});
  }

  test::FakeParameters parameters_{test::ChainInfos(2)};
  FakePlan plan_{parameters_};
  SingleCollective world_;
  GradientReducer reducer_{parameters_, plan_.backward_layers(), 2, world_};
  Sgd sgd_{parameters_, {.momentum = 0, .weight_decay = 0}};
  Pulse pulse_;
  Network network_;
  Batch batch_;
  StepParts parts_{{plan_, network_, {.lanes = 2, .lane_rows = 2}, 4}, reducer_, sgd_, pulse_};
};

TEST_F(Step, LanesRunForwardLossThenBackwardLastLayerFirstAndTheirGradientsAddUp) {
  const StepResult result = Run({.stop = 1});
  EXPECT_THAT(plan_.calls, ElementsAre("forward 10 step 5", "loss", "data 1", "weights 1", "data 0", "weights 0",  //
                                       "forward 12 step 5", "loss", "data 1", "weights 1", "data 0", "weights 0"));
  EXPECT_FLOAT_EQ(static_cast<float>(result.totals.loss), 0.75F);
  EXPECT_EQ(result.totals.images, 3);
  EXPECT_EQ(result.totals.top1_correct, 2);
  EXPECT_EQ(result.totals.stop, 1);
  EXPECT_EQ(result.nonfinite_parameter, -1);
  for (int p = 0; p < 4; ++p) EXPECT_EQ(parameters_.weight(p)[0], -3.0F) << "labels 1 + 2, lr 1";
}

TEST_F(Step, NothingIsUpdatedWhenALossIsNotFinite) {
  for (const float bad : {std::nanf(""), HUGE_VALF}) {
    batch_.images[6] = bad;  // of the second lane
    EXPECT_EQ(Run().totals.nonfinite, 1);
    for (int p = 0; p < 4; ++p) EXPECT_EQ(parameters_.weight(p)[0], 0.0F);
    EXPECT_EQ(PlaceName(network_, FirstNonFinitePlace(parts_.lanes, RowsOf(batch_), 5)), "fc1");
  }
}

TEST_F(Step, NothingIsUpdatedWhenALayerHidWhatIsNotFinite) {
  plan_.hidden_finite = false;
  EXPECT_EQ(Run().totals.nonfinite, 1);
  for (int p = 0; p < 4; ++p) EXPECT_EQ(parameters_.weight(p)[0], 0.0F);
}

TEST_F(Step, WhenAllLayersAreFiniteTheLossItselfIsNamed) {
  batch_.images[0] = HUGE_VALF;
  batch_.sample_index[2] = 13;
  EXPECT_EQ(PlaceName(network_, FirstNonFinitePlace(parts_.lanes, RowsOf(batch_), 5)), "loss");
  EXPECT_EQ(PlaceName(network_, 0), "input");
}

TEST_F(Step, WeightsThatTheUpdateMakesNonFiniteAreReported) {
  parameters_.weight(2)[0] = std::nanf("");
  EXPECT_EQ(Run().nonfinite_parameter, 2);
}

TEST(LaneOf, CutsWhateverTheRowsBring) {
  const Batch floats{
      .images = {0, 1, 2, 3, 4, 5, 6, 7}, .labels = {0, 1, 2, 3}, .weights = {1, 1, 1, 0}, .sample_index = {9, 8, 7, 6}};
  const Batch bytes{.pixels = {0, 1, 2, 3, 4, 5, 6, 7},
                    .scales = {{.flip = 0}, {.flip = 1}, {.flip = 2}, {.flip = 3}},
                    .labels = {0, 1, 2, 3},
                    .weights = {1, 1, 1, 0},
                    .sample_index = {9, 8, 7, 6}};
  const LaneShape shape{.lanes = 2, .lane_rows = 2};
  const LaneBatch values = LaneOf(RowsOf(floats), shape, 1), pixels = LaneOf(RowsOf(bytes), shape, 1);
  EXPECT_THAT(values.images, ElementsAre(4, 5, 6, 7));
  EXPECT_TRUE(values.pixels.empty() && values.scales.empty());
  EXPECT_THAT(pixels.pixels, ElementsAre(4, 5, 6, 7));
  ASSERT_EQ(pixels.scales.size(), 2u);
  EXPECT_EQ(pixels.scales[0].flip, 2u);
  EXPECT_TRUE(pixels.images.empty());
  for (const LaneBatch& lane : {values, pixels}) {
    EXPECT_THAT(lane.labels, ElementsAre(2, 3));
    EXPECT_THAT(lane.weights, ElementsAre(1, 0));
    EXPECT_THAT(lane.sample_index, ElementsAre(7, 6));
  }
}

TEST(CutIntoLanes, LanesAreEqualAndNoLargerThanTheMicroBatch) {
  for (int rows = 1; rows <= 64; ++rows)
    for (int micro = 0; micro <= 20; ++micro) {
      const LaneShape shape = CutIntoLanes(rows, micro);
      EXPECT_GE(shape.rows(), rows);
      EXPECT_LT(shape.rows() - rows, shape.lanes) << rows << " rows, micro-batch " << micro;
      if (micro > 0)
        EXPECT_LE(shape.lane_rows, micro);
      else
        EXPECT_EQ(shape.lanes, 1);
    }
}

}  // namespace
}  // namespace plateau
