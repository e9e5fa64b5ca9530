// Bytes that an engine takes on a device, before there is one.
#include <algorithm>
#include <bit>

#include "worker/nn/device_plan.h"
#include "worker/nn/runnable.h"

namespace plateau {
namespace {

constexpr uint64_t kSmallAlign = 256;
constexpr uint64_t kLeastWorkspace = uint64_t{64} << 20, kMostWorkspace = uint64_t{1} << 30;
// Left to the libraries' own needs: at most this, and a share of what is there.
constexpr uint64_t kReserve = uint64_t{1} << 30, kReserveShare = 16;
constexpr uint64_t kNcclReserve = uint64_t{2} << 30, kNcclReserveShare = 8;
constexpr int kMostBatch = 1 << 24;
constexpr int64_t kMostValues = int64_t{1} << 34;  // of a map: kernels count vectors of eight in 31 bits

uint64_t Take(uint64_t& end, uint64_t bytes) {
  const uint64_t begin = end;
  end += (bytes + kSmallAlign - 1) / kSmallAlign * kSmallAlign;
  return begin;
}

// One row of a batch as the loader delivers it.
uint64_t RowBytes(const Network& network, const PlanOptions& options) {
  const uint64_t values =
      static_cast<uint64_t>(options.height) * static_cast<uint64_t>(options.width) * static_cast<uint64_t>(network.channels);
  const uint64_t image = network.channels <= kMostPixelChannels ? values + sizeof(PixelScale) : values * sizeof(float);
  return image + sizeof(int32_t) + sizeof(float) + sizeof(uint64_t);
}

Status RequireCountable(const Network& network, const DevicePlan& plan) {
  int64_t largest = plan.input.values();
  for (const DeviceLayer& layer : plan.layers) largest = std::max(largest, layer.output.values());
  if (largest * plan.options.batch < kMostValues) return {};
  return Fail(ErrorCode::kUnavailable, "{}: a batch of {} has maps of {} values, kernels count to {}", network.name,
              plan.options.batch, largest * plan.options.batch, kMostValues);
}

int Lanes(int rows, int lane_rows) { return (rows + lane_rows - 1) / lane_rows; }

// The cuts of a rank of `rows` rows among which the least one is: into powers of two of lanes. Between two of them the open sums
// are as many, so that more lanes take less.
template <typename Visit>
void EachCut(const Network& network, int crop, const PlanOptions& like, Precision precision, int rows, const Visit& visit) {
  for (int most = 1; most / 2 < rows; most *= 2) {
    PlanOptions lane = like;
    lane.batch = Lanes(rows, most);
    const auto memory = PredictMemory(network, crop, lane, precision, rows);
    if (memory) visit(LeastCut{Lanes(rows, lane.batch), lane.batch, *memory});
  }
}

}  // namespace

DeviceRowsLayout LayOutRows(int batch, int classes) {
  const auto rows = static_cast<uint64_t>(batch);
  DeviceRowsLayout layout;
  layout.labels = Take(layout.total_bytes, rows * sizeof(int32_t));
  layout.weights = Take(layout.total_bytes, rows * sizeof(float));
  layout.sample_index = Take(layout.total_bytes, rows * sizeof(uint64_t));
  layout.scales = Take(layout.total_bytes, rows * sizeof(PixelScale));
  layout.row_losses = Take(layout.total_bytes, rows * kDeviceRowLoss);
  layout.logits = Take(layout.total_bytes, rows * static_cast<uint64_t>(classes) * sizeof(float));
  layout.figures = Take(layout.total_bytes, kDeviceFigures);
  return layout;
}

uint64_t WorkspaceLimit(const DevicePlan& plan) {
  int64_t largest = plan.input.values();
  for (const DeviceLayer& layer : plan.layers) largest = std::max(largest, layer.output.values());
  const auto bytes = static_cast<uint64_t>(largest * plan.options.batch * plan.value_bytes());
  return std::clamp(bytes, kLeastWorkspace, kMostWorkspace);
}

Result<DeviceMemory> PredictMemory(const Network& network, int crop, const PlanOptions& options, Precision precision,
                                   int rank_rows) {
  PLATEAU_TRY(RequireRunnable(network));
  PLATEAU_ASSIGN(const std::vector<LayerShape> crop_shapes, InferShapes(network, crop, crop));
  PLATEAU_ASSIGN(const std::vector<LayerShape> shapes, InferShapes(network, options.height, options.width));
  PLATEAU_TRY(RequireFit(network, options, shapes, crop, crop_shapes));
  const DeviceParameters parameters = LayOutParameters(network, crop_shapes, ListParameters(network, crop_shapes));
  const DevicePlan plan = LayOutPlan(network, shapes, options, precision);
  PLATEAU_TRY(RequireCountable(network, plan));
  DeviceMemory memory;
  memory.weights = static_cast<uint64_t>(parameters.total) * sizeof(float);
  if (options.training) memory.momenta = memory.gradients = memory.weights;
  if (precision == Precision::kBf16) memory.copy = memory.weights / 2;
  memory.arena = plan.memory.total_bytes;
  memory.workspace = WorkspaceLimit(plan);
  memory.rows = LayOutRows(options.batch, shapes.back().channels).total_bytes;
  if (!options.training) return memory;
  const int lanes = Lanes(std::max(rank_rows, options.batch), options.batch);
  // A validation takes batches of as many rows as a lane.
  memory.batches = 2 * static_cast<uint64_t>(lanes + 1) * static_cast<uint64_t>(options.batch) * RowBytes(network, options);
  memory.branches = std::bit_width(static_cast<unsigned>(lanes - 1)) * memory.gradients;
  return memory;
}

int LargestBatch(const Network& network, int crop, const PlanOptions& like, Precision precision, uint64_t bytes) {
  const auto fits = [&](int batch, int rank_rows) {
    PlanOptions options = like;
    options.batch = batch;
    const auto memory = PredictMemory(network, crop, options, precision, rank_rows);
    return memory.has_value() && memory->total() <= bytes;
  };
  const int rows = like.batch;
  if (fits(rows, rows)) {
    int good = rows, bad = 2 * rows;
    while (bad < kMostBatch && fits(bad, bad)) good = bad, bad *= 2;
    while (bad - good > 1) {
      const int middle = good + (bad - good) / 2;
      (fits(middle, middle) ? good : bad) = middle;
    }
    return good;
  }
  // Between powers of two of lanes the open sums are as many, so that more lanes take less.
  for (int most = 2; most / 2 < rows; most *= 2) {
    if (!fits(Lanes(rows, most), rows)) continue;
    int bad = most / 2, good = most;
    while (good - bad > 1) {
      const int middle = bad + (good - bad) / 2;
      (fits(Lanes(rows, middle), rows) ? good : bad) = middle;
    }
    return Lanes(rows, good);
  }
  return 0;
}

int MostRows(const Network& network, int crop, const PlanOptions& like, Precision precision, uint64_t bytes) {
  const auto fits = [&](int rows) {
    bool any = false;
    EachCut(network, crop, like, precision, rows, [&](const LeastCut& cut) { any = any || cut.memory.total() <= bytes; });
    return any;
  };
  int good = 0, bad = like.batch + 1;
  while (bad - good > 1) {
    const int middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

Result<LeastCut> LeastMemory(const Network& network, int crop, const PlanOptions& like, Precision precision) {
  PlanOptions row = like;
  row.batch = 1;
  LeastCut least{.lanes = like.batch};
  PLATEAU_ASSIGN(least.memory, PredictMemory(network, crop, row, precision, like.batch));
  EachCut(network, crop, like, precision, like.batch, [&](const LeastCut& cut) {
    if (cut.memory.total() < least.memory.total()) least = cut;
  });
  return least;
}

uint64_t PlanningBytes(uint64_t rank_bytes, bool nccl) {
  const uint64_t reserve =
      nccl ? std::min(kNcclReserve, rank_bytes / kNcclReserveShare) : std::min(kReserve, rank_bytes / kReserveShare);
  return rank_bytes - reserve;
}

}  // namespace plateau
