// One synchronous SGD step of a rank.
#include "worker/train/step.h"

#include <algorithm>
#include <cmath>

namespace plateau {
namespace {

void AddLoss(StepTotals& totals, const LossSums& lane) {
  totals.loss += lane.loss;
  totals.images += lane.images;
  totals.top1_correct += lane.top1_correct;
  if (!std::isfinite(lane.loss)) totals.nonfinite = 1;
}

}  // namespace

StepResult TrainStep(StepParts& parts, const StepInput& input) {
  auto& [plan, network, shape, global_batch] = parts.lanes;
  auto& [lanes, reducer, sgd, pulse] = parts;
  StepTotals of_rank = input.votes;
  for (int lane = 0; lane < shape.lanes; ++lane) {
    const LaneBatch samples = LaneOf(input.rows, shape, lane);
    pulse.phase = "forward";
    plan.Forward(samples, input.step);
    AddLoss(of_rank, plan.Loss(samples, global_batch));  // divided by the global batch, so gradients only need summing
    pulse.phase = "backward";
    for (int layer = static_cast<int>(network.layers.size()) - 1; layer >= 0; --layer) {
      plan.BackwardData(layer);
      plan.BackwardWeights(layer);
      ++pulse.progress;
      reducer.Push(layer, lane);  // a full bucket starts its reduction here, under the rest of the pass
    }
    if (!plan.HiddenFinite()) of_rank.nonfinite = 1;
  }
  pulse.phase = "reduce";
  StepResult result{.totals = reducer.Finish(of_rank)};  // every gradient is now the mean over the global batch
  pulse.phase = "update";
  if (result.totals.nonfinite == 0) result.nonfinite_parameter = sgd.Update(reducer, input.lr);
  return result;
}

LaneShape CutIntoLanes(int rank_rows, int micro_batch) {
  const int lanes = micro_batch > 0 ? (rank_rows + micro_batch - 1) / micro_batch : 1;
  return {.lanes = lanes, .lane_rows = (rank_rows + lanes - 1) / lanes};
}

LaneBatch RowsOf(const Batch& batch) {
  return {.images = batch.images,
          .labels = batch.labels,
          .weights = batch.weights,
          .sample_index = batch.sample_index,
          .pixels = batch.pixels,
          .scales = batch.scales};
}

LaneBatch LaneOf(const LaneBatch& rows, const LaneShape& shape, int lane) {
  const auto begin = static_cast<size_t>(lane) * static_cast<size_t>(shape.lane_rows);
  const auto count = static_cast<size_t>(shape.lane_rows);
  // A span of whatever a row has so many of; of none, where rows bring the other form.
  const auto of_lane = [&](auto all) {
    const size_t a_row = all.size() / rows.labels.size();
    return all.subspan(begin * a_row, count * a_row);
  };
  return {.images = of_lane(rows.images),
          .labels = of_lane(rows.labels),
          .weights = of_lane(rows.weights),
          .sample_index = of_lane(rows.sample_index),
          .pixels = of_lane(rows.pixels),
          .scales = of_lane(rows.scales)};
}

std::string PlaceName(const Network& network, size_t place) {
  if (place == 0) return "input";
  return place <= network.layers.size() ? network.layers[place - 1].name : "loss";
}

size_t FirstNonFinitePlace(const LaneParts& parts, const LaneBatch& rows, uint64_t step) {
  const size_t loss = parts.network.layers.size() + 1;
  size_t first = loss + 1;
  for (int lane = 0; lane < parts.shape.lanes; ++lane) {
    const LaneBatch samples = LaneOf(rows, parts.shape, lane);
    const std::string name = parts.plan.FirstNonFiniteLayer(samples, step);
    for (size_t place = 0; place < loss && !name.empty(); ++place)
      if (PlaceName(parts.network, place) == name) first = std::min(first, place);
    if (name.empty()) {
      parts.plan.Forward(samples, step);
      if (!std::isfinite(parts.plan.Loss(samples, parts.global_batch).loss)) first = std::min(first, loss);
    }
  }
  return first;
}

}  // namespace plateau
