// Page-locked double buffers and the stream that empties them.
#include "worker/backend/cuda/feeder.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"

namespace plateau::cuda {
namespace {

constexpr size_t kAlign = 256;
constexpr int64_t kCopyFloats = int64_t{1} << 18;  // of one piece that a thread copies

size_t Aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

StepFeeder::StepFeeder(int rows, int64_t image_values, int threads) : rows_(rows), threads_(threads), image_values_(image_values) {
  const auto count = static_cast<size_t>(rows);
  labels_ = Aligned(count * static_cast<size_t>(image_values) * sizeof(float));
  weights_ = labels_ + Aligned(count * sizeof(int32_t));
  sample_index_ = weights_ + Aligned(count * sizeof(float));
  scalars_ = sample_index_ + Aligned(count * sizeof(uint64_t));
  total_ = scalars_ + Aligned(sizeof(StepScalars));
  for (Slot& slot : slots_) {
    slot.device = DeviceBuffer(total_);
    slot.host = PinnedBuffer(total_);
  }
}

// One thread does not fill page-locked memory as fast as a device empties it.
void StepFeeder::CopyImages(std::span<const float> images, float* to) const {
  const auto count = static_cast<int64_t>(images.size());
#pragma omp parallel for num_threads(threads_) schedule(static) if (threads_ > 1 && count > kCopyFloats)
  for (int64_t begin = 0; begin < count; begin += kCopyFloats)
    std::memcpy(to + begin, images.data() + begin, static_cast<size_t>(std::min(kCopyFloats, count - begin)) * sizeof(float));
}

void StepFeeder::Feed(int slot, const StepInput& input, const Stream& compute) {
  const LaneBatch& rows = input.rows;
  const auto count = static_cast<size_t>(rows_);
  PLATEAU_CHECK(rows.labels.size() == count && rows.weights.size() == count && rows.sample_index.size() == count &&
                    rows.images.size() == count * static_cast<size_t>(image_values_),
                "{} rows: {} labels, {} weights, {} sample indices, {} image values", rows_, rows.labels.size(), rows.weights.size(),
                rows.sample_index.size(), rows.images.size());
  Slot& to = slots_[static_cast<size_t>(slot)];
  CopyImages(rows.images, to.host.as<float>());
  std::memcpy(to.host.as<char>(labels_), rows.labels.data(), rows.labels.size_bytes());
  std::memcpy(to.host.as<char>(weights_), rows.weights.data(), rows.weights.size_bytes());
  std::memcpy(to.host.as<char>(sample_index_), rows.sample_index.data(), rows.sample_index.size_bytes());
  *to.host.as<StepScalars>(scalars_) = {.lr = static_cast<float>(input.lr),
                                        .step = input.step,
                                        .votes = {static_cast<float>(input.votes.stop), static_cast<float>(input.votes.fault),
                                                  static_cast<float>(input.votes.validate),
                                                  static_cast<float>(input.votes.checkpoint)}};
  CopyToDevice(to.device.data(), to.host.data(), total_, stream_.get());
  to.copied.Record(stream_.get());
  to.copied.Block(compute.get());
}

DeviceRows StepFeeder::Rows(int slot, int first, int samples) const {
  const DeviceBuffer& from = slots_[static_cast<size_t>(slot)].device;
  return {.images = from.as<float>() + first * image_values_,
          .labels = from.as<int32_t>(labels_) + first,
          .weights = from.as<float>(weights_) + first,
          .sample_index = from.as<uint64_t>(sample_index_) + first,
          .rows = samples,
          .first = first == 0};
}

const StepScalars* StepFeeder::scalars(int slot) const { return slots_[static_cast<size_t>(slot)].device.as<StepScalars>(scalars_); }

}  // namespace plateau::cuda
